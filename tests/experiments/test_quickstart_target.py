"""A run for a target that was measured before, with and without a runner that reaches it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments import load_dataset, make_space, quickstart_costs
from experiments.config import QuickstartConfig
from hardware_profiles import Target, device
from latency_models import RooflineCostModel, load_target, save_target
from latency_models.measured import MeasuredCostModel
from records import BadInputError
from tests.experiments.conftest import formula_time


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Sixty networks of the digits' space, a Raspberry Pi's roofline thrice."""
    space = make_space("cnn", load_dataset("digits"))
    target = Target(profile=device("raspberry-pi-4"), threads=4)
    genes = space.sample(60, np.random.default_rng(0))
    latencies = 0.02 + 3 * RooflineCostModel(space, target).latency_ms(genes)
    folder = tmp_path_factory.mktemp("target") / "pi"
    save_target(folder, [MeasuredCostModel(space, target, genes, latencies)])
    return folder


class FormulaRunner:
    """What commands would answer: the formula, a little slower."""

    name = "a board by commands"
    calls = 0

    def time(self, models, *, threads, **options):
        FormulaRunner.calls += 1
        assert threads == 4
        timings = formula_time(self, models, threads=threads, **options)
        return [replace(t, samples_ms=tuple(2 * s for s in t.samples_ms)) for t in timings]


@pytest.fixture(scope="module")
def untimed(saved, tmp_path_factory, finish):
    out = tmp_path_factory.mktemp("untimed") / "run"
    return finish(out, "--space", "cnn", "--target", f"{saved}")


def test_fronts_use_the_costs_of_the_saved_target(saved, untimed):
    (target,) = untimed.front["targets"]
    costs = load_target(saved).cost_model(make_space("cnn", load_dataset("digits")))
    assert target["name"] == costs.target_name == "raspberry-pi-4-t4-b1"
    assert target["cost_model"]["networks"] == len(costs.genes)
    for point in untimed.front["points"]:
        assert point["target"] == target["name"]
        if point["kind"] == "searched":
            assert point["predicted"]["latency_source"].startswith("predicted: fitted to")
    evaluated = untimed.front["search"]["evaluated"]
    assert len(evaluated) == 20
    assert all(set(e["latency_ms"]) == {target["name"]} for e in evaluated)


def test_what_is_exported_says_that_it_was_not_timed(untimed):
    for point in untimed.front["points"]:
        assert point["measured"]["latency_ms"] is None
        assert point["latency_error"] is None
        folder = (untimed.folder / point["file"]).parent
        record = json.loads((folder / "bundle.json").read_text())
        assert record["measured"] == {"latency_ms": None, "source": "not timed: costs only"}
        assert record["precision"] == "fp32"
        total = sum(block["latency_ms"] for block in point["blocks"])
        assert 0 < total <= point["predicted"]["latency_ms"] * (1 + 1e-6)
    assert untimed.front["refit"]["median_error"] is None
    assert not untimed.front["refit"]["refitted"]
    said = " ".join(untimed.outcome.out.split())
    assert "no runner reaches it, so exported files are not timed: costs only" in said
    assert "latencies are predicted: no runner reaches raspberry-pi-4-t4-b1" in said
    assert "not timed" in (untimed.folder / "report.html").read_text()


def test_the_baseline_has_the_predicted_latency_of_the_best(untimed):
    points = untimed.front["points"]
    (baseline,) = [p for p in points if p["kind"] == "baseline"]
    best = max(
        (p for p in points if p["kind"] == "searched"), key=lambda p: p["validation_accuracy"]
    )
    ratio = baseline["predicted"]["latency_ms"] / best["predicted"]["latency_ms"]
    assert 0.4 < ratio < 2.5  # sizes come in steps
    assert "of other spaces" in baseline["predicted"]["latency_source"]


@pytest.mark.slow
def test_a_runner_that_is_attached_times_what_is_exported(saved, tmp_path, finish, monkeypatch):
    monkeypatch.setattr(quickstart_costs, "read_command_file", lambda path: FormulaRunner())
    run = finish(
        tmp_path / "run", "--space", "cnn", "--target", f"{saved}",
        "--command-file", tmp_path / "board.yaml", "--refit-threshold", "1e9",
    )  # fmt: skip
    assert FormulaRunner.calls > 0
    for point in run.front["points"]:
        assert point["measured"]["latency_ms"] > 0
        assert point["measured"]["source"] == "measured: a board by commands"
        assert point["latency_error"] is not None
    assert "exported files are timed by a board by commands" in " ".join(run.outcome.out.split())


def test_a_command_file_needs_a_target(tmp_path):
    with pytest.raises(BadInputError, match="--target"):
        QuickstartConfig(command_file=tmp_path / "board.yaml")
    plain = QuickstartConfig().to_json()
    assert not {"target", "command_file"} & set(plain)
    with_both = QuickstartConfig(targets=("pi",), command_file=tmp_path / "b.yaml").to_json()
    assert with_both["target"] == "pi"
    assert with_both["command_file"] == str(tmp_path / "b.yaml")


def test_a_space_that_was_not_timed_is_refused_before_training(saved, hwnas, tmp_path):
    outcome = hwnas(
        "quickstart", "--space", "vit", "--target", f"{saved}", "--out", tmp_path / "run"
    )
    assert outcome.code == 2
    assert "no network of" in outcome.err
    assert not (tmp_path / "run").exists()
