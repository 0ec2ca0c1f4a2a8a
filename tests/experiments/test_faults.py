import os
import signal
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from experiments.benchmarks import faults
from experiments.benchmarks.fault_rows import (
    FaultRow,
    Moment,
    error_of,
    first_words,
    lost,
    repeated,
    row_of,
    untimed,
)
from experiments.benchmarks.faults_of_checkpoints import change_a_byte
from experiments.benchmarks.faults_of_surroundings import locked
from experiments.benchmarks.faulty_search import (
    FaultySearch,
    PaidAccuracy,
    let_the_clock_jump,
    run_search,
    small_space,
)
from records import Ledger, Observation, StorageError, sqlite_file


def observed(*names, value=0.5):
    return [Observation(genes=(n,), metric="accuracy", value=value, seconds=n) for n in names]


# ---- counting --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "count"),
    [
        (observed(1, 2, 3, 4), 0),
        (observed(1, 2, 4, 3), 1),  # not at its place
        (observed(1, 2), 1),
        ([*observed(1), *observed(2, value=0.6), *observed(3)], 1),  # changed
        ([], 3),
    ],
)
def test_lost_is_what_is_not_at_its_place_as_it_was(after, count):
    moments = [Moment(observed(1), 1), Moment(observed(1, 2, 3), 4), Moment(observed(1, 2), 9)]
    assert lost(moments, after) == count


def test_repeated_is_what_is_there_twice_or_was_paid_for_after_it_was_committed():
    payments = [(1,), (2,), (2,), (3,), (1,)]
    none = [Moment(observed(1, 2), 5)]
    assert repeated(none, payments, observed(1, 2, 3)) == 0
    assert repeated([Moment(observed(1, 2), 3)], payments, observed(1, 2, 3)) == 1
    assert repeated(none, payments, observed(1, 2, 3, 3)) == 1
    assert repeated([], payments, []) == 0


def test_equal_are_ledgers_but_for_the_seconds():
    assert untimed(observed(1, 2)) == [replace(o, seconds=0.0) for o in observed(1, 2)]
    assert untimed(observed(1)) != untimed(observed(2))


def test_the_table_and_its_sum():
    rows = [
        FaultRow(fault="a", times=20, committed=7, lost=0, repeated=1, equal="yes", seen="x"),
        FaultRow(fault="b", times=0, seen="not run"),
        FaultRow(fault="c", times=2, lost=3, repeated=0, equal="NO"),
    ]
    assert faults.cells(rows[0]) == ["a", "20", "7", "0", "1", "yes", "x"]
    assert faults.cells(rows[1]) == ["b", "0", "", "", "", "", "not run"]
    assert faults.summary(rows) == (
        "22 faults; committed observations lost: 3, repeated: 1; continued runs equal to "
        "uninterrupted ones: NO: c; not run: b"
    )
    assert faults.summary(rows[:1]).endswith("uninterrupted ones: yes")


def test_words_are_cut_between_words():
    assert first_words("short") == "short"
    cut = first_words("word " * 40)
    assert cut.endswith("word...")
    assert len(cut) <= 100


# ---- the search that faults are injected to ----------------------------------------------------


def search_in(folder, **options):
    folder.mkdir()
    return FaultySearch(folder=folder, **({"evaluations": 24, "seconds": 0.0} | options))


def test_a_search_pays_for_each_network_once_and_repeats(tmp_path):
    first, second = (search_in(tmp_path / name) for name in "ab")
    for task in (first, second):
        run_search(task)
        assert [genes for _, genes in task.payments()] == [o.genes for o in task.committed()]
    assert {pid for pid, _ in first.payments()} == {os.getpid()}
    row = row_of("none", first, [Moment.of(first)], second)
    assert (row.committed, row.lost, row.repeated, row.equal) == (24, 0, 0, "yes")
    other = search_in(tmp_path / "c", nan_share=0.5)
    run_search(other)
    assert row_of("none", first, [Moment.of(first)], other).equal == "NO"
    failed = [o for o in other.committed() if o.status == "failed"]
    assert 4 <= len(failed) <= 20
    assert all("finite value" in o.reason for o in failed)


def test_a_search_that_has_not_begun_has_committed_nothing(tmp_path):
    task = search_in(tmp_path / "a")
    assert (task.committed(), task.payments(), task.words()) == ([], [], "")
    task.said.write_text(f"one\nStorageError: cannot append to {task.path}\n")
    assert task.words() == "StorageError: cannot append to LEDGER"
    with pytest.raises(NotImplementedError):
        PaidAccuracy(small_space(), task).subnet(None)


def test_a_clock_that_jumps_goes_backwards_and_changes_no_search(tmp_path, monkeypatch):
    import time

    from records import ledger

    monkeypatch.setattr(time, "time", time.time)  # both are given back
    monkeypatch.setattr(ledger, "datetime", ledger.datetime)
    steady, jumping = (search_in(tmp_path / name) for name in "ab")
    run_search(steady)
    let_the_clock_jump()
    run_search(jumping)
    years = set()
    with Ledger.open(jumping.path, read_only=True) as opened:
        years = {when.year for when, _ in opened.dated_observations()}
    assert min(years) < datetime.now(UTC).year < max(years)
    assert untimed(jumping.committed()) == untimed(steady.committed())


def test_a_locked_ledger_is_locked_for_others(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "_BUSY_SECONDS", 0.05)
    path = tmp_path / "run.sqlite"
    with Ledger.create(path, {}) as ledger:
        with locked(path), pytest.raises(StorageError, match="another program holds the file"):
            ledger.append(observed(1))
        ledger.append(observed(1))
        assert len(ledger) == 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)


def test_one_byte_is_changed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(9))
    change_a_byte(path)
    assert path.read_bytes() == bytes(4) + b"\x40" + bytes(4)


def test_only_an_error_of_ours_is_one(tmp_path):
    class Ended:
        exitcode = -signal.SIGKILL

    with pytest.raises(RuntimeError, match="ended with -9"):
        error_of(search_in(tmp_path / "a"), Ended())


# ---- the benchmark -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("group", ["drivers", "workers", "lock", "clock", "nan", "checkpoint"])
def test_nothing_is_lost_and_nothing_repeated(tmp_path, group):
    rows = faults.GROUPS[group](tmp_path, 3)
    found = faults.totals(rows)
    assert (found["lost"], found["repeated"], found["unequal"]) == (0, 0, [])
    assert all(row.times > 0 for row in rows)


@pytest.mark.slow
def test_a_cluster_loses_nothing(tmp_path):
    pytest.importorskip("ray")
    found = faults.totals(faults.GROUPS["ray"](tmp_path, 2))
    assert (found["lost"], found["repeated"], found["unequal"]) == (0, 0, [])
