"""A PostgreSQL server of the tests' own: in a temporary folder, on a free port, not by root."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from records import Ledger

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Where Debian has the programs of each version; the last is the newest as a rule."""

USER = "hwnas"
PASSWORD = "open sesame"


class Server:
    """A running server; `url(name)` is the ledger of a run on it.

    Args:
        folder: An existing empty folder, for the server alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._data = folder / "data"
        secret = folder / "password"
        secret.write_text(PASSWORD)
        for path in (folder, secret):
            shutil.chown(path, _account())
        self._run(
            "initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", "--pwfile", secret,
            "--no-sync", "-E", "UTF8", "--locale=C",
        )  # fmt: skip
        self.start()

    def url(self, run: str = "first", password: str = PASSWORD) -> str:
        """The ledger of a run, with the password in the URL."""
        secret = password.replace(" ", "%20")
        return f"postgresql://{USER}:{secret}@127.0.0.1:{self.port}/postgres?run={run}"

    def start(self) -> None:
        """Starts the server and waits until it answers; commits reach the disk as by default."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self._run(
            "pg_ctl", "-D", self._data, "-w", "-l", self.folder / "log", "-o", options, "start"
        )

    def stop(self, how: str = "fast") -> None:
        """Stops the server: `fast` ends its sessions, `immediate` is like a crash."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", how, "stop")

    def ask(self, statement: str) -> str:
        """What the server answers to a statement, as `psql` prints it."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres"]
        found = subprocess.run(
            [_program("psql"), *where, "-Atc", statement],
            capture_output=True,
            text=True,
            check=True,
            env={"PGPASSWORD": PASSWORD, "PATH": os.environ["PATH"]},
        )
        return found.stdout.strip()

    def _run(self, program: str, *arguments: object) -> None:
        command = [_program(program), *map(str, arguments)]
        if os.geteuid() == 0:
            command = ["runuser", "-u", _account(), "--", *command]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """A server that is stopped and removed at the end; skips where PostgreSQL is not installed."""
    if _found("initdb") is None:
        pytest.skip(
            "PostgreSQL is not installed: apt-get install postgresql (make test-slow does)"
        )
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    folder = Path(tempfile.mkdtemp(prefix="hwnas-postgres-"))
    try:
        server = Server(folder)
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rows(url: str) -> int:
    """How many observations a run has."""
    with Ledger.open(url, read_only=True) as ledger:
        return len(ledger)


def _program(name: str) -> str:
    found = _found(name)
    assert found is not None, name
    return found


def _found(name: str) -> str | None:
    return shutil.which(
        name, path=os.pathsep.join([*map(str, reversed(INSTALLED)), os.environ["PATH"]])
    )


def _account() -> str:
    """Who the server runs as: whoever runs the tests, or for root somebody with no rights."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
