import json
import math
from collections import Counter

import numpy as np
import onnx
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from deployment.intervals import wilson_interval
from experiments.config import QuickstartConfig
from experiments.front_file import FORMAT
from records import Ledger, file_hash
from search_spaces import Architecture, SearchSpace

TARGETS = ("local-t1-b1", "local-t1-b16")
KEYS = {
    "format", "created", "seed", "config", "versions", "seconds", "dataset", "space", "supernet",
    "targets", "search", "compromise", "points", "refit",
}  # fmt: skip
TARGET_KEYS = {
    "name", "device", "description", "threads", "batch_size", "runtime", "precision", "limits",
    "reachable", "cost_model",
}  # fmt: skip
POINT_KEYS = {
    "name", "target", "kind", "title", "architecture", "validation_accuracy", "test_accuracy",
    "test_interval_95", "test_images", "predicted", "measured", "latency_error", "parameters",
    "macs", "relative_difference", "file", "blocks",
}  # fmt: skip
SECONDS = {"calibration", "training", "search", "export", "baseline", "bundles", "total"}


@pytest.fixture(
    params=[
        "measured_run",
        "limited_run",
        "refitted_run",
        pytest.param("vit_run", marks=pytest.mark.slow),
    ]
)
def a_run(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def vit_run(tmp_path_factory, finish):
    return finish(tmp_path_factory.mktemp("vit") / "run", "--space", "vit")


def searched(run, target):
    return [p for p in run.front["points"] if p["target"] == target and p["kind"] == "searched"]


def test_front_json_has_the_documented_keys(a_run):
    front = a_run.front

    assert set(front) == KEYS
    assert front["format"] == FORMAT
    assert set(front["config"]) == set(QuickstartConfig().to_json())
    assert set(front["seconds"]) == SECONDS
    assert [t["name"] for t in front["targets"]] == list(TARGETS)
    assert [(t["threads"], t["batch_size"]) for t in front["targets"]] == [(1, 1), (1, 16)]
    assert all(set(t) == TARGET_KEYS for t in front["targets"])
    assert all(set(p) >= POINT_KEYS for p in front["points"])
    assert front["search"]["evaluations"] == 20
    assert front["search"]["failed"] == 0
    assert len(front["search"]["evaluated"]) == 20
    assert all(len(h) == 20 for h in front["search"]["history"].values())
    space = SearchSpace.from_json(front["space"]["definition"])
    assert space.hash == front["space"]["hash"]


def test_every_target_gets_bundles_that_say_what_they_hold(a_run):
    names = [p["name"] for p in a_run.front["points"]]
    assert sorted(names) == sorted(p.name for p in (a_run.folder / "models").iterdir())
    for target in TARGETS:
        assert len(searched(a_run, target)) == 3
        kinds = Counter(p["kind"] for p in a_run.front["points"] if p["target"] == target)
        assert kinds == {"searched": 3, "baseline": 1}
        titles = [p["title"] for p in searched(a_run, target)]
        assert titles.count("most accurate") == 1
        assert set(titles) <= {"fastest", "knee", "most accurate", "between", "next best"}
    for point in a_run.front["points"]:
        file = a_run.folder / point["file"]
        bundle = json.loads((file.parent / "bundle.json").read_text())

        onnx.checker.check_model(onnx.load(file))
        assert bundle["files"]["model.onnx"] == file_hash(file)
        assert bundle["target"]["name"] == point["target"]
        assert bundle["architecture"] == point["architecture"]
        assert bundle["predicted"] == point["predicted"]
        assert bundle["measured"]["latency_ms"] == min(bundle["measured"]["samples_ms"])
        assert bundle["measured"]["latency_ms"] == point["measured"]["latency_ms"]
        assert bundle["facts"]["test_accuracy"] == point["test_accuracy"]


def test_compromises_are_networks_of_both_fronts_ranges(a_run):
    found = a_run.front["compromise"]
    assert found["rule"] == "worst"
    assert found["weights"] == dict.fromkeys(TARGETS, 1.0)
    assert 1 <= len(found["networks"]) <= 3
    evaluated = a_run.front["search"]["evaluated"]
    names = {p["name"]: p for p in a_run.front["points"]}
    for network in found["networks"]:
        same = [e for e in evaluated if e["latency_ms"] == pytest.approx(network["latency_ms"])]
        assert network["validation_accuracy"] in [e["accuracy"] for e in same]
        assert all(e["allowed"] == list(TARGETS) for e in same)
        for name in TARGETS:
            most = network["latency_ms"][name] * (1 + 1e-9)
            rivals = [
                e["accuracy"] for e in evaluated if e["feasible"] and e["latency_ms"][name] <= most
            ]
            behind = max(rivals) - network["validation_accuracy"]
            assert network["behind"][name] == pytest.approx(behind)
        for name in network["exported"]:
            assert names[name]["architecture"] == network["architecture"]
    assert "Good on all targets" in a_run.outcome.out


def latencies(point):
    """Measured and predicted, in ms."""
    return point["measured"]["latency_ms"], point["predicted"]["latency_ms"]


def test_files_agree_with_torch_within_1e_5(a_run):
    assert all(0 <= p["relative_difference"] <= 1e-5 for p in a_run.front["points"])


def test_numbers_of_a_point_agree_with_each_other(a_run):
    for point in a_run.front["points"]:
        predicted, measured = point["predicted"]["latency_ms"], point["measured"]["latency_ms"]
        share, n = point["test_accuracy"], point["test_images"]

        assert point["latency_error"] == pytest.approx(predicted / measured - 1)
        assert n == a_run.front["dataset"]["test"] == 359
        assert share * n == pytest.approx(round(share * n))
        assert point["test_interval_95"] == pytest.approx(wilson_interval(share, n))
        assert sum(b["latency_ms"] for b in point["blocks"]) <= predicted * 1.01
        assert sum(point["predicted"]["coverage"].values()) == pytest.approx(1)


def test_what_was_predicted_was_predicted_before_measuring(a_run):
    """The predictions repeat from the calibration alone, which the ledger has first.

    They do not rest on the predicted network, even where the calibration had timed it.
    """
    from experiments.measuring import calibrated
    from hardware_profiles import local_target

    space = SearchSpace.from_json(a_run.front["space"]["definition"])
    with Ledger.open(a_run.folder / "evaluations.db", read_only=True) as ledger:
        metrics = [(o.metric, o.target) for o in ledger.observations()]
        costs = {
            t.name: calibrated(space, t, ledger, networks=20, seed=0)
            for t in (local_target(threads=1, batch_size=b) for b in (1, 16))
        }

    last_calibration = max(i for i, (m, _) in enumerate(metrics) if m.startswith("calibration."))
    first_timing = min(i for i, (m, _) in enumerate(metrics) if m == "latency_ms")
    accuracies = [i for i, (m, _) in enumerate(metrics) if m == "accuracy"]
    assert last_calibration < min(accuracies) <= max(accuracies) < first_timing
    for target in TARGETS:
        for point in searched(a_run, target):
            genes = space.encode(Architecture.from_json(point["architecture"]))
            model = costs[target].without(genes[0])
            first = model.record(genes)
            assert not (model.genes == genes[0]).all(axis=1).any()
            if f"fitted to {len(model.genes)} networks" in point["predicted"]["latency_source"]:
                assert point["predicted"]["latency_ms"] == pytest.approx(first["latency_ms"])
            else:
                assert a_run.front["refit"]["refitted"]


def test_the_ledger_has_calibration_accuracy_and_latency(a_run):
    with Ledger.open(a_run.folder / "evaluations.db", read_only=True) as ledger:
        observations = ledger.observations()
        header = ledger.run
    counted = Counter((o.metric, o.target) for o in observations)

    assert header["config"]["space"] == a_run.front["config"]["space"]
    assert counted["accuracy", ""] == 20
    for target in TARGETS:
        assert counted["calibration.latency_ms", target] == 20
        assert counted["latency_ms", target] >= 4  # three networks and the baseline
    assert all(o.raw and o.value == min(o.raw) for o in observations if "latency" in o.metric)
    accuracy = [o.value for o in observations if o.metric == "accuracy"]
    assert accuracy == [e["accuracy"] for e in a_run.front["search"]["evaluated"]]


def test_optuna_opens_the_journal(a_run):
    storage = JournalStorage(JournalFileBackend(str(a_run.folder / "optuna-journal.log")))

    study = optuna.load_study(study_name=a_run.folder.name, storage=storage)

    evaluated = a_run.front["search"]["evaluated"]
    assert sorted(t.values[0] for t in study.trials) == sorted(e["accuracy"] for e in evaluated)
    names = ["accuracy", *(f"predicted latency_ms@{target}" for target in TARGETS)]
    assert study.metric_names == names
    shown = sorted(tuple(trial.values) for trial in study.trials)
    expected = sorted(
        (e["accuracy"], *(e["latency_ms"][target] for target in TARGETS)) for e in evaluated
    )
    assert np.array(shown) == pytest.approx(np.array(expected))


def test_the_report_and_the_closing_table_name_every_network(a_run):
    report = (a_run.folder / "report.html").read_text()
    printed = "".join(a_run.outcome.out.split())
    for point in a_run.front["points"]:
        assert point["name"] in printed
        assert point["file"] in report.replace("<wbr>", "")


def test_the_chosen_of_a_target_are_those_that_trade_best(a_run):
    evaluated = a_run.front["search"]["evaluated"]
    best = max(e["accuracy"] for e in evaluated if e["feasible"])
    for target in TARGETS:
        points = searched(a_run, target)
        most = next(p for p in points if p["title"] == "most accurate")
        assert most["validation_accuracy"] == best
        latency = [p["predicted"]["latency_ms"] for p in points]
        assert latency == sorted(latency)


@pytest.mark.parametrize(
    ("free", "kept"),
    [
        ("formula_run", "limited_run"),
        pytest.param("measured_run", "limited_measured_run", marks=pytest.mark.slow),
    ],
)
def test_a_limit_on_latency_changes_the_outcome_and_holds_when_measured(free, kept, request):
    free_run, limited_run = request.getfixturevalue(free), request.getfixturevalue(kept)
    limit = limited_run.front["config"]["max_latency_ms"]
    assert limited_run.front["targets"][0]["limits"] == {"latency_ms": limit}
    assert limited_run.front["targets"][1]["limits"] == {}

    tight, loose = (
        [e["latency_ms"]["local-t1-b1"] for e in run.front["search"]["evaluated"]]
        for run in (limited_run, free_run)
    )
    assert max(tight) <= limit
    assert max(loose) > 1.5 * limit
    assert all(e["feasible"] for e in limited_run.front["search"]["evaluated"])

    # A machine that became slower since the calibration slows all files down.
    slower = max(1.0, np.median([m / p for m, p in map(latencies, limited_run.front["points"])]))
    chosen = [latencies(point) for point in searched(limited_run, "local-t1-b1")]
    assert max(predicted for _, predicted in chosen) <= limit
    assert max(measured for measured, _ in chosen) <= 1.1 * limit * slower


def test_a_refit_is_judged_on_fresh_networks(refitted_run, formula_run):
    refit = refitted_run.front["refit"]

    assert refit["refitted"]
    assert refit["threshold"] == 0
    assert refit["median_error"] > 0
    assert refit["fresh_networks"] == 32
    for key in ("fresh_median_error_before", "fresh_median_error_after"):
        assert 0 <= refit[key] < 0.5
    networks = [t["cost_model"]["networks"] for t in refitted_run.front["targets"]]
    assert networks == [23, 23]
    assert "refitting" in refitted_run.outcome.out
    with Ledger.open(refitted_run.folder / "evaluations.db", read_only=True) as ledger:
        calibration = {o.genes for o in ledger.observations("calibration.latency_ms")}
        timed = {t: [o.genes for o in ledger.observations("latency_ms", t)] for t in TARGETS}
    for own in timed.values():
        assert len({g for g in own if len(g) > 1} - calibration) >= 16


@pytest.mark.slow
def test_no_refit_where_predictions_are_good(finish, tmp_path, by_formula):
    run = finish(tmp_path / "run", "--space", "cnn", "--refit-threshold", "10")

    assert not run.front["refit"]["refitted"]
    assert run.front["refit"]["fresh_median_error_after"] is None
    assert [t["cost_model"]["networks"] for t in run.front["targets"]] == [20, 20]


@pytest.mark.slow
def test_energy_and_memory_limits_hold(finish, tmp_path, by_formula, formula_run):
    reach = {
        r["metric"]: r["lowest"] * math.sqrt(r["highest"] / r["lowest"])
        for r in formula_run.front["targets"][0]["reachable"]
    }
    run = finish(
        tmp_path / "run", "--space", "cnn",
        "--max-energy-mj", f"{reach['energy_mj']:.6g}",
        "--max-memory-kb", f"{reach['peak_memory_bytes'] / 1024:.6g}",
    )  # fmt: skip

    for point in (p for p in run.front["points"] if p["kind"] == "searched"):
        if point["target"] == "local-t1-b1":
            assert point["predicted"]["energy_mj"] <= reach["energy_mj"] * 1.0001
            assert point["predicted"]["peak_memory_bytes"] <= reach["peak_memory_bytes"] * 1.0001


@pytest.mark.slow
def test_a_limit_that_one_network_just_keeps_survives_a_refit(
    hwnas, finish, tiny, tmp_path, by_formula
):
    """Under the refitted model every network that was measured may miss the limit by a hair."""
    refused = hwnas(
        "quickstart", "--out", tmp_path / "no", *tiny, "--space", "cnn", "--max-latency-ms", "1e-4"
    )
    limit = refused.err.split("reachable is ")[1].split(",")[0]

    run = finish(
        tmp_path / "tight", "--space", "cnn", "--refit-threshold", "0", "--max-latency-ms", limit
    )

    assert len(searched(run, "local-t1-b1")) >= 1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(formula_run, finish, tmp_path, by_formula):
    again = finish(tmp_path / "again", "--space", "cnn")
    for volatile in ("created", "seconds"):
        again.front.pop(volatile)
    first = {k: v for k, v in formula_run.front.items() if k in again.front}
    first["config"] = {**first["config"], "out": again.front["config"]["out"]}

    assert again.front == first


@pytest.mark.slow
def test_an_image_folder_runs_from_end_to_end(finish, tmp_path, by_formula):
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "tones" / name).mkdir(parents=True)
        for i in range(25):
            pixels = rng.integers(100 * label, 100 * label + 120, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "tones" / name / f"{i}.png")

    run = finish(
        tmp_path / "run", "--space", "cnn", "--dataset", tmp_path / "tones",
        "--image-size", "8", "--train-images", "20",
    )  # fmt: skip

    assert run.front["dataset"]["classes"] == 2
    assert run.front["dataset"]["channels"] == 3
    assert {p["test_images"] for p in run.front["points"]} == {10}


@pytest.mark.slow
def test_with_brought_weights_only_the_baseline_is_trained(
    hwnas, tiny, by_formula, formula_run, tmp_path
):
    weights = formula_run.folder / "supernet.safetensors"
    out = tmp_path / "run"

    outcome = hwnas("quickstart", "--space", "cnn", "--out", out, *tiny, "--supernet", weights)

    assert outcome.code == 0, outcome.err
    front = json.loads((out / "front.json").read_text())
    assert front["supernet"] == {**formula_run.front["supernet"], "epochs": None}
    assert front["config"]["epochs"] == 1
    assert "training the supernet" not in outcome.out
    assert "training the baseline" in outcome.out
    assert front["search"]["evaluated"] == formula_run.front["search"]["evaluated"]
