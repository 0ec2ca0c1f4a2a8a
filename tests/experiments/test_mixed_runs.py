"""`--precision mixed` from the command line to files: searched, resumed, exported, reported."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from deployment import Bundle, int8_accuracy
from experiments.export_command import Exporter, ExportOptions
from experiments.finished_run import open_finished
from records import Ledger
from search_spaces import SearchSpace, WithBlockPrecision
from search_spaces.block_names import stage_of

SHORT = (
    "--space", "cnn", "--evaluations", "20", "--train-images", "200", "--target", "raspberry-pi-5",
    "--strategy", "nsga2",
)  # fmt: skip
TINY = (*SHORT, "--epochs", "2")
TARGET = "raspberry-pi-5-t1-b1-int8"


@pytest.fixture(scope="module")
def searched(hwnas, tmp_path_factory):
    """A search over networks and the precision of each stage, with what it printed."""
    folder = tmp_path_factory.mktemp("mixed") / "run"
    outcome = hwnas("search", "--out", folder, *TINY, "--precision", "mixed")
    assert outcome.code == 0, outcome.err + outcome.out
    return folder, " ".join(outcome.out.split())


@pytest.fixture(scope="module")
def run(searched):
    return open_finished(searched[0])


def in_8_bits(file):
    """The stages whose convolutions and linear maps take rounded weights, and all stages."""
    graph = onnx.load(file).graph
    rounded = {o for n in graph.node if n.op_type == "DequantizeLinear" for o in n.output}
    products = [n for n in graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    small = {stage_of(n.name) for n in products if n.input[1] in rounded}
    large = {stage_of(n.name) for n in products if n.input[1] not in rounded}
    assert not small & large
    return small, small | large


def test_every_network_of_the_front_says_its_precisions(searched, run):
    folder, said = searched
    front = json.loads((folder / "front.json").read_text())
    space = SearchSpace.from_json(front["space"]["definition"])
    assert space == run.problem.space
    assert isinstance(space, WithBlockPrecision)
    assert front["targets"][0]["name"] == TARGET
    assert len(front["points"]) == len(run.front)
    assert "in fp32" in said
    for point in front["points"]:
        kept = [s for s, precision in point["precisions"].items() if precision == "fp32"]
        assert tuple(kept) == space.fp32_blocks(np.array(point["genes"]))
        assert set(point["precisions"]) <= set(space.blocks)
    with Ledger.open(folder / "evaluations.db", read_only=True) as ledger:
        measured = ledger.observations("accuracy")
    assert {o.space_hash for o in measured} == {space.hash}
    assert {bool(space.fp32_blocks(o.genes)) for o in measured} == {True, False}


def test_accuracies_are_those_of_the_mixed_files(run):
    space, data = run.problem.space, run.data
    assert run.supernet.space == space.base
    evaluator = run.supernet.evaluator(data)
    for point in run.front:
        row = np.array(point.genes, np.int16)
        subnet = evaluator.subnet(space.base.decode(space.to_base(row))[0])
        kept = run.costs[0].fp32_blocks(subnet, point.architecture)
        images = data.train.images.numpy()
        again = int8_accuracy(subnet, data.validation, images=images, fp32_blocks=kept)
        assert point.accuracy == again


@pytest.mark.slow
def test_a_pick_becomes_the_file_of_its_precisions(hwnas, searched, run, tmp_path):
    place = len(run.front) - 1
    out = tmp_path / "bundle"
    outcome = hwnas("export", searched[0], "--pick", place, "--out", out)
    assert outcome.code == 0, outcome.err + outcome.out
    point, bundle = run.front[place], Bundle.open(out)
    small, stages = in_8_bits(bundle.model_path)
    assert small == stages - set(run.problem.space.fp32_blocks(point.genes))
    assert bundle.record["architecture"] == point.architecture.to_json()
    assert bundle.record["facts"]["validation_accuracy"] == point.accuracy
    assert "in fp32: " in outcome.out
    for wrong in (("--numerics", "dynamic"), ("--dynamic-batch",)):
        outcome = hwnas("export", searched[0], "--out", tmp_path / "other", *wrong)
        assert outcome.code == 2
        assert f"leave {wrong[0]} out" in " ".join(outcome.err.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "kept", [(), ("stem", "stage1"), ("stem", "stage0", "stage1", "classifier")]
)
def test_the_stages_of_a_file_in_fp32_are_those_of_the_genes(run, tmp_path, kept):
    space, cost = run.problem.space, run.costs[0]
    (row,) = space.with_fp32(space.to_base(np.array(run.front[0].genes)), kept)
    architecture = space.decode(row)[0]
    point = replace(run.front[0], genes=tuple(row.tolist()), architecture=architecture)
    exporter = Exporter(run, cost, ExportOptions(run=run.folder))
    bundle = exporter.write(exporter.made(point), tmp_path / "bundle", place=0)
    small, stages = in_8_bits(bundle.model_path)
    assert stages == set(space.blocks)
    assert stages - small == set(kept)
    assert bundle.record["architecture"] == architecture.to_json()


@pytest.mark.slow
def test_a_run_is_continued_with_the_option_and_forked_without(hwnas, searched, tmp_path):
    folder, _ = searched
    done = hwnas("search", "--out", folder, *TINY, "--precision", "mixed", "--resume")
    assert (done.code, "is complete" in done.out) == (0, True)
    other = hwnas("search", "--out", folder, *TINY, "--resume")
    assert other.code == 2
    assert "--precision was 'mixed', is not given" in " ".join(other.err.split())
    fork = tmp_path / "fork"
    forked = hwnas("search", "--out", folder, *TINY, "--fork", fork)
    assert forked.code == 0, forked.err
    said = " ".join(forked.out.split())
    assert "copied: the supernet" in said
    assert "copied: no timings of this machine" in said
    assert "copied: no accuracies" in said
    front = json.loads((fork / "front.json").read_text())
    assert front["targets"][0]["precision"] == "fp32"
    assert "precisions" not in front["points"][0]


@pytest.mark.slow
def test_an_interrupted_search_goes_on_to_the_same_front(hwnas, searched, tmp_path):
    folder, _ = searched
    out = tmp_path / "run"
    weights = ("--supernet", folder / "supernet.safetensors", "--precision", "mixed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.search.write_search", _stopped)
        stopped = hwnas("search", "--out", out, *SHORT, *weights)
    assert stopped.code != 0
    assert not (out / "front.json").exists()
    again = hwnas("search", "--out", out, *SHORT, *weights, "--resume")
    assert again.code == 0, again.err
    fronts = [json.loads((f / "front.json").read_text())["points"] for f in (folder, out)]
    assert fronts[0] == fronts[1]


def _stopped(*_):
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.usefixtures("by_formula")
def test_the_main_job_delivers_mixed_files(finish, tmp_path):
    made = finish(
        tmp_path / "run", "--space", "cnn", "--target", "local", "--precision", "mixed",
        "--refit-threshold", "0", "--strategy", "nsga2",
    )  # fmt: skip
    report = (made.folder / "report.html").read_text()
    searched = [p for p in made.front["points"] if p["kind"] == "searched"]
    assert made.front["refit"]["refitted"]
    for point in searched:
        small, stages = in_8_bits(made.folder / point["file"])
        assert {s for s, p in point["precisions"].items() if p == "int8"} == small
        assert set(point["precisions"]) == stages
    assert report.count("in fp32: ") == len(searched)
    (baseline,) = [p for p in made.front["points"] if p["kind"] == "baseline"]
    assert "precisions" not in baseline
    small, stages = in_8_bits(made.folder / baseline["file"])
    assert small == stages
    run = open_finished(made.folder)
    assert [len(c.genes) for c in run.costs] == [20 + len(searched)]
