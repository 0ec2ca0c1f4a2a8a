"""What `RayRunner` starts on the Ray node that has the board.

It writes the kit's files to a folder there and runs the kit's script in a process of its own, in
which nothing of Ray takes part. This module is sent to the node as it is (pickled by value), with
`deployment.runners.command`; both need the standard library only, so the node needs Ray and
onnxruntime, and nothing of hwnas.
"""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import Any

from deployment.runners.command import CommandFailedError, run_command

Outcome = tuple[int | None, str]
"""The exit code, None where the script was silent for too long, and what to say of it."""

Progress = tuple[list[str], bytes | None, Outcome | None]

WATCHED = """\
# Runs measure.py, and ends with the Ray worker that started it, also where that is killed.
import os, runpy, shutil, sys, threading

folder = os.path.dirname(os.path.abspath(__file__))


def end_with_worker():
    os.read(0, 1)  # returns when the worker's end of the pipe is closed
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(130)


threading.Thread(target=end_with_worker, daemon=True).start()
sys.argv = [os.path.join(folder, "measure.py")]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class KitWorker:
    """Measures one kit; a Ray actor is made of it for every measurement."""

    def __init__(self) -> None:
        self.folder = ""
        self.lines: queue.Queue[str] = queue.Queue()
        self.outcome: Outcome | None = None
        self.alive: int | None = None  # the end of a pipe; the script ends when it is closed
        self.thread: threading.Thread | None = None
        self.seen = 0

    def machine(self) -> str:
        """What tells this machine from others: rounds of two machines must not be mixed."""
        texts = [platform.node()]
        for path in ("/etc/machine-id", "/proc/device-tree/serial-number"):
            with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
                texts.append(file.read().strip("\0\n "))
        return " ".join(texts)

    def begin(
        self,
        files: Sequence[tuple[str, Any]],
        earlier: bytes | None,
        python: str,
        silence_s: float,
    ) -> None:
        """Starts the script.

        Args:
            files: The kit's files: names and references to what they hold.
            earlier: The results of a run that broke off, which is continued.
            python: The interpreter; "" for the one of this worker.
            silence_s: How long the script may be silent.
        """
        import ray

        _remove_leftovers()
        self.folder = tempfile.mkdtemp(prefix=f"{_own_prefix()}{os.getpid()}-")
        try:
            for name, data in files:  # one at a time: together they may not fit into memory
                self._write(name, ray.get(data))
            self._write("watched.py", WATCHED.encode())
            if earlier is not None:
                self._write("results.json", earlier)
                self._fresh_results()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        theirs, self.alive = os.pipe()
        program = os.path.expanduser(python) or sys.executable
        words = [program, "-u", os.path.join(self.folder, "watched.py")]
        self.thread = threading.Thread(
            target=self._run, args=(words, silence_s, theirs), daemon=True
        )
        self.thread.start()

    def follow(self, wait_s: float) -> Progress:
        """Waits for what happens next.

        Args:
            wait_s: How long, at most.

        Returns:
            The lines that the script printed since, its results if they changed, and how it ended,
            if it did.
        """
        outcome = self.outcome  # before the lines, so that none is left behind
        lines: list[str] = []
        with contextlib.suppress(queue.Empty):
            lines.append(self.lines.get(timeout=0 if outcome else wait_s))
            while True:
                lines.append(self.lines.get_nowait())
        return [line for line in lines if line], self._fresh_results(), outcome

    def stop(self) -> bytes | None:
        """Ends the script, if it still runs, and removes the folder; returns its last results."""
        results = self._fresh_results()
        if self.alive is not None:
            os.close(self.alive)
            self.alive = None
        if self.thread is not None:
            self.thread.join(5.0)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        return results

    def _run(self, words: Sequence[str], silence_s: float, stdin: int) -> None:
        try:
            run_command("measure.py", words, silence_s, self.lines.put, stdin)
            outcome: Outcome = (0, "")
        except CommandFailedError as error:
            outcome = (error.code, str(error))
        finally:
            os.close(stdin)
        self.outcome = outcome
        self.lines.put("")  # ends the waiting

    def _write(self, name: str, data: bytes) -> None:
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    def _fresh_results(self) -> bytes | None:
        """The results, if they were written since they were last asked for."""
        path = os.path.join(self.folder, "results.json")
        try:
            changed = os.stat(path).st_mtime_ns
            if changed == self.seen:
                return None
            with open(path, "rb") as file:
                self.seen = changed
                return file.read()
        except OSError:
            return None


def _own_prefix() -> str:
    """How the folders of this machine's workers begin, before the number of the process."""
    return f"hwnas-ray-{platform.node()}-"


def _remove_leftovers() -> None:
    """Removes the folders of workers that were killed together with their scripts."""
    place, prefix = tempfile.gettempdir(), _own_prefix()
    for name in os.listdir(place):
        process = name[len(prefix) :].partition("-")[0]
        if not (name.startswith(prefix) and process.isdigit()):
            continue
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            shutil.rmtree(os.path.join(place, name), ignore_errors=True)
        except OSError:
            pass  # it lives, and is another user's
