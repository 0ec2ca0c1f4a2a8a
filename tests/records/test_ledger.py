import contextlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records import (
    BadInputError,
    CorruptFileError,
    ExistingRunError,
    Ledger,
    LockedRunError,
    MissingFileError,
    Observation,
    StorageError,
)

GROUP = 3

# Commits groups of three for ever and says how many are committed; its forked child outlives it.
WRITER = f"""
import os, sys, time
from records import Ledger, Observation
path = sys.argv[1]
ledger = Ledger.open(path) if os.path.exists(path) else Ledger.create(path, {{"seed": 1}})
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
step = len(ledger) // {GROUP}
while True:
    ledger.append([
        Observation(genes=(step, index), metric="accuracy", value=step / 7, step=step)
        for index in range({GROUP})
    ])
    step += 1
    print(step, flush=True)
"""

# Writes half a transaction onto the disk and waits to be killed.
HALF_WRITER = """
import sys, time
from records import Ledger, Observation
from records.ledger_tables import observation_row
ledger = Ledger.open(sys.argv[1])
row = observation_row(Observation(genes=(9,), metric="x" * 500, value=1.0), "2026-01-01")
with ledger._transaction("append to") as connection:
    connection.exec_driver_sql("PRAGMA cache_size=1")
    ledger._store.insert(connection, [row] * 5000)
    print("half", flush=True)
    time.sleep(60)
"""


def observed(index, **fields):
    return Observation(**{"genes": (index,), "metric": "accuracy", "value": 0.5, **fields})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


observations = st.builds(
    lambda fields, outcome: Observation(**fields, **outcome),
    st.fixed_dictionaries(
        {
            "genes": st.lists(st.integers(0, 2**40), max_size=5).map(tuple),
            "metric": st.text(min_size=1, max_size=5),
            "target": st.text(max_size=5),
            "unit": st.text(max_size=3),
            "step": st.integers(0, 2**63 - 1),
            "seconds": st.floats(0, 1e300),
            "weights_hash": st.text(max_size=5),
            "space_hash": st.text(max_size=5),
            "raw": st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(
                tuple
            ),
            "dispersion": st.none() | st.floats(0, 1e300),
        }
    ),
    st.fixed_dictionaries({"value": st.floats(allow_nan=False, allow_infinity=False)})
    | st.fixed_dictionaries(
        {"value": st.none(), "status": st.just("failed"), "reason": st.text(min_size=1)}
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(observations, max_size=3), max_size=3))
def test_what_is_appended_is_what_is_read(groups):
    expected = [observation for group in groups for observation in group]
    with Ledger.create("sqlite://", {}) as ledger:
        for group in groups:
            ledger.append(group)
        assert ledger.observations() == expected
        assert len(ledger) == len(expected)
        for wanted in expected:
            assert ledger.observations(wanted.metric, wanted.target, wanted.status) == [
                observation
                for observation in expected
                if (observation.metric, observation.target, observation.status)
                == (wanted.metric, wanted.target, wanted.status)
            ]


def test_a_closed_ledger_reopens_and_goes_on(path):
    header = {"seed": 3, "config": {"epochs": 2, "sizes": (8, 16)}, "ü": None}
    with Ledger.create(path, header) as ledger:
        ledger.append([observed(1), observed(2)])
        ledger.note("phase finished", "supernet")
    with Ledger.open(str(path)) as ledger:
        assert ledger.run == {"seed": 3, "config": {"epochs": 2, "sizes": [8, 16]}, "ü": None}
        ledger.append([])
        ledger.append([observed(3, value=None, status="failed", reason="crashed")])
        ledger.note("phase finished", {"name": "search", "asked": 3})
        assert [item.genes for item in ledger.observations()] == [(1,), (2,), (3,)]
        assert [item.genes for item in ledger.observations(status="failed")] == [(3,)]
        assert ledger.observations(target="gpu") == []
        assert ledger.notes("phase finished") == ["supernet", {"name": "search", "asked": 3}]
        assert ledger.notes("other") == []
    assert [item.name for item in path.parent.iterdir()] == ["ledger.sqlite"]


def test_the_header_cannot_be_changed_through_its_copy():
    with Ledger.create("sqlite://", {"seed": 3}) as ledger:
        ledger.run["seed"] = 4
        assert ledger.run == {"seed": 3}


