"""Ledgers on a PostgreSQL server; those that start one are slow."""

import os
import random
import signal
import socket
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa

from records import (
    BadInputError,
    CorruptFileError,
    ExistingRunError,
    Ledger,
    LockedRunError,
    MissingFileError,
    Observation,
    StorageError,
    postgres,
    with_run,
    without_secrets,
)
from records.ledger_tables import observation_row
from tests.records.postgres_server import PASSWORD, rows, running_server

GROUP = 40

WRITER = f"""
import sys
from records import Ledger, Observation
with Ledger.open(sys.argv[1]) as ledger:
    print("open", flush=True)
    step = len(ledger) // {GROUP}
    while True:
        ledger.append([
            Observation(genes=(step, i), metric="accuracy", value=step / 7, step=step)
            for i in range({GROUP})
        ])
        step += 1
        print(step, flush=True)
"""


def observed(index, **fields):
    return Observation(**{"genes": (index,), "metric": "accuracy", "value": 0.5, **fields})


# ---- without a server -------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["postgresql://u:secret@h/x", "postgres://u:secret@h/x"])
def test_without_a_driver_the_command_that_installs_it_is_named(url, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(postgres, "import_module", missing)

    with pytest.raises(BadInputError, match=r"pip install 'hwnas\[postgres\]'") as error:
        Ledger.create(url, {})

    assert "secret" not in str(error.value)


def test_a_driver_that_was_asked_for_is_not_replaced(monkeypatch):
    monkeypatch.setattr(postgres, "DRIVERS", ("no_such_driver",))

    with pytest.raises(BadInputError, match="no driver for PostgreSQL is installed"):
        Ledger.create("postgresql+no_such_driver://u:secret@h/x", {})


def test_the_plain_url_takes_the_driver_that_is_there(monkeypatch):
    class Psycopg2:
        pass

    def only_the_second(name):
        if name == "psycopg":
            raise ImportError(name)
        return Psycopg2

    assert postgres._with_driver(sa.make_url("postgres://h/x")).drivername == "postgresql+psycopg"
    monkeypatch.setattr(postgres, "import_module", only_the_second)
    assert postgres._with_driver(sa.make_url("postgresql://h/x")).drivername == (
        "postgresql+psycopg2"
    )
    other = sa.make_url("postgresql+pg8000://h/x")
    assert postgres._with_driver(other) == other


@pytest.mark.parametrize("run", ["a b", "x" * 58, 'a";drop', "-a", "a&run=b"])
def test_names_that_no_run_can_have_are_refused(run):
    with pytest.raises(BadInputError, match=r"\?run= must name one run"):
        Ledger.create(f"postgresql://h/x?run={run}", {})


def test_a_run_is_named_after_its_folder_unless_the_url_names_one():
    assert with_run("postgresql://u:p@h/x", "digits") == "postgresql://u:p@h/x?run=digits"
    assert with_run("postgres://h/x?run=mine", "digits") == "postgres://h/x?run=mine"
    assert with_run("sqlite:///a.db", "digits") == "sqlite:///a.db"
    assert postgres.schema_of("postgresql://h/x") == "hwnas_main"
    assert postgres.schema_of("postgresql://h/x?run=" + "y" * 57) == "hwnas_" + "y" * 57


def test_what_files_keep_of_a_url_has_no_secrets():
    url = "postgresql://u:secret@h/x?run=a&password=secret&sslkey=secret"

    assert without_secrets(url) == "postgresql://u@h/x?run=a"
    assert without_secrets("/some/file.db") == "/some/file.db"


def test_a_server_that_is_not_there_is_said_to_be():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        for use in (Ledger.open, lambda url: Ledger.create(url, {})):
            with pytest.raises(StorageError, match=r"check the server and the URL") as error:
                use(f"postgresql://u:secret@127.0.0.1:{port}/x?password=secret")

    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


# ---- with a server ----------------------------------------------------------------------------

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    with running_server() as running:
        yield running


@pytest.fixture
def url(server, request):
    number = abs(hash(request.node.name)) % 10**12
    return server.url(f"test-{number}")


@slow
def test_what_is_appended_is_what_is_read(url):
    header = {"seed": 3, "config": {"sizes": [8, 16]}, "ü": None}
    first = [
        observed(
            1, target="brett ü", unit="ms", dispersion=0.1, seconds=1e-300, raw=(0.1, 5e-324)
        ),
        observed(2**40, value=-1.7976931348623157e308, step=2**63 - 1, genes=(0, 2**40)),
        observed(3, value=None, status="failed", reason="it said 'no'; \0 %s %(x)s ?", genes=()),
    ]
    with Ledger.create(url, header) as ledger:
        ledger.append(first)
        ledger.append([])
        ledger.note("phase finished", {"name": "search"})
    with Ledger.open(url) as ledger:
        ledger.append([observed(index, metric="late") for index in range(1000)])
        assert ledger.run == header
        assert ledger.observations()[:3] == first
        assert [o.genes for o in ledger.observations("late")] == [(i,) for i in range(1000)]
        assert [o.genes for o in ledger.observations(status="failed")] == [()]
        assert ledger.notes("phase finished") == [{"name": "search"}]
        assert len(ledger) == 1003


@slow
def test_a_database_has_many_runs_and_none_twice(server):
    for name in ("run.a", "Run-B"):
        with Ledger.create(server.url(name), {"name": name}) as ledger:
            ledger.append([observed(1)] * len(name))
    for name in ("run.a", "Run-B"):
        with pytest.raises(
            ExistingRunError, match=r"--resume, or choose another name with \?run="
        ):
            Ledger.create(server.url(name), {})
        with Ledger.open(server.url(name), read_only=True) as ledger:
            assert (ledger.run, len(ledger)) == ({"name": name}, 5)
            assert PASSWORD not in ledger.location
    with pytest.raises(MissingFileError, match=r"no such run.*there is: .*Run-B.*run\.a"):
        Ledger.open(server.url("c"))
    assert "hwnas_c" not in server.ask("SELECT schema_name FROM information_schema.schemata")


@slow
def test_a_failed_create_leaves_nothing(server, url, monkeypatch):
    def refuse(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("records.postgres.refuse_changes", refuse)
    with pytest.raises(KeyboardInterrupt):
        Ledger.create(url, {})
    monkeypatch.undo()

    assert postgres.schema_of(url) not in server.ask("SELECT nspname FROM pg_namespace")
    Ledger.create(url, {}).close()


@slow
def test_what_is_no_ledger_is_refused_and_left_alone(server, url):
    schema = postgres.schema_of(url)
    server.ask(f'CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}".photos (name text)')

    with pytest.raises(CorruptFileError, match="not a ledger: it has no table hwnas_note"):
        Ledger.open(url)
    with pytest.raises(StorageError, match="password authentication failed"):
        Ledger.open(server.url(password="wrong"))

    assert server.ask(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'") == "1"


@slow
@pytest.mark.parametrize("table", ["hwnas_run", "hwnas_observation", "hwnas_note"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET {}", "TRUNCATE {}"])
def test_no_program_can_change_a_row(server, url, table, change):
    column = {"hwnas_run": "header = ''", "hwnas_note": "value = ''"}.get(table, "step = 5")
    with Ledger.create(url, {"seed": 1}) as ledger:
        ledger.append([observed(1)])
        ledger.note("a", 1)
    with pytest.raises(subprocess.CalledProcessError) as error:
        server.ask(change.format(f'"{postgres.schema_of(url)}".{table}', column))
    assert "the ledger is append-only" in error.value.stderr
    with Ledger.open(url, read_only=True) as ledger:
        assert (ledger.run, len(ledger), ledger.notes("a")) == ({"seed": 1}, 1, [1])


@slow
def test_one_writer_and_any_readers(url):
    with Ledger.create(url, {}) as ledger:
        ledger.append([observed(1)])
        with pytest.raises(LockedRunError, match=f"hwnas process {os.getpid()} on "):
            Ledger.open(url)
        script = f"from records import Ledger; Ledger.create({url!r}, {{}})"
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert f"is being written to by hwnas process {os.getpid()} on " in other.stderr
        with Ledger.open(url, read_only=True) as reader:
            ledger.append([observed(2)])
            assert len(reader) == 2
            with pytest.raises(BadInputError, match="read-only"):
                reader.append([observed(3)])
            with (
                pytest.raises(sa.exc.DBAPIError, match="read-only transaction"),
                reader._engine.begin() as connection,
            ):
                reader._store.insert(connection, [observation_row(observed(3), "2026-01-01")])
    Ledger.open(url).close()


@slow
def test_a_driver_that_lost_its_session_cannot_write(server, url):
    with Ledger.create(url, {}) as cut_off:
        cut_off.append([observed(1)])
        own = f"hwnas process {os.getpid()} on {socket.gethostname()[:30]}"
        server.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE application_name = '{own}'"
        )
        with Ledger.open(url) as successor:
            successor.append([observed(2)])
            with pytest.raises(StorageError, match="cannot append to the ledger"):
                cut_off.append([observed(3)])
            for _ in range(2):
                with pytest.raises(StorageError, match=r"with it the right to write.*--resume"):
                    cut_off.append([observed(4)])
            successor.append([observed(5)])
            assert [o.genes for o in successor.observations()] == [(1,), (2,), (5,)]


@slow
@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_server_that_restarts_loses_no_group(server, url, how):
    with Ledger.create(url, {}) as ledger:
        ledger.append([observed(1), observed(2)])
        reader = Ledger.open(url, read_only=True)
        server.stop(how)
        try:
            with pytest.raises(StorageError, match="check the server"):
                ledger.append([observed(3), observed(4)])
        finally:
            server.start()
        with pytest.raises(StorageError, match="open it again"):
            ledger.append([observed(5)])
        with reader:
            assert len(reader) == 2
    with Ledger.open(url) as ledger:
        ledger.append([observed(6)])
        assert [o.genes for o in ledger.observations()] == [(1,), (2,), (6,)]


@slow
def test_a_killed_driver_leaves_whole_groups_and_no_lock(url):
    Ledger.create(url, {}).close()
    delays = random.Random(0)
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline() == "open\n"
        writer.stdout.readline()
        time.sleep(delays.uniform(0, 0.2))
        writer.send_signal(signal.SIGKILL)
        said = [int(line) for line in writer.stdout.read().split() if line.isdigit()]
        writer.wait()
        with opened_soon(url) as ledger:
            found = ledger.observations()
        assert len(found) % GROUP == 0
        assert len(found) >= max(said, default=1) * GROUP
        assert [o.step for o in found] == [i // GROUP for i in range(len(found))]


def opened_soon(url):
    """The ledger, as soon as the server has noticed that the writer is dead."""
    end = time.monotonic() + 60
    while True:
        try:
            return Ledger.open(url)
        except LockedRunError:
            assert time.monotonic() < end, "a dead driver keeps its lock"
            time.sleep(0.05)


@slow
def test_commits_wait_for_the_disk_also_where_the_server_does_not(server, url):
    server.ask("ALTER ROLE hwnas SET synchronous_commit = off")
    try:
        with Ledger.create(url, {}) as ledger, ledger._engine.connect() as connection:
            assert connection.scalar(sa.text("SHOW synchronous_commit")) == "on"
    finally:
        server.ask("ALTER ROLE hwnas RESET synchronous_commit")
    assert rows(url) == 0
