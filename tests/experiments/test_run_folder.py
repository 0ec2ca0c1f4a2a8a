import errno
import os
from pathlib import Path

import pytest

from experiments.run_folder import LEDGER, begin_run, claim_folder, continue_run, release_folder
from records import BadInputError, CorruptFileError, ExistingRunError, LockedRunError, StorageError

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

    with pytest.raises(ExistingRunError, match=r"never overwritten.*--resume"):
        claim_folder(tmp_path)
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

    assert "space was 'cnn', is 'vit'" in str(error.value)
    assert "max_latency_ms was None, is 2.0" in str(error.value)
    assert "seed" not in str(error.value)
    continue_run(tmp_path, CONFIG).close()  # and the lock was given back


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
