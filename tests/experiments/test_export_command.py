"""From a finished run to a bundle, by the command line."""

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deployment import Bundle, Timing
from experiments import export_command
from experiments.config import QuickstartConfig, SearchConfig
from experiments.export_command import (
    Exporter,
    ExportOptions,
    LimitError,
    check_free,
    next_within,
)
from experiments.finished_run import config_of, find_target, open_finished, pick
from records import BadInputError, CorruptFileError, Ledger, StorageError
from search_spaces import CNNSpace
from strategies import Problem, RandomSearch, search
from supernet import Supernet, save_supernet
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost

TINY = (
    "--space", "cnn", "--epochs", "1", "--evaluations", "20", "--train-images", "200",
    "--target", "raspberry-pi-4:max_latency_ms=0.2", "--target", "pixel-3", "--strategy", "nsga2",
)  # fmt: skip


@pytest.fixture(scope="module")
def searched(hwnas, tmp_path_factory):
    """A search for two devices that nothing is timed on."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    outcome = hwnas("search", "--out", folder, *TINY)
    assert outcome.code == 0, outcome.err + outcome.out
    return folder


@pytest.fixture(scope="module")
def exported(hwnas, measured_run, tmp_path_factory):
    """The knee of a run on this machine, its file selected and timed."""
    out = tmp_path_factory.mktemp("exported") / "bundle"
    outcome = hwnas(
        "export", measured_run.folder, "--target", "local-t1-b1", "--out", out, "--seconds", "3",
        "--beside", "torch", "--beside", "openvino",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err + outcome.out
    return SimpleNamespace(folder=out, outcome=outcome, bundle=Bundle.open(out))


def verified(folder):
    command = [sys.executable, str(folder / "verify.py")]
    return subprocess.run(command, capture_output=True, text=True).returncode == 0


# ---- the run put together again -----------------------------------------------------------------


def test_the_fronts_are_those_that_the_run_wrote(searched):
    run = open_finished(searched)
    points = json.loads((searched / "front.json").read_text())["points"]
    assert [(p.target, list(p.genes), p.accuracy) for p in run.front] == [
        (p["target"], p["genes"], p["validation_accuracy"]) for p in points
    ]
    assert [p.latency_ms for p in run.front] == pytest.approx(
        [p["predicted"]["latency_ms"] for p in points]
    )
    assert run.config.train_images == 200
    assert run.supernet.space == run.problem.space


def test_a_refitted_run_ranks_with_what_it_exported(refitted_run):
    run = open_finished(refitted_run.folder)
    for cost, target in zip(run.costs, refitted_run.front["targets"], strict=True):
        assert len(cost.genes) == target["cost_model"]["networks"] == 23
        own = [
            p
            for p in refitted_run.front["points"]
            if p["target"] == cost.target_name and p["kind"] == "searched"
        ]
        last = cost.space.decode(cost.genes[-len(own) :])
        assert [a.to_json() for a in last] == [p["architecture"] for p in own]


@pytest.mark.parametrize(
    "config",
    [
        SearchConfig(targets=("pixel-3", "raspberry-pi-4:threads=4"), together=True),
        SearchConfig(targets=("pixel-3",), supernet="s3://bucket/weights", max_latency_ms=2.0),
        SearchConfig(dataset="cifar-10", seed=3, epochs=2, data_folder="/data"),
        QuickstartConfig(points=5, refit_threshold=0.1),
    ],
)
def test_options_are_read_as_they_were_given(config, tmp_path):
    read = config_of(config.to_json(), tmp_path, type(config))
    assert replace(read, out=config.out).to_json() == config.to_json()
    assert read.out == tmp_path


def test_damaged_options_are_the_files_fault(tmp_path):
    with pytest.raises(CorruptFileError, match=r"options of the run .* are damaged"):
        config_of({**SearchConfig().to_json(), "evaluations": "many"}, tmp_path)


# ---- what cannot be exported --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), ("which target?", "raspberry-pi-4-t1-b1, pixel-3-t1-b1")),
        (("--target", "pixel-4"), ("has no target 'pixel-4'", "pixel-3-t1-b1", "--supernet")),
        (("--target", "pixel-3", "--pick", "99"), ("from 0 (the fastest) to", "got '99'")),
        (("--target", "pixel-3", "--pick", "best"), ("knee, fastest, most-accurate",)),
        (("--target", "pixel-3", "--pick", "-1"), ("knee, fastest, most-accurate",)),
        (("--target", "pixel-3", "--seconds", "0"), ("--seconds must be a positive number",)),
        (("--target", "pixel-3", "--max-accuracy-loss", "2"), ("--max-accuracy-loss",)),
        (("--target", "pixel-3", "--numerics", "fp8"), ("'fp8'", "dynamic")),
        (("--target", "pixel-3", "--beside", "tensorrt"), ("'tensorrt'", "openvino-qdq")),
        (("--target", "pixel-3", "--beside", "torch"), ("pixel-3-t1-b1 is another one",)),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(hwnas, searched, tmp_path, options, said):
    outcome = hwnas("export", searched, "--out", tmp_path / "bundle", *options)
    assert outcome.code == 2, outcome.out
    for text in said:
        assert text in outcome.err
    assert not list(tmp_path.iterdir())


def test_a_run_must_be_finished_and_whole(hwnas, searched, tmp_path):
    outcome = hwnas("export", tmp_path)
    assert (outcome.code, "is no run" in outcome.err) == (2, True)
    copy = Path(shutil.copytree(searched, tmp_path / "copy"))
    front = json.loads((copy / "front.json").read_text())
    (copy / "front.json").unlink()
    outcome = hwnas("export", copy, "--target", "pixel-3")
    assert outcome.code == 2
    assert "is not finished" in outcome.err
    assert "--resume" in outcome.err
    (copy / "front.json").write_text(json.dumps({**front, "format": "hwnas-front-9"}))
    outcome = hwnas("export", copy, "--target", "pixel-3")
    assert (outcome.code, "'hwnas-front-9'" in outcome.err) == (2, True)


def test_other_weights_are_refused(hwnas, searched, tmp_path):
    copy = Path(shutil.copytree(searched, tmp_path / "copy"))
    (copy / "supernet.safetensors").unlink()
    save_supernet(Supernet(CNNSpace(image_size=8, channels=1), seed=7), copy / "other")
    outcome = hwnas("export", copy, "--target", "pixel-3")
    assert (outcome.code, "there is no such file" in outcome.err) == (2, True)
    run = open_finished(searched)
    save_supernet(Supernet(run.supernet.space, seed=7), copy / "supernet.safetensors")
    outcome = hwnas("export", copy, "--target", "pixel-3")
    assert outcome.code == 2
    assert "holds other weights" in outcome.err


def test_other_data_are_refused(searched, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "experiments.finished_run.input_hashes", lambda data, space: {"data": "another"}
    )
    with pytest.raises(BadInputError, match="the data has changed"):
        open_finished(searched)


def test_latencies_of_another_machine_are_not_exported(formula_run, monkeypatch):
    monkeypatch.setattr("experiments.finished_run.machine_fingerprint", lambda: "another")
    with pytest.raises(BadInputError, match="on another machine"):
        open_finished(formula_run.folder)


def test_a_folder_that_holds_something_is_refused_at_once(hwnas, tmp_path):
    (tmp_path / "mine").write_text("x")
    outcome = hwnas("export", tmp_path / "none", "--out", tmp_path)
    assert outcome.code == 2
    assert "holds something already" in outcome.err


# ---- bundles ------------------------------------------------------------------------------------


def test_without_a_runner_it_is_costs_only_and_says_so(hwnas, searched):
    outcome = hwnas("export", searched, "--target", "raspberry-pi-4", "--pick", "most-accurate")
    assert outcome.code == 0, outcome.err
    folder = searched / "exports" / "raspberry-pi-4-t1-b1-most-accurate"
    bundle = Bundle.open(folder)
    record = bundle.record
    front = open_finished(searched).front.for_target("raspberry-pi-4-t1-b1")
    assert record["facts"]["genes"] == list(front[len(front) - 1].genes)
    assert record["measured"]["latency_ms"] is None
    assert record["selection"]["label"] == "not timed"
    assert record["provider"]["state"] == "never run"
    assert record["cold_start"] is None
    assert record["facts"]["limits"] == {"latency_ms": 0.2}
    assert "it was not timed" in outcome.out
    assert "limit latency_ms <= 0.2: kept (modelled" in outcome.out
    assert verified(folder)
    again = hwnas("export", searched, "--target", "raspberry-pi-4", "--pick", "most-accurate")
    assert (again.code, "holds something already" in again.err) == (2, True)


def test_a_file_takes_pixels_and_any_batch_where_asked(hwnas, searched, tmp_path):
    out = tmp_path / "bundle"
    outcome = hwnas(
        "export", searched, "--target", "pixel-3", "--pick", "0", "--out", out, "--preprocessing",
        "--dynamic-batch",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    record = Bundle.open(out).record
    assert record["input"]["shape"] == [None, 8, 8, 1]
    assert record["input"]["type"] == "tensor(uint8)"
    assert record["tested"]["top1_agreement"] >= 0.99
    assert verified(out)


def test_the_bundle_has_all_that_was_tried_and_measured(exported, measured_run):
    record = exported.bundle.record
    assert record["target"]["name"] == "local-t1-b1"
    assert record["selection"]["label"] == "timed"
    assert record["selection"]["default"]["latency_ms"] > 0
    assert record["measured"]["latency_ms"] > 0
    assert record["cold_start"]["processes"] == 3
    assert record["tested"]["images"] == measured_run.front["dataset"]["test"]
    assert record["tested"]["top1_agreement"] >= 0.98
    assert record["facts"]["pick"] == "knee"
    assert record["facts"]["source"]["dataset"] == "digits"
    assert record["output"]["classes"] == [str(i) for i in range(10)]
    assert verified(exported.folder)
    printed = " ".join(exported.outcome.out.split())
    assert "What was tried" in printed
    assert "accuracy of the file:" in printed
    assert "bundle: " in printed
    with Ledger.open(measured_run.folder / "evaluations.db", read_only=True) as ledger:
        timed = {o.genes for o in ledger.observations("calibration.latency_ms", "local-t1-b1")}
        if measured_run.front["refit"]["refitted"]:  # as the machine was busy meanwhile
            timed |= {o.genes for o in ledger.observations("latency_ms", "local-t1-b1")}
    fitted = len(timed) - (tuple(record["facts"]["genes"]) in timed)
    assert f"fitted to {fitted} networks" in record["predicted"]["latency_source"]


def test_other_runtimes_stand_beside_the_file(exported):
    own, eager, vino = exported.bundle.record["beside"]
    assert (own["runtime"], own["ratio"], own["status"]) == ("this file", 1.0, "timed")
    assert (eager["runtime"], eager["status"]) == ("torch", "timed")
    assert eager["ratio"] == pytest.approx(eager["latency_ms"] / own["latency_ms"])
    assert eager["ratio"] > 1  # at a few microseconds a layer torch cannot be faster
    installed = importlib.util.find_spec("openvino") is not None
    assert vino["status"].startswith("timed" if installed else "not installed: ")
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert "## Other runtimes" in card
    assert f"| torch {torch.__version__} |" in card
    assert "beside: torch" in " ".join(exported.outcome.out.split())


def test_a_bundle_reproduces_itself(hwnas, exported):
    outcome = hwnas("reproduce", exported.folder)
    rows = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert any(row.startswith("accuracy on the test images") and "holds" in row for row in rows)
    assert any(row.startswith("same class as torch") and "holds" in row for row in rows)
    assert any(row.startswith("latency, least") for row in rows)
    drifted = [row for row in rows if "DRIFTED" in row]
    assert all(row.startswith("latency, least") for row in drifted)  # on a busy machine
    assert outcome.code == (1 if drifted else 0)


# ---- limits -------------------------------------------------------------------------------------


class LinearAccuracy(FormulaAccuracy):
    """The slower, the better: every network is on the front."""

    def values(self, genes):
        return LayerCost(self.space).predict(genes)["latency_ms"] / 100


@pytest.fixture(scope="module")
def front():
    problem = Problem(SPACE, LinearAccuracy(SPACE), [LayerCost(SPACE)])
    return search(problem, evaluations=20, strategy=RandomSearch(SPACE, seed=1))


def tried(point, ratio):
    timing = Timing(samples_ms=(ratio * point.latency_ms,) * 4, rounds=2, preempted=0.0)
    return export_command.Candidate(point=point, subnet=None, selection=None, timing=timing)


def test_the_next_network_is_the_best_that_should_keep_the_limit(front):
    assert len(front) > 6
    limit = front[5].latency_ms
    following = next_within(front, [tried(front[5], 1.2)], limit)
    expected = [p for p in front if p.latency_ms * 1.2 <= limit]
    assert following == expected[-1]
    assert next_within(front, [tried(front[1], 50.0)], limit) == front[0]
    assert next_within(front, [tried(front[3], 1.2), tried(front[0], 2.0)], limit) is None


def exporter(front, limit, ratio, monkeypatch, **options):
    """An exporter whose files take so many times as long as predicted."""
    limits = {"latency_ms": limit}
    problem = Problem(SPACE, LinearAccuracy(SPACE), [LayerCost(SPACE)], limits)
    run = SimpleNamespace(
        problem=problem,
        data=SimpleNamespace(
            class_names=(), normalisation=None,
            train=SimpleNamespace(images=np.zeros((1, 1, 8, 8), np.float32)),
        ),
    )  # fmt: skip
    found = Exporter(run, LayerCost(SPACE), ExportOptions(run=Path("x"), **options))
    made = []
    monkeypatch.setattr(found, "made", lambda p: made.append(p) or tried(p, ratio), raising=False)
    return found, made


def test_a_pick_that_breaks_the_limit_gives_way_to_one_that_keeps_it(front, monkeypatch):
    limit = front[6].latency_ms
    found, made = exporter(front, limit, 1.1, monkeypatch)
    chosen = found.within_limit(front, front[6])
    assert chosen.slowest_ms <= limit
    assert chosen.point == [p for p in front if 1.1 * p.latency_ms <= limit][-1]
    assert made == [front[6], chosen.point]


def test_a_pick_that_keeps_the_limit_stays(front, monkeypatch):
    found, made = exporter(front, front[6].latency_ms, 0.99, monkeypatch)
    assert found.within_limit(front, front[6]).point == front[6]
    assert len(made) == 1


def test_a_limit_that_nothing_keeps_is_said_with_the_best_found(front, monkeypatch):
    found, made = exporter(front, front[0].latency_ms, 3.0, monkeypatch)
    with pytest.raises(LimitError, match=r"none of \d networks keeps latency_ms.*--keep-pick"):
        found.within_limit(front, front[4])
    assert 1 < len(made) <= export_command.ATTEMPTS
    kept, _ = exporter(front, front[0].latency_ms, 3.0, monkeypatch, keeps_pick=True)
    assert kept.within_limit(front, front[4]).point == front[4]


def test_picks_are_places_of_the_front(front):
    assert pick(front, "fastest") == pick(front, "0") == front[0]
    assert pick(front, "most-accurate") == front[len(front) - 1]
    assert pick(front, "knee") == front.knee()
    with pytest.raises(BadInputError, match=f"to {len(front) - 1} in the front"):
        pick(front, str(len(front)))
    empty = replace(front, points=())
    with pytest.raises(BadInputError, match="no network that was measured"):
        pick(empty, "knee")


def test_a_front_without_a_knee_is_said_to_have_none(front, capsys):
    first, last = front[0], front[len(front) - 1]
    good = replace(front[1], accuracy=last.accuracy - 0.001 * (last.accuracy - first.accuracy))
    bent = replace(front, points=(first, good, last))
    assert pick(bent, "knee") == good
    ends = replace(front, points=(first, last))
    assert pick(ends, "knee") == ends[0]
    for one, choice in ((bent, "knee"), (ends, "fastest"), (ends, "knee")):
        assert not capsys.readouterr().out
        export_command.say_without_knee(one, choice)
    assert "no knee: the fastest was taken" in capsys.readouterr().out


def test_a_single_target_need_not_be_named(searched):
    run = open_finished(searched)
    assert find_target(run, "pixel-3") == find_target(run, "pixel-3-t1-b1") == "pixel-3-t1-b1"
    single = SimpleNamespace(
        folder="x", problem=SimpleNamespace(targets=("pi-t1-b1",)), costs=run.costs
    )
    assert find_target(single, None) == "pi-t1-b1"


def test_a_folder_that_cannot_be_made_is_noticed_before_the_work(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(StorageError, match="bundle"):
        check_free(tmp_path / "mine.txt" / "bundle")
