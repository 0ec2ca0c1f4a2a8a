"""The precision of each stage as a choice of `hwnas search`: what it is given and refuses."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.config import QuickstartConfig, SearchConfig
from experiments.datasets import load_dataset
from experiments.export_command import Exporter, ExportOptions
from experiments.finished_run import config_of
from experiments.precision_option import in_fp32, precision_hashes, precisions, searched_space
from experiments.quickstart_costs import cost_models
from experiments.quickstart_problem import make_problem
from experiments.run_identity import changed_hashes, changes, run_facts
from experiments.spaces import make_space
from hardware_profiles import Target, device
from latency_models import MeasuredCostModel, RooflineCostModel, save_target
from records import BadInputError
from search_spaces import WithBlockPrecision
from supernet import Supernet


@pytest.fixture(scope="module")
def data():
    return load_dataset("digits", train_images=200)


@pytest.fixture(scope="module")
def space(data):
    return make_space("cnn", data)


@pytest.fixture(scope="module")
def mixed(space):
    return WithBlockPrecision(base=space)


def config(*targets, kind=SearchConfig, **options):
    return kind(targets=targets, precision="mixed", **options)


# ---- the option ---------------------------------------------------------------------------------


def test_a_run_without_the_option_says_nothing_of_it(tmp_path):
    assert "precision" not in SearchConfig().to_json()
    given = config("raspberry-pi-5", kind=QuickstartConfig)
    assert given.to_json()["precision"] == "mixed"
    assert config_of(given.to_json(), tmp_path, QuickstartConfig).precision == "mixed"


@pytest.mark.parametrize("precision", ["int8", "fp32", "Mixed", ""])
def test_another_precision_is_an_option_of_a_target(precision):
    with pytest.raises(BadInputError, match=r"must be mixed, got .*NAME:precision=int8"):
        SearchConfig(precision=precision)


@pytest.mark.parametrize("own", ["int8", "fp32"])
def test_a_target_has_no_precision_of_its_own_beside_it(own):
    with pytest.raises(BadInputError, match=rf"pixel-3:precision={own} .*give one of the two"):
        config("raspberry-pi-5", f"pixel-3:precision={own},threads=2")


def test_the_command_line_says_what_is_wrong_and_writes_nothing(hwnas, tmp_path):
    out = tmp_path / "run"
    for options in (("--precision", "int8"), ("--target", "pixel-3", "--precision", "mixed")):
        for command in ("search", "quickstart"):
            outcome = hwnas(
                command, "--out", out, "--train-images", "200", "--space", "cnn", *options
            )
            assert outcome.code == 2
            assert "int8" in outcome.err
            assert not out.exists()


# ---- what is searched ---------------------------------------------------------------------------


def test_the_precision_of_each_stage_is_a_choice_behind_the_networks(space, mixed):
    assert searched_space(None, space) is space
    assert searched_space("mixed", space) == mixed
    assert (mixed.by, mixed.quantisation) == ("stage", "static")


def test_the_precisions_of_a_network_are_those_of_its_genes(space, mixed):
    rows = mixed.sample(40, np.random.default_rng(0))
    for row, architecture in zip(rows, mixed.decode(rows), strict=True):
        found = precisions(mixed, architecture)
        kept = mixed.fp32_blocks(row)
        assert tuple(s for s, p in found.items() if p == "fp32") == kept
        assert (in_fp32(found) == "all") == bool(mixed.is_fp32(row)[0])
        if kept and len(kept) < len(found):
            assert in_fp32(found) == ", ".join(kept)
    (whole,) = mixed.with_fp32(space.extremes("smallest")[:1], [])
    assert in_fp32(precisions(mixed, mixed.decode(whole)[0])) == "none"
    assert precisions(space, space.decode(space.extremes("smallest"))[0]) == {}


def test_costs_and_accuracy_are_those_of_mixed_files(data, space, mixed):
    given = config("raspberry-pi-5:threads=2", "apple-m1", max_latency_ms=4.0)
    costs = cost_models(given, space, None)
    assert [c.target_name for c in costs] == ["raspberry-pi-5-t2-b1-int8", "apple-m1-t1-b1-int8"]
    problem = make_problem(given, data, Supernet(space), costs)
    assert problem.space == problem.accuracy.space == mixed
    assert problem.accuracy.mode == "static"
    assert len(problem.accuracy.scaling) == len(data.train)
    rows = mixed.sample(30, np.random.default_rng(1))
    board = Target(profile=device("raspberry-pi-5"), precision="int8", threads=2)
    expected = RooflineCostModel(mixed, board).latency_ms(rows)
    np.testing.assert_array_equal(costs[0].latency_ms(rows), expected)
    in_whole = RooflineCostModel(space, board).latency_ms(space.extremes("largest"))
    kept = mixed.with_fp32(space.extremes("largest"), mixed.blocks)
    assert (costs[0].latency_ms(kept) > in_whole).all()


@pytest.mark.usefixtures("by_formula")
def test_this_machine_is_timed_with_mixed_files(space, mixed):
    (cost,) = cost_models(config("local", calibration_networks=20), space, None)
    assert cost.target.precision == "int8"
    assert (cost.space, cost.quantisation) == (mixed, "static")
    kept = [len(mixed.fp32_blocks(row)) for row in cost.genes]
    assert 0 < np.mean(kept) < len(mixed.blocks)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("pixel-3", "int8 and in fp32, and the profile of 'pixel-3' has a peak only for fp32"),
        ("coral-usb-accelerator:runtime=tflite", "has a peak only for int8: add"),
        ("stm32f746", "unknown runtime of stm32f746"),
        ("apple-m1:runtime=coreml", "makes static int8 files, and coreml.*takes only fp32"),
    ],
)
def test_a_target_that_does_not_run_both_is_refused(space, target, said):
    with pytest.raises(BadInputError, match=said):
        cost_models(config("raspberry-pi-5", target), space, None)


def test_a_target_measured_in_one_precision_is_refused(space, mixed, tmp_path):
    def measured(folder, searched, target):
        genes = searched.sample(20, np.random.default_rng(0))
        latencies = 0.02 + 3 * RooflineCostModel(searched, target).latency_ms(genes)
        save_target(folder, [MeasuredCostModel(searched, target, genes, latencies)])

    for precision in ("fp32", "int8"):
        target = Target(profile=device("raspberry-pi-5"), precision=precision)
        measured(tmp_path / precision, space, target)
        with pytest.raises(BadInputError, match=f"measured with files in {precision} alone"):
            cost_models(config(str(tmp_path / precision)), space, None)
    measured(tmp_path / "mixed", mixed, target)
    (cost,) = cost_models(config(str(tmp_path / "mixed")), space, None)
    assert (cost.space, len(cost.genes)) == (mixed, 20)
    with pytest.raises(BadInputError, match=r"the baseline.*command file"):
        cost_models(config(str(tmp_path / "mixed"), kind=QuickstartConfig), space, None)


# ---- what a run is ------------------------------------------------------------------------------


def test_a_run_rests_on_its_choices_of_precision(space, mixed):
    assert precision_hashes(None, space) == {}
    hashes = precision_hashes("mixed", space)
    assert list(hashes.values()) == [mixed.hash]
    header = run_facts(config("raspberry-pi-5").to_json(), hashes)
    now = run_facts(SearchConfig(targets=("raspberry-pi-5",)).to_json(), {})
    assert changes(header, now) == ["--precision was 'mixed', is not given"]
    (said,) = changed_hashes(header, dict.fromkeys(hashes, "another"))
    assert "the choice of precisions has changed" in said


# ---- the file -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"numerics": ("dynamic",)}, "has exactly these: leave --numerics out"),
        ({"any_batch": True}, "static int8, whose batch is fixed: leave --dynamic-batch out"),
    ],
)
def test_an_export_keeps_the_chosen_precisions(data, mixed, tmp_path, options, said):
    board = Target(profile=device("raspberry-pi-5"), precision="int8")
    cost, run = RooflineCostModel(mixed, board), SimpleNamespace(data=data)
    with pytest.raises(BadInputError, match=said):
        Exporter(run, cost, ExportOptions(run=tmp_path, **options))


def test_a_file_is_in_fp32_where_every_stage_is(data, space, mixed, tmp_path):
    board = Target(profile=device("raspberry-pi-5"), precision="int8")
    run = SimpleNamespace(data=data)
    exporter = Exporter(run, RooflineCostModel(mixed, board), ExportOptions(run=tmp_path))
    for kept in ([], ["stem"], list(mixed.blocks)):
        (genes,) = mixed.with_fp32(space.extremes("smallest")[:1], kept)
        in_use = exporter.in_use(SimpleNamespace(genes=genes))
        whole = kept == list(mixed.blocks)
        assert in_use == (replace(board, precision="fp32") if whole else board)
        assert exporter._numerics(in_use) == (("fp32",) if whole else ("static",))
    plain = Exporter(run, RooflineCostModel(space, board), ExportOptions(run=tmp_path))
    genes = space.extremes("smallest")[0]
    assert plain.in_use(SimpleNamespace(genes=genes)) == board
