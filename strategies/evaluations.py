"""What a search asked for, what of it is in flight, and what was observed and committed.

Rows that differ in choices of the platform alone are the same network, which is measured once. An
observation is in the ledger before anybody hears of it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError, Ledger, Measured, Observation
from search_spaces import Genes
from strategies.executor import Finished
from strategies.problem import Problem

Row: TypeAlias = tuple[int, ...]

OUT_OF_ORDER = "search out of order"
"""The ledger's note that observations follow the time they took, not the order of asking."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A row that was asked for and not observed yet.

    Attributes:
        place: Its place in the order of asking.
        genes: The row.
        network: The row without the platform's choices.
        step: The batch it belongs to.
        is_measured: Whether it is the row that its network is measured with.
    """

    place: int
    genes: Row
    network: Row
    step: int
    is_measured: bool


class Evaluations:
    """The evaluations of one search.

    Args:
        problem: What is searched for.
        ledger: Where observations are committed, and taken from where it has them.

    Attributes:
        observations: What was observed, in the order of committing.
        reused: How many of these came from the ledger.
        failed: How many of these failed.
        by_worker: How many networks each worker measured.

    Raises:
        BadInputError: A ledger of another space or other weights.
    """

    def __init__(self, problem: Problem, ledger: Ledger | None) -> None:
        self.problem = problem
        self.ledger = ledger
        self.observations: list[Observation] = []
        self.reused = 0
        self.failed = 0
        self.by_worker: Counter[str] = Counter()
        self._recorded = recorded(problem, ledger)
        self._measured = _measured(problem, self._recorded)
        self._places = itertools.count()
        self._waiting: dict[Row, list[_Asked]] = {}  # by network, none of which is measured yet
        self._known: list[_Asked] = []  # to be committed or, if the ledger has them, counted
        self._pending = 0

    @property
    def pending(self) -> int:
        """How many rows were asked for and not observed yet."""
        return self._pending

    @property
    def count(self) -> int:
        """How many rows were asked for, those included that were observed."""
        return len(self.observations) + self._pending

    @property
    def is_out_of_order(self) -> bool:
        """Whether the ledger was written by a search whose results came in the order of time."""
        return self.ledger is not None and bool(self.ledger.notes(OUT_OF_ORDER))

    def note_out_of_order(self, executor: str) -> None:
        """Notes in the ledger that from now on results come in the order of time."""
        if self.ledger is not None and not self.is_out_of_order:
            self.ledger.note(OUT_OF_ORDER, executor)

    def ask(self, genes: Genes, step: int, submit: Callable[[Genes], None]) -> bool:
        """Has rows evaluated that the ledger does not have.

        Args:
            genes: The rows, an `n x d` array.
            step: The number of the batch.
            submit: Has networks evaluated; their results are given to `settle`.

        Returns:
            Whether anything was submitted for it; else all may be known already.
        """
        names = self.problem.space.without_platform(genes).tolist()
        submitted: list[int] = []
        for i, (row, name) in enumerate(zip(genes.tolist(), names, strict=True)):
            key, network = tuple(row), tuple(name)
            is_known = key in self._recorded or network in self._measured
            is_first = not is_known and network not in self._waiting
            asked = _Asked(next(self._places), key, network, step, is_first)
            if is_known:
                self._known.append(asked)
            else:
                self._waiting.setdefault(network, []).append(asked)
            if is_first:
                submitted.append(i)
        self._pending += len(genes)
        if submitted:
            submit(genes[submitted])
        return bool(submitted)

    def settle(self, finished: Sequence[Finished]) -> list[Observation]:
        """Takes results in, and commits all rows that are known by now in one group.

        Returns:
            Their observations, in the order of asking.

        Raises:
            StorageError: The ledger cannot be written; nothing of the group counts.
        """
        for done in finished:
            names = self.problem.space.without_platform(done.genes).tolist()
            for name, result in zip(names, done.results, strict=True):
                network = tuple(name)
                self._measured[network] = result
                self._known += self._waiting.pop(network, [])
            self.by_worker[done.worker] += len(names)
        settled = sorted(self._known, key=lambda row: row.place)
        new = {r.genes: self._observation(r) for r in settled if r.genes not in self._recorded}
        if self.ledger is not None:
            self.ledger.append(list(new.values()))
        self._known = []
        self._pending -= len(settled)
        self.reused += len(settled) - len(new)
        self._recorded.update(new)
        return self._observed([self._recorded[row.genes] for row in settled])

    def recall(self, most: int) -> list[Observation]:
        """Counts what the ledger has as observed already, in its order, at most `most` of it."""
        found = list(self._recorded.values())[:most]
        self.reused += len(found)
        return self._observed(found)

    def is_recorded(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Marks the rows that the ledger has."""
        return np.array([tuple(row) in self._recorded for row in genes.tolist()], np.bool_)

    def _observed(self, observations: list[Observation]) -> list[Observation]:
        self.observations += observations
        self.failed += sum(o.status == "failed" for o in observations)
        return observations

    def _observation(self, row: _Asked) -> Observation:
        measured = self._measured[row.network]
        if not row.is_measured:
            measured = replace(measured, seconds=0.0)
        return Observation(
            genes=row.genes,
            metric=self.problem.accuracy.metric,
            value=measured.value,
            dispersion=measured.dispersion,
            status=measured.status,
            reason=measured.reason,
            step=row.step,
            seconds=measured.seconds,
            weights_hash=self.problem.accuracy.weights_hash,
            space_hash=self.problem.space.hash,
        )


def recorded(problem: Problem, ledger: Ledger | None) -> dict[Row, Observation]:
    """What the ledger already has of this problem, by genes, in its order.

    Raises:
        BadInputError: It has observations of another space or with other weights.
    """
    found: dict[Row, Observation] = {}
    if ledger is None:
        return found
    evaluator = problem.accuracy
    for observation in ledger.observations(metric=evaluator.metric, target=""):
        for name, got, own in (
            ("space", observation.space_hash, problem.space.hash),
            ("weights", observation.weights_hash, evaluator.weights_hash),
        ):
            if got != own:
                raise BadInputError(
                    f"the ledger {ledger.location} holds {evaluator.metric} of another {name} "
                    f"({name} hash {got or 'unknown'}, this problem's is {own}); search with a "
                    "fresh ledger, or with what that one was made with"
                )
        found.setdefault(observation.genes, observation)
    return found


def _measured(problem: Problem, recorded: Mapping[Row, Observation]) -> dict[Row, Measured]:
    """The results of an earlier search by network, which is the genes without the platform."""
    if not recorded:
        return {}
    networks = problem.space.without_platform(np.array(list(recorded), np.int16))
    found: dict[Row, Measured] = {}
    for row, observation in zip(networks.tolist(), recorded.values(), strict=True):
        result = Measured(
            value=observation.value,
            dispersion=observation.dispersion,
            status=observation.status,
            reason=observation.reason,
        )
        found.setdefault(tuple(row), result)
    return found
