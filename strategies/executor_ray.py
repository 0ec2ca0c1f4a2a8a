"""An executor of actors on a Ray cluster.

Each worker is a long-lived actor that holds an evaluator. What the evaluator needs and is large
lies in Ray's object store, once on each node, and is mapped by the actors there. Genes and results
travel with the calls. An actor that dies or cannot be reached is replaced by a new one, on another
node if its node is gone, and what it was doing is done again.

Ray is imported only when such an executor is opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from records import BadInputError
from records.ray_address import RayUse
from records.ray_cluster import check_needs, connected, imported
from search_spaces import Genes
from strategies.executor import Session
from strategies.executor_evaluation import EvaluationError, Outcome, described, outcomes
from strategies.executor_pool import Pool
from strategies.executor_ray_cluster import check_nodes_can, warn_of_little_room
from strategies.executor_ray_code import difference, missing_module, own_code
from strategies.executor_shipment import Arrays, Recipe, made, shipment_of, use_threads
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

RAY = RayUse(what="this executor")


@dataclass(frozen=True, slots=True, kw_only=True)
class RayWorkers(PooledExecutor):
    """Evaluates by actors of a Ray cluster; see `PooledExecutor` for the other settings.

    Attributes:
        address: `auto` for the cluster that this machine is in, `host:6379` of a head from a
            machine of the cluster, `ray://host:10001` from any other, `local` for a Ray of its own
            on this machine, which is stopped afterwards. A process that is connected already keeps
            its connection.
        cpus: Processors that a worker takes.
        gpus: Accelerators that it takes; a half lets two workers share one.
        resources: What else it takes, e.g. `{"device:rpi4": 1}` for nodes that have that board.
    """

    address: str = "auto"
    cpus: float = 1.0
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        PooledExecutor.__post_init__(self)
        check_needs(self.needs)
        RAY.check_address(self.address)

    @property
    def name(self) -> str:
        return f"{self.workers} Ray workers"

    @property
    def needs(self) -> dict[str, float]:
        """What one worker takes of a node, by Ray's names."""
        return {"CPU": self.cpus, "GPU": self.gpus, **self.resources}

    def check(self) -> None:
        """Makes sure that `open` could start workers, before other things take their time.

        Raises:
            BadInputError: As `open` does. A Ray of its own is not started for it.
        """
        if self.address == "local":
            imported(RAY)
            self._check_alone()
            return
        with connected(RAY, self.address) as ray:
            check_nodes_can(ray, self.needs)

    def _check_alone(self) -> None:
        """Refuses what a Ray of its own never has: it is this machine, without further names."""
        absent = [name for name, amount in self.resources.items() if amount > 0]
        if absent:
            raise BadInputError(
                f"a Ray of its own has no {', '.join(absent)}: start nodes that have it by "
                "`ray start --resources=...`, and give the cluster's address"
            )

    def open(self, evaluator: Evaluator) -> Session:
        """See `Executor.open`.

        Raises:
            BadInputError: Ray is not installed, the cluster cannot be reached or has another
                version of Ray or Python, or none of its nodes has what a worker needs; said
                within seconds.
        """
        shipment = shipment_of(evaluator)
        processors = self.workers * self.cpus
        with contextlib.ExitStack() as stack:
            ray = stack.enter_context(connected(RAY, self.address, processors=processors))
            check_nodes_can(ray, self.needs)
            warn_of_little_room(ray, self.needs, self.workers)
            arrays = ray.put(dict(shipment.arrays))
            disconnect = stack.pop_all().close

        def start(name: str, report: Report) -> Worker:
            return _Actor(ray, self, name, report, (shipment.recipe, arrays))

        return Pool(start, self, disconnect)


class EvaluatorActor:
    """What runs on the cluster: an evaluator, and its answers."""

    def __init__(self, threads: int) -> None:
        use_threads(threads)
        self._threads = threads
        self._evaluator: Evaluator | None = None

    def code(self) -> dict[str, str]:
        """Which hwnas this is; asked first, because other code may not understand the rest."""
        return dict(own_code())

    def make(self, recipe: Recipe, arrays: Arrays) -> str:
        """Makes the evaluator; why it cannot, or "".

        A failure is told, not raised: an error of a library may be none that can be sent.
        """
        try:
            self._evaluator = made(recipe, arrays, self._threads)
        except Exception as error:
            return f"the evaluator cannot be made: {described(error)}"
        return ""

    def evaluate(self, genes: Genes) -> list[Outcome] | str:
        """The outcomes, or why the evaluator is of no use."""
        if self._evaluator is None:
            return "the evaluator was never made"
        try:
            return outcomes(self._evaluator, genes)
        except EvaluationError as error:
            return str(error)


class _Actor(Worker):
    """An actor; its answers come in threads of Ray."""

    def __init__(
        self, ray: Any, settings: RayWorkers, name: str, report: Report, shipment: tuple[Any, Any]
    ) -> None:
        self.name = name
        self._ray = ray
        self._report = report
        options = ray.remote(EvaluatorActor).options(
            num_cpus=settings.cpus,
            num_gpus=settings.gpus,
            resources=dict(settings.resources) or None,
            max_restarts=0,  # the pool replaces it, and knows what it was doing
            max_task_retries=0,
        )
        self._waits = True
        self._actor = options.remote(settings.threads)
        self._when_done(self._actor.code.remote(), self._is_there)
        self._when_done(self._actor.make.remote(*shipment), self._is_made)

    @property
    def is_waiting(self) -> bool:
        return self._waits

    def evaluate(self, genes: Genes) -> None:
        self._when_done(self._actor.evaluate.remote(genes), self._has_answered)

    def kill(self) -> None:
        with contextlib.suppress(Exception):  # it is dead, or the cluster is gone
            self._ray.kill(self._actor)

    def _when_done(self, reference: Any, then: Callable[[Any], None]) -> None:
        def done(future: Any) -> None:
            try:
                answer = future.result()
            except Exception as error:
                self._waits = False
                self._report(Died(self, reason_of(error)))
            else:
                then(answer)

        reference.future().add_done_callback(done)

    def _is_there(self, code: Mapping[str, str]) -> None:
        self._waits = False
        if reason := difference(code):
            self._report(Died(self, reason))

    def _is_made(self, reason: str) -> None:
        self._report(Died(self, reason) if reason else Ready(self))

    def _has_answered(self, answer: list[Outcome] | str) -> None:
        if isinstance(answer, str):
            self._report(Useless(self, answer))
        else:
            self._report(Answered(self, answer))


def reason_of(error: Exception) -> str:
    """Why an actor was lost, and what to do where something is missing on its node."""
    return missing_module(str(error)) or f"its actor was lost: {first_line(error)}"


def first_line(error: Exception) -> str:
    """What Ray says, without its traceback and advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
