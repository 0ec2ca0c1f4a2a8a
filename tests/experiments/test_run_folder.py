import errno
import json
import os
import re
from pathlib import Path

import pytest

from experiments import run_identity
from experiments.run_folder import (
    LEDGER,
    RUN,
    begin_run,
    check_hashes,
    check_writable,
    claim_folder,
    continue_run,
    release_folder,
)
from records import (
    BadInputError,
    CorruptFileError,
    ExistingRunError,
    Ledger,
    LockedRunError,
    StorageError,
)

CONFIG = {"dataset": "digits", "space": "cnn", "out": "here", "resume": False, "seed": 1}


def test_a_new_folder_is_made_and_an_unused_one_taken_back(tmp_path):
    folder = tmp_path / "a" / "b"

    claim_folder(folder)
    assert folder.is_dir()
    release_folder(folder)

    assert not folder.exists()


def test_what_holds_something_is_neither_claimed_nor_removed(tmp_path, snapshot):
    (tmp_path / "mine.txt").write_text("mine")
    before = snapshot(tmp_path)

    with pytest.raises(ExistingRunError, match=r"that run with --resume, .* folder with --out"):
        claim_folder(tmp_path)
    advice = rf"that run with --out {re.escape(str(tmp_path))} --resume, .* folder with --fork"
    with pytest.raises(ExistingRunError, match=advice):
        claim_folder(tmp_path, "--fork")
    release_folder(tmp_path)
    with pytest.raises(ExistingRunError):
        claim_folder(tmp_path / "mine.txt")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        claim_folder(tmp_path / "mine.txt" / "run")

    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_disk_that_refuses_is_named_with_the_reason(tmp_path, monkeypatch, code):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", refuse)

    with pytest.raises(StorageError, match=f"cannot create .*{os.strerror(code)}"):
        claim_folder(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_name_that_is_too_long_is_the_disks_refusal(tmp_path):
    with pytest.raises(StorageError, match="File name too long"):
        claim_folder(tmp_path / ("x" * 300))
    with pytest.raises(StorageError, match="File name too long"):
        continue_run(tmp_path / ("x" * 300), CONFIG)


def test_a_run_is_continued_with_the_same_options_from_anywhere(tmp_path):
    begin_run(tmp_path, CONFIG).close()

    with continue_run(tmp_path, {**CONFIG, "out": "../there", "resume": True}) as ledger:
        kept = ledger.run["config"]

    assert kept == {"dataset": "digits", "space": "cnn", "seed": 1}


def test_other_options_are_refused_with_what_differs(tmp_path):
    begin_run(tmp_path, CONFIG).close()
    other = {**CONFIG, "space": "vit", "max_latency_ms": 2.0}

    with pytest.raises(BadInputError) as error:
        continue_run(tmp_path, other)

    assert "--space was 'cnn', is 'vit'" in str(error.value)
    assert "--max-latency-ms was not given, is 2.0" in str(error.value)
    assert "--fork NEWFOLDER" in str(error.value)
    assert "seed" not in str(error.value)
    continue_run(tmp_path, CONFIG).close()  # and the lock was given back


@pytest.mark.parametrize("is_quickstart", [False, True])
def test_epochs_that_a_search_in_brought_weights_noted_earlier_do_not_count(
    tmp_path, is_quickstart
):
    now = {**CONFIG, "supernet": "mine"} | ({"points": 4} if is_quickstart else {})
    begin_run(tmp_path, {**now, "epochs": 3}).close()

    if is_quickstart:  # whose baseline was trained for so many
        with pytest.raises(BadInputError, match="--epochs was 3, is not given"):
            continue_run(tmp_path, now)
    else:
        continue_run(tmp_path, now).close()


def test_nothing_to_continue(tmp_path):
    with pytest.raises(BadInputError, match=r"nothing to continue.*without --resume"):
        continue_run(tmp_path / "none", CONFIG)
    assert not (tmp_path / "none").exists()


def test_a_ledger_that_is_none_is_refused_and_left_alone(tmp_path):
    (tmp_path / LEDGER).write_bytes(b"not a database, but quite a long text " * 40)
    before = (tmp_path / LEDGER).read_bytes()

    with pytest.raises(CorruptFileError, match="not a SQLite file"):
        continue_run(tmp_path, CONFIG)
    assert (tmp_path / LEDGER).read_bytes() == before


def test_two_processes_do_not_write_one_run(tmp_path):
    with begin_run(tmp_path, CONFIG), pytest.raises(LockedRunError, match="being written to"):
        continue_run(tmp_path, CONFIG)


def test_the_folder_says_what_the_run_rests_on(tmp_path):
    begin_run(tmp_path, CONFIG, hashes={"search space": "s1"}).close()

    described = json.loads((tmp_path / RUN).read_text())

    assert described["config"] == {"dataset": "digits", "space": "cnn", "seed": 1}
    assert described["hashes"] == {"search space": "s1"}
    assert described["ledger"] is None
    assert {"run_id", "versions", "machine"} <= set(described)
    with Ledger.open(tmp_path / LEDGER, read_only=True) as ledger:
        assert ledger.run == {k: v for k, v in described.items() if k not in ("ledger", "format")}


@pytest.mark.parametrize(
    ("what", "answer", "said"),
    [
        ("versions", {"python": "3.11.0", "torch": "9.9"}, "torch was 2.0, is 9.9"),
        ("versions", {"python": "3.11.0"}, "torch was 2.0, is not installed"),
        ("machine_fingerprint", "another", "the machine is another one"),
    ],
)
def test_another_machine_or_version_is_refused_by_name(tmp_path, monkeypatch, what, answer, said):
    monkeypatch.setattr(run_identity, "versions", lambda: {"python": "3.11.0", "torch": "2.0"})
    begin_run(tmp_path, CONFIG).close()
    monkeypatch.setattr(run_identity, what, lambda: answer)

    with pytest.raises(BadInputError, match=said) as error:
        continue_run(tmp_path, CONFIG)

    assert "python" not in str(error.value)


@pytest.mark.parametrize(
    "target", ["raspberry-pi-4", ["raspberry-pi-4:threads=4", "localhost-gpu"]]
)
def test_a_run_that_times_nothing_here_moves_to_another_machine(tmp_path, monkeypatch, target):
    config = {**CONFIG, "target": target}
    begin_run(tmp_path, config).close()
    monkeypatch.setattr(run_identity, "machine_fingerprint", lambda: "another")

    continue_run(tmp_path, config).close()
    with pytest.raises(BadInputError, match="the machine is another one"):
        continue_run(tmp_path, {**config, "target": ["local:threads=2", "raspberry-pi-4"]})


def test_what_changed_under_the_same_name_is_refused(tmp_path):
    begin_run(tmp_path, CONFIG, hashes={"search space": "s1", "target board": "t1"}).close()

    with pytest.raises(BadInputError, match=r"the search space has changed \(hash s1, now s2\)"):
        continue_run(tmp_path, CONFIG, hashes={"search space": "s2"})
    with continue_run(tmp_path, CONFIG, hashes={"search space": "s1", "new": "n"}) as ledger:
        check_hashes(tmp_path, ledger, {"target board": "t1"})
        with pytest.raises(BadInputError, match=r"the target board has changed"):
            check_hashes(tmp_path, ledger, {"target board": "t2"})


def test_the_ledger_of_another_run_is_refused(tmp_path):
    for name in ("a", "b"):
        begin_run(tmp_path / name, CONFIG).close()
    (tmp_path / "a" / LEDGER).write_bytes((tmp_path / "b" / LEDGER).read_bytes())

    with pytest.raises(BadInputError, match="is the ledger of another run"):
        continue_run(tmp_path / "a", CONFIG)

    (tmp_path / "a" / RUN).unlink()
    (tmp_path / "a" / LEDGER).unlink()
    Ledger.create(tmp_path / "a" / LEDGER, {"supernet": "x"}).close()
    with pytest.raises(
        BadInputError, match="another kind of experiment: its header holds supernet"
    ):
        continue_run(tmp_path / "a", CONFIG)


def test_a_ledger_may_be_elsewhere_and_is_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    with begin_run(tmp_path / "run", CONFIG, ledger="fast/run.db") as ledger:
        ledger.note("a", 1)
    monkeypatch.chdir("/")

    with continue_run(tmp_path / "run", CONFIG) as ledger:
        assert ledger.notes("a") == [1]
    assert [item.name for item in (tmp_path / "run").iterdir()] == [RUN]
    with pytest.raises(BadInputError, match="nothing to continue"):
        continue_run(tmp_path / "run", CONFIG, ledger=str(tmp_path / "other.db"))


def test_a_run_that_was_killed_before_it_described_itself_is_continued(tmp_path):
    begin_run(tmp_path, CONFIG).close()
    (tmp_path / RUN).unlink()

    continue_run(tmp_path, CONFIG).close()

    assert (tmp_path / RUN).exists()


def test_a_folder_that_cannot_be_made_is_noticed_and_nothing_is_left(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine.txt").write_text("x")
    for out in (tmp_path / "mine.txt" / "bundle", Path("/proc/nothing/bundle")):
        with pytest.raises(StorageError):
            check_writable(out)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
