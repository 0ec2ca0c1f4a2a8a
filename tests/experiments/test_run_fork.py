"""Forks: what is copied from an older run, and what is not."""

import json
import logging
from types import SimpleNamespace

import pytest

from experiments import run_fork, run_identity
from experiments.run_folder import begin_run, continue_run
from experiments.run_fork import COPIED, Origin, check_fork, copy_accuracies
from records import BadInputError, Ledger, LockedRunError, Observation, StorageError
from tests.records.postgres_server import running_server

CONFIG = {"dataset": "digits", "space": "cnn", "seed": 1, "epochs": 2, "calibration_networks": 20}
HASHES = {"search space": "s1", "data": "d1"}


def timing(index, space="s1"):
    return Observation(
        genes=(index,), metric="calibration.latency_ms", target="local-t1-b1", value=1.0,
        space_hash=space,
    )  # fmt: skip


def accuracy(index, weights="w1", space="s1", metric="accuracy"):
    return Observation(
        genes=(index,), metric=metric, value=index / 10, weights_hash=weights, space_hash=space
    )


def problem(weights="w1", space="s1", metric="accuracy"):
    evaluator = SimpleNamespace(metric=metric, weights_hash=weights)
    return SimpleNamespace(accuracy=evaluator, space=SimpleNamespace(hash=space))


@pytest.fixture
def old(tmp_path):
    """The folder of a run with two timings, three accuracies and a checkpoint."""
    folder = tmp_path / "old"
    with begin_run(folder, CONFIG, hashes=HASHES) as ledger:
        ledger.append([timing(1), timing(2)])
        ledger.append([accuracy(1), accuracy(2), accuracy(3, weights="w2")])
    (folder / "supernet.safetensors").write_bytes(b"weights")
    return folder


def forked(old, config=CONFIG, hashes=HASHES):
    """The ledger of a fork beside the old run, with what holds before the training copied."""
    out = old.parent / "new"
    origin = Origin(old, config, hashes)
    with origin.ledger:
        ledger = begin_run(out, config, hashes=hashes, origin=origin.record())
        origin.copy_timings(ledger)
        origin.copy_checkpoint("supernet.safetensors", out)
    return ledger


def test_a_longer_search_keeps_everything_with_the_same_weights(old, snapshot):
    before = snapshot(old)
    longer = {**CONFIG, "evaluations": 300}

    with forked(old, longer) as ledger:
        copy_accuracies(ledger, problem())
        copy_accuracies(ledger, problem())  # a fork that was interrupted and goes on
        kept = ledger.observations()
        origin = ledger.run["origin"]

    assert kept == [timing(1), timing(2), accuracy(1), accuracy(2)]
    assert (old.parent / "new" / "supernet.safetensors").read_bytes() == b"weights"
    assert origin["folder"] == str(old)
    assert origin["changes"] == ["--evaluations was not given, is 300"]
    assert origin["run_id"] == json.loads((old / "run.json").read_text())["run_id"]
    assert snapshot(old) == before
    continue_run(old.parent / "new", longer, hashes=HASHES).close()


@pytest.mark.parametrize(
    ("changed", "hashes", "timings", "checkpoint"),
    [
        ({"max_latency_ms": 2.0, "strategy": "nsga2"}, {}, True, True),
        ({"seed": 2}, {}, True, False),
        ({"epochs": 3}, {}, True, False),
        ({"dataset": "mine"}, {}, True, False),
        ({}, {"data": "d2"}, True, False),
        ({}, {"search space": "s2"}, False, False),
        ({"calibration_networks": 30}, {}, False, True),
        ({"precision": "mixed"}, {}, False, True),
    ],
)
def test_what_is_copied_follows_from_what_changed(old, changed, hashes, timings, checkpoint):
    with forked(old, {**CONFIG, **changed}, {**HASHES, **hashes}) as ledger:
        assert ledger.observations() == ([timing(1), timing(2)] if timings else [])
    assert (old.parent / "new" / "supernet.safetensors").exists() == checkpoint


@pytest.mark.parametrize(
    ("what", "answer"), [("machine_fingerprint", "another"), ("versions", {"onnxruntime": "0.1"})]
)
def test_timings_do_not_hold_on_another_machine_or_runtime(old, what, answer, monkeypatch):
    monkeypatch.setattr(run_identity, what, lambda: answer)

    with forked(old) as ledger:
        assert ledger.observations() == []
    assert (old.parent / "new" / "supernet.safetensors").exists()


@pytest.mark.parametrize(
    "other", [{"weights": "w3"}, {"space": "s2"}, {"metric": "robust accuracy"}]
)
def test_accuracies_of_other_weights_spaces_or_metrics_are_not_copied(old, other):
    with forked(old) as ledger:
        copy_accuracies(ledger, problem(**other))

        assert ledger.observations("accuracy") == []
        assert ledger.notes(COPIED) == [0]