def test_observations_carry_their_time(path):
    before = datetime.now(UTC)
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
        [(recorded_at, observation)] = ledger.dated_observations()
    assert observation == observed(1)
    assert before - timedelta(seconds=1) < recorded_at <= datetime.now(UTC)


def test_a_closed_ledger_is_not_used_by_accident(path):
    ledger = Ledger.create(path, {})
    ledger.close()
    ledger.close()
    with pytest.raises(BadInputError, match="closed"):
        ledger.append([observed(1)])


def test_a_killed_run_has_every_committed_group(path):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    child = int(writer.stdout.readline())
    try:
        for _ in range(40):
            writer.stdout.readline()
        with Ledger.open(path, read_only=True) as reader:
            assert len(reader) >= 40 * GROUP
        writer.send_signal(signal.SIGKILL)
        committed = max(int(line) for line in ["40", *writer.stdout.read().split()])
        assert writer.wait() == -signal.SIGKILL
        with Ledger.open(path) as ledger:  # although the writer's child is still alive
            found = ledger.observations()
            ledger.append([observed(1, metric="after")])
            assert len(ledger) == len(found) + 1
    finally:
        os.kill(child, signal.SIGKILL)
        writer.kill()
    assert len(found) in (committed * GROUP, (committed + 1) * GROUP)
    for index, observation in enumerate(found):
        step = index // GROUP
        assert observation == observed(
            step, genes=(step, index % GROUP), value=step / 7, step=step
        )


@pytest.mark.parametrize("read_only", [True, False])
def test_half_a_transaction_disappears(path, read_only):
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
    writer = subprocess.Popen(
        [sys.executable, "-c", HALF_WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "half\n"
    log = path.with_name(path.name + "-wal")
    assert log.stat().st_size > 1_000_000  # the disk really holds the uncommitted rows
    writer.kill()
    writer.wait()
    writer.stdout.close()
    with Ledger.open(path, read_only=read_only) as ledger:
        assert ledger.observations() == [observed(1)]


def test_one_writer_and_any_readers(path):
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
        script = f"from records import Ledger; Ledger.open({str(path)!r})"
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert other.returncode == 1
        assert f"is being written to by process {os.getpid()} on " in other.stderr
        with pytest.raises(LockedRunError, match="this process"):
            Ledger.open(path)
        with Ledger.open(path, read_only=True) as reader:
            assert len(reader) == 1
            ledger.append([observed(2)])
            assert len(reader) == 2
            with pytest.raises(BadInputError, match="read-only"):
                reader.append([observed(3)])
            with pytest.raises(BadInputError, match="read-only"):
                reader.note("a", 1)
        assert len(ledger) == 2
    Ledger.open(path).close()


def test_a_ledger_that_was_only_looked_at_is_as_it_was_to_the_byte(path):
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
    before = path.read_bytes()
    with Ledger.open(path) as ledger:
        assert len(ledger) == 1
    assert path.read_bytes() == before


def test_create_refuses_what_exists(path):
    with Ledger.create(path, {"seed": 1}) as ledger:
        ledger.append([observed(1)])
    for location in (path, f"sqlite:///{path}"):
        with pytest.raises(ExistingRunError, match="--resume, or choose another folder"):
            Ledger.create(location, {"seed": 2})
    with Ledger.open(f"sqlite:///{path}") as ledger:
        assert ledger.run == {"seed": 1}
        assert len(ledger) == 1


def test_create_refuses_the_journal_of_a_removed_ledger(path):
    path.with_name("ledger.sqlite-journal").touch()
    with pytest.raises(ExistingRunError, match="journal"):
        Ledger.create(path, {})


def test_a_failed_create_leaves_nothing(path, monkeypatch):
    with pytest.raises(BadInputError, match=r"\$\.seed is nan"):
        Ledger.create(path, {"seed": float("nan")})

    def refuse(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match="free some space"):
        Ledger.create(path, {})
    assert list(path.parent.iterdir()) == []
    monkeypatch.undo()
    Ledger.create(path, {}).close()


def make_foreign(path, statement):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(statement)


def test_foreign_files_are_refused_and_left_alone(path):
    path.write_text("These are my notes, not a database. " * 100)
    with pytest.raises(CorruptFileError, match="not a SQLite file"):
        Ledger.open(path)
    with pytest.raises(ExistingRunError):
        Ledger.create(path, {})
    assert path.read_text().startswith("These are my notes")
    path.unlink()
    path.touch()
    with pytest.raises(CorruptFileError, match="no table hwnas_note"):
        Ledger.open(path)
    path.unlink()
    make_foreign(path, "CREATE TABLE photos (name TEXT);")
    with pytest.raises(CorruptFileError, match="not a ledger: it has no table hwnas_note"):
        Ledger.open(path, read_only=True)
    make_foreign(
        path,
        "CREATE TABLE hwnas_run (a); CREATE TABLE hwnas_note (a); "
        "CREATE TABLE hwnas_observation (a);",
    )
    with pytest.raises(CorruptFileError, match="damaged or no ledger"):
        Ledger.open(path)
    path.unlink()
    with pytest.raises(MissingFileError, match="no such file"):
        Ledger.open(path)
    with pytest.raises(CorruptFileError, match="is a folder"):
        Ledger.open(path.parent)
    assert list(path.parent.iterdir()) == []


def test_another_schema_version_is_refused(path, monkeypatch):
    monkeypatch.setattr("records.ledger_store.SCHEMA_VERSION", 2)
    Ledger.create(path, {}).close()
    monkeypatch.undo()
    with pytest.raises(CorruptFileError, match="schema version 2, this hwnas reads 1"):
        Ledger.open(path)


def test_damaged_pages_and_rows_are_reported(path):
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(index, reason="x" * 200) for index in range(500)])
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(whole[:half] + b"\xff" * (len(whole) - half))
    with Ledger.open(path) as ledger, pytest.raises(CorruptFileError, match="damaged"):
        ledger.observations()
    path.write_bytes(whole)
    make_foreign(
        path,
        "INSERT INTO hwnas_observation SELECT 501, recorded_at, '[1', metric, target, unit, value,"
        " dispersion, status, reason, step, seconds, weights_hash, space_hash, raw"
        " FROM hwnas_observation WHERE id = 1;",
    )
    with Ledger.open(path) as ledger, pytest.raises(CorruptFileError, match="observation 501"):
        ledger.observations()


