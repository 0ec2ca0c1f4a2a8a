"""Which executor the command line means: in this process, processes, a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from records import BadInputError, unknown_name

if TYPE_CHECKING:
    from strategies import Executor

EXECUTORS = ("in-process", "processes", "ray")


def check_executor(name: str, workers: int) -> None:
    """Refuses what `executor_by_name` could not make.

    Raises:
        UnknownNameError: No such executor.
        BadInputError: Fewer than one worker.
    """
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS)
    if workers < 1:
        raise BadInputError(f"--workers must be at least 1, got {workers}")


def executor_by_name(name: str, workers: int, address: str) -> Executor:
    """The executor of a name.

    Args:
        name: One of `EXECUTORS`.
        workers: How many workers, where there are any.
        address: The Ray cluster, as `RayWorkers` takes it.

    Raises:
        UnknownNameError: No such executor.
        BadInputError: Fewer than one worker.
    """
    from strategies import InProcess, LocalProcesses, RayWorkers

    check_executor(name, workers)
    if name == "processes":
        return LocalProcesses(workers=workers)
    if name == "ray":
        return RayWorkers(workers=workers, address=address)
    return InProcess()