def test_a_brought_supernet_is_neither_copied_nor_trained_anew(old, capsys):
    with forked(old, {**CONFIG, "supernet": "mine.safetensors"}):
        assert not (old.parent / "new" / "supernet.safetensors").exists()
    assert "the supernet is that of --supernet" in capsys.readouterr().out


def test_what_failed_in_the_origin_is_tried_again(old):
    with continue_run(old, CONFIG, hashes=HASHES) as ledger:
        late = Observation(
            genes=(4,), metric="accuracy", value=None, status="failed", reason="too slow",
            weights_hash="w1", space_hash="s1",
        )  # fmt: skip
        ledger.append([late])

    with forked(old) as ledger:
        copy_accuracies(ledger, problem())

        assert [o.genes for o in ledger.observations("accuracy")] == [(1,), (2,)]


def test_a_fork_goes_on_without_its_origin(old, caplog):
    forked(old).close()
    (old / "evaluations.db").unlink()

    with continue_run(old.parent / "new", CONFIG, hashes=HASHES) as ledger:
        with caplog.at_level(logging.WARNING):
            copy_accuracies(ledger, problem())
        assert ledger.observations("accuracy") == []
    assert "nothing is copied from the origin" in caplog.text


def test_a_run_that_is_no_fork_copies_nothing(old):
    with continue_run(old, CONFIG, hashes=HASHES) as ledger:
        copy_accuracies(ledger, problem())
        assert len(ledger) == 5


def test_a_running_run_may_be_forked(old):
    with continue_run(old, CONFIG, hashes=HASHES), forked(old) as ledger:
        assert len(ledger) == 2


def test_a_disk_that_refuses_the_copy_is_named(old, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_fork.shutil, "copyfile", refuse)

    with pytest.raises(StorageError, match="No space left"):
        forked(old)
    assert not (old.parent / "new" / "supernet.safetensors").exists()


def test_a_fork_needs_a_run_and_a_folder_of_its_own(tmp_path):
    with pytest.raises(BadInputError, match="nothing to continue"):
        Origin(tmp_path / "none", CONFIG, HASHES)
    with pytest.raises(BadInputError, match="is the folder of --out"):
        check_fork(tmp_path / "a", tmp_path / "b" / ".." / "a")


@pytest.mark.slow
def test_a_fork_of_a_complete_run_measures_only_what_is_new(
    formula_run, tmp_path, tiny, hwnas, by_formula, snapshot
):
    before = snapshot(formula_run.folder)
    options = list(tiny)
    options[options.index("--evaluations") + 1] = "24"
    command = ["quickstart", "--space", "cnn", "--out", formula_run.folder, *options]

    refused = hwnas(*command, "--resume")
    fork = hwnas(*command, "--fork", tmp_path / "fork")

    assert refused.code == 2
    assert "--evaluations was 20, is 24" in " ".join(refused.err.split())
    assert fork.code == 0, fork.err
    assert snapshot(formula_run.folder) == before
    with Ledger.open(formula_run.folder / "evaluations.db", read_only=True) as ledger:
        old = ledger.observations("accuracy")
    with Ledger.open(tmp_path / "fork" / "evaluations.db", read_only=True) as ledger:
        new = ledger.observations("accuracy")
        assert ledger.notes(COPIED) == [20]
    assert new[:20] == old
    assert len(new) == 24
    front = json.loads((tmp_path / "fork" / "front.json").read_text())
    assert front["supernet"] == formula_run.front["supernet"]


@pytest.mark.slow
def test_a_run_on_a_server_is_what_a_run_in_a_file_is_and_is_continued_from_there(
    formula_run, tmp_path, tiny, hwnas, by_formula, monkeypatch
):
    with running_server() as server:
        url = server.url("x").replace("?run=x", "")
        command = ["quickstart", "--space", "cnn", "--out", tmp_path / "on-server", *tiny]

        done = hwnas(*command, "--ledger", url)

        assert done.code == 0, done.err
        own = server.url("on-server")
        with Ledger.open(formula_run.folder / "evaluations.db", read_only=True) as ledger:
            expected = [(o.genes, o.value) for o in ledger.observations("accuracy")]
        with Ledger.open(own, read_only=True) as ledger:
            assert [(o.genes, o.value) for o in ledger.observations("accuracy")] == expected
        for path in (tmp_path / "on-server").rglob("*.json"):
            assert "sesame" not in path.read_text()
        (tmp_path / "on-server" / "front.json").unlink()
        monkeypatch.setenv("PGPASSWORD", "open sesame")  # which no file of the run has kept
        with Ledger.open(own), pytest.raises(LockedRunError):
            Ledger.open(own)
        resumed = hwnas(*command, "--resume")
        assert resumed.code == 0, resumed.err
        with Ledger.open(own, read_only=True) as ledger:
            assert len(ledger.observations("accuracy")) == 20