@pytest.mark.parametrize("table", ["hwnas_run", "hwnas_observation", "hwnas_note"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET rowid = 99"])
def test_no_program_can_change_a_row(path, table, change):
    with Ledger.create(path, {"seed": 1}) as ledger:
        ledger.append([observed(1)])
        ledger.note("a", 1)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        make_foreign(path, change.format(table) + ";")
    with Ledger.open(path) as ledger:
        assert (ledger.run, len(ledger), ledger.notes("a")) == ({"seed": 1}, 1, [1])


def test_a_full_disk_loses_the_group_and_nothing_before_it(path):
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 4096, limits[1]))
        try:
            with pytest.raises(StorageError, match="cannot append to the ledger") as caught:
                ledger.append([observed(index, unit="x" * 200) for index in range(2000)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert str(path) in str(caught.value)
        assert ledger.observations() == [observed(1)]
        ledger.append([observed(2)])
    with Ledger.open(path) as ledger:
        assert ledger.observations() == [observed(1), observed(2)]


def test_a_really_full_disk_loses_the_group_and_nothing_before_it(small_disk):
    path = small_disk / "ledger.sqlite"
    rows = [observed(index, unit="x" * 300) for index in range(100)]
    with Ledger.create(path, {}) as ledger:
        refused = None
        for _ in range(1000):
            before = len(ledger)
            try:
                ledger.append(rows)
            except StorageError as error:
                refused = str(error)
                break
        assert refused is not None
        assert "free" in refused
        kept = len(ledger)
        assert kept == before > 0
        with pytest.raises(StorageError, match=r"SQLITE_(FULL|IOERR)"):
            ledger.append(rows)
        (small_disk / "ballast").unlink()
        ledger.append(rows)
        assert ledger.observations() == rows * (kept // len(rows) + 1)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one MiB, a third of which is ballast."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small file system")
    try:
        (folder / "ballast").write_bytes(bytes(350_000))
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_file_that_another_program_holds_is_said_to_be(path, monkeypatch):
    monkeypatch.setattr("records.sqlite_file._BUSY_SECONDS", 0.05)
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match=r"SQLITE_BUSY.*another program holds the file"):
                ledger.append([observed(2)])
            assert len(ledger) == 1  # reading goes on
            other.execute("ROLLBACK")
        ledger.append([observed(3)])
        assert [o.genes for o in ledger.observations()] == [(1,), (3,)]


def test_a_long_reading_does_not_hold_the_writer_up(path, monkeypatch):
    monkeypatch.setattr("records.sqlite_file._BUSY_SECONDS", 0.05)
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            count = "SELECT count(*) FROM hwnas_observation"
            assert reader.execute(count).fetchone() == (1,)
            ledger.append([observed(2)])
            assert reader.execute(count).fetchone() == (1,)  # what it began to read
        assert len(ledger) == 2


def test_a_clock_that_is_set_back_does_not_change_the_order(path, monkeypatch):
    times = iter(["2026-03-29T03:00:00.000001+00:00", "2026-03-29T02:00:00.000000+00:00"])
    with Ledger.create(path, {}) as ledger:
        monkeypatch.setattr("records.ledger._now", lambda: next(times))
        ledger.append([observed(1)])
        ledger.append([observed(2)])
    with Ledger.open(path, read_only=True) as ledger:
        (first, early), (second, late) = ledger.dated_observations()
    assert (early.genes, late.genes) == ((1,), (2,))
    assert second < first


@pytest.mark.slow
def test_runs_killed_at_any_moment_leave_whole_groups(path):
    delays = random.Random(0)
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        child = int(writer.stdout.readline())
        time.sleep(delays.uniform(0, 0.1))
        writer.kill()
        said = [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        os.kill(child, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        with Ledger.open(path, read_only=True) as ledger:
            found = [(o.genes, o.step) for o in ledger.observations()]
        assert len(found) % GROUP == 0
        assert len(found) >= max(said, default=0) * GROUP
        assert found == [((i // GROUP, i % GROUP), i // GROUP) for i in range(len(found))]


def test_a_closed_ledger_is_one_plain_file_and_an_open_one_has_its_log_beside_it(path):
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
        names = sorted(item.name.removeprefix(path.name) for item in path.parent.iterdir())
        assert names == ["", "-shm", "-wal", ".lock"]
    assert journal(path) == "delete"
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def journal(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA journal_mode").fetchone()[0]


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs"])
def test_on_a_disk_that_other_machines_read_there_is_no_log(path, kind, monkeypatch):
    Ledger.create(path, {}).close()
    shutil.copy(path, path.with_name("copy"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # as another machine may have left it
    disks = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=str(path.parent.resolve()), fstype=kind),
    ]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: disks)
    with Ledger.open(path) as ledger:
        ledger.append([observed(1)])
        assert journal(path) == "delete"
        assert len(ledger) == 1


READER = """
import os, sys
from records import Ledger
Ledger.create("sqlite://", {}).close()  # all that is imported is, before root gives its rights up
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
assert not os.access(os.path.dirname(sys.argv[1]), os.W_OK)
with Ledger.open(sys.argv[1], read_only=True) as ledger:
    print(len(ledger))
"""


@pytest.fixture
def public_folder():
    """A folder that every user can see."""
    folder = Path(tempfile.mkdtemp(prefix="hwnas-ledger-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def leave_as_by_a_kill(ledger, path):
    """Closes a ledger so that its files are those that a kill would have left."""
    files = [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]
    contents = [file.read_bytes() for file in files]
    ledger.close()
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)


@pytest.mark.parametrize("left", ["by a reader", "by a kill"])
def test_who_may_only_read_the_folder_reads_all_of_it(public_folder, left):
    path = public_folder / "ledger.sqlite"
    ledger = Ledger.create(path, {})
    ledger.append([observed(1), observed(2)])
    if left == "by a kill":
        leave_as_by_a_kill(ledger, path)
    else:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT name FROM sqlite_master").fetchone()
            ledger.close()
    assert path.read_bytes()[18:20] == b"\2\2"  # the file's header says that it wants a log
    public_folder.chmod(0o555)
    before = sorted(item.name for item in public_folder.iterdir())

    read = subprocess.run(
        [sys.executable, "-c", READER, str(path)], capture_output=True, text=True
    )

    assert read.stdout == "2\n", read.stderr
    assert sorted(item.name for item in public_folder.iterdir()) == before


LATE_READER = """
import os, sys
from records import Ledger
Ledger.create("sqlite://", {}).close()  # all that is imported is, before root gives its rights up
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
ledger = Ledger.open(sys.argv[1], read_only=True)
for _ in range(2):
    print(len(ledger), os.access(sys.argv[1], os.W_OK), flush=True)
    sys.stdin.readline()
"""


def test_a_reader_that_stays_after_the_writer_leaves_one_plain_file(public_folder):
    path = public_folder / "ledger.sqlite"
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
        path.chmod(0o644)
        reader = subprocess.Popen(
            [sys.executable, "-c", LATE_READER, str(path)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        may_write = str(os.geteuid() != 0)  # the user of the tests owns the file
        assert reader.stdout.readline() == f"1 {may_write}\n"
        ledger.append([observed(2)])
    assert [item.name for item in public_folder.iterdir()] == [path.name]
    out, _ = reader.communicate("\n\n")
    assert out == f"2 {may_write}\n"
    assert [item.name for item in public_folder.iterdir()] == [path.name]
    assert journal(path) == "delete"


def test_what_a_reader_keeps_beside_the_file_goes_with_the_next_who_may_write(path):
    ledger = Ledger.create(path, {})
    ledger.append([observed(1)])
    leave_as_by_a_kill(ledger, path)
    with Ledger.open(path, read_only=True) as reader:
        assert len(reader) == 1
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    Ledger.open(path).close()
    assert journal(path) == "delete"


def test_a_forked_child_leaves_the_ledger_to_its_parent(path):
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                ledger.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert path.with_name(path.name + "-wal").exists()
        ledger.append([observed(2)])
        with pytest.raises(LockedRunError):
            Ledger.open(path)
    with Ledger.open(path) as ledger:
        assert len(ledger) == 2


def test_a_read_only_database_is_found_at_the_first_write(path):
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
        with ledger._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only=ON")
        with pytest.raises(StorageError, match="SQLITE_READONLY"):
            ledger.append([observed(1)])


def test_a_read_only_file_is_found_at_opening(path, monkeypatch):
    Ledger.create(path, {}).close()
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)  # root may write all
    with pytest.raises(StorageError, match="make it writable"):
        Ledger.open(path)
    with Ledger.open(path, read_only=True) as ledger:
        assert len(ledger) == 0
    assert [item.name for item in path.parent.iterdir()] == ["ledger.sqlite"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to read-only folders")
def test_a_read_only_folder_opens_for_reading_alone(path):
    Ledger.create(path, {}).close()
    path.parent.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="writable"):
            Ledger.open(path)
        with Ledger.open(path, read_only=True) as ledger:
            assert len(ledger) == 0
    finally:
        path.parent.chmod(0o700)


def test_names_that_mean_something_in_a_url_are_only_names(tmp_path):
    path = tmp_path / "a b?mode=memory#%41.sqlite"
    with Ledger.create(path, {}) as ledger:
        ledger.append([observed(1)])
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    with Ledger.open(path) as ledger:
        assert len(ledger) == 1


@pytest.mark.parametrize(
    "url",
    ["nonsense://u:secret@host/x", "sqlite:///a?mode=ro", "://", "mysql+nodriver://u:secret@h"],
)
def test_unusable_urls_are_refused_without_the_password(url):
    with pytest.raises(BadInputError) as caught:
        Ledger.create(url, {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "location", ["postgresql//host/runs", "postgresql:/host/runs", "postgresql+psycopg//h/d"]
)
def test_a_url_that_lacks_its_colon_or_slashes_is_no_file(location, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match="neither a path nor a URL"):
        Ledger.check_free(location)
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_can_be_looked_for_before_it_is_made(tmp_path):
    path = tmp_path / "ledger.db"
    Ledger.check_free(path)
    assert not path.exists()
    Ledger.create(path, {}).close()
    with pytest.raises(ExistingRunError, match=r"ledger\.db already exists"):
        Ledger.check_free(path)


def test_a_server_out_of_reach_is_told_before_the_work():
    pytest.importorskip("psycopg")
    with pytest.raises(StorageError, match="cannot reach the ledger"):
        Ledger.check_free("postgresql://nobody@127.0.0.1:9/none?run=a")
