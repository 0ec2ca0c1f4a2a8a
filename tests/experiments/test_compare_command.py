"""Bundles measured again and side by side."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from deployment import Bundle, LocalRunner, Timing
from deployment.bundles.format import sealed
from experiments import reproduce_command
from experiments.compare_command import compare
from experiments.reproduce_command import reproduce
from records import BadInputError


@pytest.fixture(scope="module")
def folders(formula_run):
    """The bundles of a run that was timed by a formula, at batch 1 and 16."""
    return sorted((formula_run.folder / "models").iterdir())


@pytest.fixture
def copy(folders, tmp_path):
    return Path(shutil.copytree(folders[0], tmp_path / "copy"))


def rewrite(folder, change):
    path = folder / "bundle.json"
    record = json.loads(path.read_text())
    change(record)
    record["seal"] = sealed(record)
    path.write_text(json.dumps(record))


def verdicts(found):
    return {one.what: one.verdict for one in found.findings}


def slower(ratio):
    """The runner of this machine, saying that files take so many times what their bundle says."""

    def time(self, models, *, threads, rounds=7, runs=3, settings=None, **_):
        return [Timing(samples_ms=(ratio,) * 6, rounds=2, preempted=0.0) for _ in models]

    return time


def test_what_was_not_changed_holds(copy, by_formula):
    found = reproduce(copy)
    assert found.holds
    assert verdicts(found)["files"] == "holds"
    assert verdicts(found)["difference from torch, real images"] == "holds"
    assert verdicts(found)["accuracy on the test images"] == "holds"
    assert verdicts(found)["latency, least"] == "holds"
    assert verdicts(found)["activations"] == "holds"
    assert verdicts(found)["cold start, opening"] == "shown"
    assert verdicts(found)["latency, p99"] == "shown"


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.2, "DRIFTED"), (1.05, "holds"), (0.5, "faster")]
)
def test_a_latency_drifts_when_it_is_slower(copy, monkeypatch, hwnas, ratio, verdict):
    recorded = Bundle.open(copy).latency_ms
    monkeypatch.setattr(LocalRunner, "time", slower(ratio * recorded))
    found = reproduce(copy)
    assert verdicts(found)["latency, least"] == verdict
    assert found.holds == (verdict != "DRIFTED")
    assert hwnas("reproduce", copy).code == (1 if verdict == "DRIFTED" else 0)


def test_an_accuracy_drifts_when_it_changes(copy, by_formula):
    rewrite(copy, lambda record: record["tested"].update(accuracy=0.99))
    found = reproduce(copy)
    assert verdicts(found)["accuracy on the test images"] == "DRIFTED"
    assert verdicts(found)["same class as torch"] == "holds"


def test_a_limit_that_does_not_hold_any_more_is_drift(copy, by_formula):
    rewrite(copy, lambda record: record["facts"].update(limits={"latency_ms": 1e-6}))
    assert verdicts(reproduce(copy))["limit on the latency"] == "DRIFTED"
    rewrite(copy, lambda record: record["facts"].update(limits={"latency_ms": 1e6}))
    assert verdicts(reproduce(copy))["limit on the latency"] == "holds"


def test_what_cannot_be_measured_here_is_no_drift(copy, by_formula):
    def elsewhere(record):
        record["target"]["machine"] = "another"
        record["facts"]["source"]["dataset"] = "fashion-mnist"
        record["facts"]["source"]["data_folder"] = "/nowhere"

    rewrite(copy, elsewhere)
    found = reproduce(copy)
    assert found.holds
    remarks = {one.what: one.remark for one in found.findings}
    assert "not this machine" in remarks["latency"]
    assert "the images are not here" in remarks["accuracy on the test images"]
    assert "another machine" in remarks["activations"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["facts"].update(source=None), "does not say how its images are loaded"),
        (lambda r: r["tested"].update(images=7), "another one"),
        (lambda r: r.update(tested=None), "the bundle states none"),
    ],
)
def test_accuracies_that_cannot_be_compared_say_why(copy, by_formula, change, said):
    rewrite(copy, change)
    remarks = {one.what: one.remark for one in reproduce(copy).findings}
    assert said in remarks["accuracy on the test images"]


def test_an_untimed_bundle_is_reproduced_without_times(copy, by_formula):
    def untimed(record):
        record.update(measured={"latency_ms": None, "source": "x"}, memory=None)

    rewrite(copy, untimed)
    found = reproduce(copy)
    assert found.holds
    assert verdicts(found)["latency"] == "not compared"


def test_a_file_that_seems_slower_is_timed_again(copy, monkeypatch):
    recorded = Bundle.open(copy).latency_ms
    calls = []

    def time(self, models, **_):
        calls.append(1)
        latency = recorded * (1.3 if len(calls) < 3 else 1.0)
        return [Timing(samples_ms=(latency,) * 6, rounds=2, preempted=0.0)]

    monkeypatch.setattr(LocalRunner, "time", time)
    assert verdicts(reproduce(copy))["latency, least"] == "holds"
    assert len(calls) == reproduce_command.ATTEMPTS


def test_an_altered_bundle_is_an_error(hwnas, copy, tmp_path):
    (copy / "model.onnx").write_bytes(b"x")
    outcome = hwnas("reproduce", copy)
    assert outcome.code == 2
    assert "model.onnx was altered" in outcome.err
    assert hwnas("reproduce", tmp_path).code == 2


# ---- side by side -------------------------------------------------------------------------------


def test_files_of_this_machine_are_timed_together(hwnas, folders, by_formula):
    found = compare(folders)
    assert all(one.timing is not None for one in found)
    for one in found:
        assert one.timing.latency_ms == pytest.approx(one.bundle.latency_ms)
        batch = one.bundle.record["target"]["batch_size"]
        assert one.image_ms == pytest.approx(one.bundle.latency_ms / batch)
    outcome = hwnas("compare", *folders)
    assert outcome.code == 0
    for one in found:
        assert one.name in outcome.out
    assert len({one.name for one in found}) == len(found)


def test_files_of_other_machines_are_shown_as_recorded(hwnas, folders, copy, by_formula):
    rewrite(copy, lambda record: record["target"].update(machine="another"))
    outcome = hwnas("compare", folders[1], copy)
    assert outcome.code == 0
    assert "shown as recorded, not timed" in outcome.out
    here, there = compare([folders[1], copy])
    assert here.timing is not None
    assert there.timing is None
    assert there.image_ms == there.bundle.latency_ms / there.bundle.record["target"]["batch_size"]
    untimed = replace(there, bundle=replace(there.bundle, timing=None))
    assert untimed.image_ms is None


def test_folders_of_one_name_are_told_apart(folders, tmp_path, by_formula):
    pair = [Path(shutil.copytree(folders[0], tmp_path / x / "same")) for x in ("a", "b")]
    assert [one.name for one in compare(pair)] == ["a/same", "b/same"]
    assert [one.name for one in compare([pair[0], pair[0]])] == [str(pair[0])] * 2


def test_one_bundle_is_nothing_to_compare(folders):
    with pytest.raises(BadInputError, match="at least two"):
        compare(folders[:1])
