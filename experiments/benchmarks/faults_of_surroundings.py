"""What a search stands on gives way: the disk is full, the ledger is locked, the clock jumps."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from experiments.benchmarks.fault_rows import (
    FaultRow,
    Moment,
    ended,
    error_of,
    finish,
    has_paid,
    row_of,
    uninterrupted,
)
from experiments.benchmarks.faulty_search import FaultySearch
from records import Ledger

_EVALUATIONS = 120


def full_disks(folder: Path) -> list[FaultRow]:
    """The disk under the ledger is full in the middle of a search, and has room again."""
    expected = uninterrupted(folder / "whole", _EVALUATIONS)
    task = FaultySearch(folder=folder / "full", evaluations=_EVALUATIONS)
    with small_disk(folder / "disk") as disk:
        if disk is None:
            return [_file_limit(task, expected)]
        task = replace(task, ledger=disk / "run.sqlite")
        process = task.start()
        has_paid(task, _EVALUATIONS // 3, process)
        filler = disk / "filler"
        _fill(filler)
        process.join()
        said = error_of(task, process)
        moment = Moment.of(task)
        filler.unlink()
        finish(task)
        return [row_of("disk full under the ledger (tmpfs)", task, [moment], expected, seen=said)]


def _file_limit(task: FaultySearch, expected: FaultySearch) -> FaultRow:
    """In place of a full disk: the ledger's files may not grow any more."""
    said = ended(replace(task, largest_bytes=64 * 1024))
    moment = Moment.of(task)
    finish(task)
    return row_of("files may not grow (RLIMIT_FSIZE)", task, [moment], expected, seen=said)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk of a few megabytes in memory; None where this user cannot mount one."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        is_mounted = False
    try:
        yield folder if is_mounted else None
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(path: Path) -> None:
    """Writes until there is no room."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


def locked_ledgers(folder: Path) -> list[FaultRow]:
    """Another program locks the ledger, for a moment and for longer than it is waited for."""
    expected = uninterrupted(folder / "whole", _EVALUATIONS)
    task = FaultySearch(folder=folder / "moment", evaluations=_EVALUATIONS)
    process = task.start()
    has_paid(task, _EVALUATIONS // 3, process)
    with locked(task.path):
        time.sleep(2)
    moment = Moment.of(task)
    process.join()
    short = row_of(
        "ledger locked for 2 s", task, [moment], expected, seen=task.words() or "nothing: it waits"
    )
    task = FaultySearch(folder=folder / "long", evaluations=_EVALUATIONS, patience_s=0.5)
    process = task.start()
    has_paid(task, _EVALUATIONS // 3, process)
    with locked(task.path):
        process.join()
    said = error_of(task, process)
    moment = Moment.of(task)
    finish(task)
    long = "ledger locked for longer than is waited"
    return [short, row_of(long, task, [moment], expected, seen=said)]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another connection holds the ledger's write lock, as another program would."""
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def clock_jumps(folder: Path) -> list[FaultRow]:
    """The wall clock is set to and fro all the time, also across a kill."""
    expected = uninterrupted(folder / "whole", _EVALUATIONS)
    task = FaultySearch(folder=folder / "jumps", evaluations=_EVALUATIONS, clock_jumps=True)
    process = task.start()
    has_paid(task, _EVALUATIONS // 3, process)
    process.kill()
    process.join()
    moment = Moment.of(task)
    finish(task)
    jumps = _backwards(task.path)
    return [
        row_of(
            "wall clock jumps, and kill -9",
            task,
            [moment],
            expected,
            seen=task.words() or "nothing",
            times=jumps,
        )
    ]


def _backwards(path: Path) -> int:
    """How often an observation was recorded before the one in front of it."""
    with Ledger.open(path, read_only=True) as ledger:
        times = [when for when, _ in ledger.dated_observations()]
    return sum(later < earlier for earlier, later in itertools.pairwise(times))
