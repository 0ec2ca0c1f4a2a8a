"""Which executor the command line means: in this process, processes, a Ray cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from records import BadInputError, unknown_name

if TYPE_CHECKING:
    from strategies import Executor

EXECUTORS = ("in-process", "processes", "ray")

FOR_WORKERS = ("threads", "timeout_s", "retries")
FOR_RAY = ("cpus", "gpus", "resources")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """The options of an executor, as the command line has them.

    Attributes:
        name: One of `EXECUTORS`.
        workers: How many workers, where there are any.
        address: The Ray cluster, as `RayWorkers` takes it.
        threads: How many threads a worker uses; with the following ones, None takes what the
            executor has by itself.
        timeout_s: How long the evaluation of one row may take.
        retries: How often a row is tried again.
        cpus: Processors that a Ray worker takes.
        gpus: Accelerators that it takes.
        resources: What else it takes, as `NAME=AMOUNT`.
    """

    name: str = "in-process"
    workers: int = 2
    address: str = "auto"
    threads: int | None = None
    timeout_s: float | None = None
    retries: int | None = None
    cpus: float | None = None
    gpus: float | None = None
    resources: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuses what `make` could not make, without loading anything.

        Raises:
            UnknownNameError: No such executor.
            BadInputError: A number out of range, or an option that this executor has not.
        """
        if self.name not in EXECUTORS:
            raise unknown_name("executor", self.name, EXECUTORS)
        if self.workers < 1:
            raise BadInputError(f"--workers must be at least 1, got {self.workers}")
        if self.name == "in-process":
            self._refuse(("workers", *FOR_WORKERS), "--executor processes or ray")
        if self.name != "ray":
            self._refuse(("address", *FOR_RAY), "--executor ray")
        for name, least in (("threads", 1), ("retries", 0), ("cpus", 0), ("gpus", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise BadInputError(f"{_option(name)} must be at least {least}, got {value:g}")
            if value == math.inf:
                raise BadInputError(f"{_option(name)} must be finite, got {value:g}")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise BadInputError(f"--timeout must be positive, in seconds, got {self.timeout_s:g}")
        _ = [parse_resource(text) for text in self.resources]  # whatever is wrong with them

    def make(self) -> Executor:
        """The executor.

        Raises:
            UnknownNameError: No such executor.
            BadInputError: A number out of range, or an option that this executor has not.
        """
        from strategies import InProcess, LocalProcesses, RayWorkers

        self.check()
        if self.name == "in-process":
            return InProcess()
        settings = self._given(FOR_WORKERS)
        if self.name == "processes":
            return LocalProcesses(workers=self.workers, **settings)
        settings |= self._given(("cpus", "gpus"))
        resources = dict(map(parse_resource, self.resources))
        return RayWorkers(
            workers=self.workers, address=self.address, resources=resources, **settings
        )

    def _given(self, names: tuple[str, ...]) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def _refuse(self, names: tuple[str, ...], where: str) -> None:
        unsaid = {field.name: field.default for field in fields(self)}
        for name in names:
            if getattr(self, name) != unsaid[name]:
                raise BadInputError(f"{_option(name)} is for workers: use it with {where}")


def parse_resource(text: str) -> tuple[str, float]:
    """Reads one `--resource`.

    >>> parse_resource("device:rpi4=1")
    ('device:rpi4', 1.0)

    Raises:
        BadInputError: No name, or no positive number behind it.
    """
    name, _, amount = text.rpartition("=")
    try:
        number = float(amount)
    except ValueError:
        number = 0.0
    if not name or not 0 < number < float("inf"):
        raise BadInputError(
            f"--resource must be NAME=AMOUNT with a positive amount, as in device:rpi4=1; got "
            f"{text!r}"
        )
    if name in ("CPU", "GPU"):
        raise BadInputError(f"--resource {text}: a worker's {name}s are --{name.lower()}s")
    return name, number


def _option(name: str) -> str:
    """How the command line calls a setting."""
    names = {"timeout_s": "timeout", "resources": "resource"}
    return "--" + names.get(name, name)
