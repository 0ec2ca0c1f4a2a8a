"""An executor of processes on this machine.

Each is a fresh interpreter (`spawn`), so it inherits no thread and no lock. What the evaluator
needs and is large lies in one file that all of them map; genes and results travel by pipes. A
process ends with the one that started it, also where that is killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from records import storage_error
from search_spaces import Genes
from strategies.executor import Session
from strategies.executor_evaluation import EvaluationError, described, outcomes
from strategies.executor_pool import Pool
from strategies.executor_shipment import (
    ArrayFile,
    Recipe,
    check_can_travel,
    made,
    shipment_of,
    use_threads,
    write_arrays,
)
from strategies.executor_workers import (
    Answered,
    Died,
    PooledExecutor,
    Ready,
    Report,
    Useless,
    Worker,
)
from strategies.protocols import Evaluator

_ENDS_S = 5.0
"""How long a process may take to end after its pipe has closed."""

_UNGUARDED = (
    " before it had an evaluator; each process imports the script that is run, which needs "
    '`if __name__ == "__main__":` around what it does'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalProcesses(PooledExecutor):
    """Evaluates in processes of their own; see `PooledExecutor` for the settings.

    A script that uses it needs `if __name__ == "__main__":` around what it runs, because each
    process imports the script.
    """

    @property
    def name(self) -> str:
        return f"{self.workers} processes"

    def open(self, evaluator: Evaluator) -> Session:
        """See `Executor.open`.

        Raises:
            StorageError: The arrays of the evaluator cannot be written to the temporary folder.
        """
        shipment = shipment_of(evaluator)
        check_can_travel(shipment.recipe)
        folder = tempfile.TemporaryDirectory(prefix="hwnas-", ignore_cleanup_errors=True)
        try:
            arrays = write_arrays(Path(folder.name) / "arrays", shipment.arrays)
        except OSError as error:
            folder.cleanup()
            raise storage_error(folder.name, error) from error

        def start(name: str, report: Report) -> Worker:
            return _Process(name, report, shipment.recipe, arrays, self.threads)

        return Pool(start, self, folder.cleanup)


class _Process(Worker):
    """A process and the pipe to it, which a thread listens to."""

    def __init__(
        self, name: str, report: Report, recipe: Recipe, arrays: ArrayFile, threads: int
    ) -> None:
        self.name = name
        self._report = report
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs,), name=f"hwnas {name}")
        self._process.start()
        theirs.close()
        with contextlib.suppress(OSError):  # it is dead already, which is reported as such
            self._pipe.send(threads)
            self._pipe.send((recipe, arrays))
        threading.Thread(target=self._listen, name=f"hears {name}", daemon=True).start()

    def evaluate(self, genes: Genes) -> None:
        with contextlib.suppress(OSError):  # it is dead, which is reported as such
            self._pipe.send(genes)

    def kill(self) -> None:
        self._process.kill()

    def _listen(self) -> None:
        """Reports what comes until the pipe closes."""
        reason, hint = "", _UNGUARDED
        try:
            while True:
                kind, content = self._pipe.recv()
                if kind == "ready":
                    hint = ""
                    self._report(Ready(self))
                elif kind == "answer":
                    self._report(Answered(self, content))
                elif kind == "useless":
                    self._report(Useless(self, content))
                else:
                    reason = content
        except (EOFError, OSError):
            self._process.join(_ENDS_S)
            self._report(Died(self, reason or _end(self._process.exitcode) + hint))


def _end(code: int | None) -> str:
    """How a process ended."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = "; out of memory is a common cause" if -code == signal.SIGKILL else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with code {code}"


# ---- in the worker -----------------------------------------------------------------------------


def work(pipe: Connection) -> None:
    """What a worker's process does: makes the evaluator, then evaluates what the pipe brings.

    The number of threads comes before the recipe, which may load what reads it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the search, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        use_threads(threads := pipe.recv())
        recipe, arrays = pipe.recv()
        evaluator = made(recipe, arrays.mapped(), threads)
    except Exception as error:
        pipe.send(("failed", f"the evaluator cannot be made: {described(error)}"))
        return
    pipe.send(("ready", None))
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(_answer(evaluator, pipe.recv()))


def _answer(evaluator: Evaluator, genes: Genes) -> tuple[str, Any]:
    try:
        return "answer", outcomes(evaluator, genes)
    except EvaluationError as error:
        return "useless", str(error)


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, even while it evaluates."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
