"""The base of all strategies: what to try next, given what was found.

A strategy is asked for rows of genes and told their objectives and constraint violations. It
never proposes what it has been told or what is pending. The loop, the executor and the ledger are
not its business.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from records import BadInputError, generator
from search_spaces import Genes, SearchSpace
from strategies.held_out import PredictorQuality
from strategies.known_rows import KnownRows, row_keys
from strategies.protocols import Floats


class Strategy(ABC):
    """Proposes architectures of a space.

    Args:
        space: The space; all proposals are canonical rows of it.
        seed: The same seed and the same answers give the same proposals.
        initial: Rows to propose first, in this order (a warm start); each is proposed once.

    Raises:
        BadInputError: Genes that are none of the space.
    """

    _attempts: ClassVar[int] = 8
    """How often `_propose` is called for one `ask` before random rows are taken instead."""

    _random_attempts: ClassVar[int] = 12
    """How often they are taken; each attempt draws twice as many, in all 40 000, so that a small
    space is found to its last row."""

    waits: ClassVar[bool] = False
    """Whether `ask` gives fewer rows than asked for, or none, while it must first hear of pending
    ones. With nothing pending it always gives some until the space is exhausted."""

    judges_targets: ClassVar[bool] = False
    """Whether it asks the problem itself which targets allow a row. Others are told a latency on a
    target that does not allow a row, though another does, as one that wins nothing there."""

    def __init__(
        self, space: SearchSpace, *, seed: int = 0, initial: npt.ArrayLike | None = None
    ) -> None:
        self.space = space
        self.rng = generator(seed, "strategies", type(self).__name__)
        self._known = KnownRows()
        self._initial = self._no_rows() if initial is None else space.gene_space.check(initial)
        self._pending = self._no_rows()
        self._columns: int | None = None

    finished: str = ""
    """Why nothing more is proposed although the space is not exhausted; empty while more is."""

    @property
    def quality(self) -> PredictorQuality | None:
        """How well it predicted accuracies before they were measured; None where it does not."""
        return None

    @property
    def is_exhausted(self) -> bool:
        """Whether every architecture of the space was proposed or told."""
        return len(self._known) >= self.space.cardinality

    @property
    def has_design(self) -> bool:
        """Whether it chooses the first rows itself; else the search measures a spread of them."""
        return False

    @property
    def measures_infeasible(self) -> bool:
        """Whether it needs rows measured that miss the limits, as a way does that begins at the
        largest network. Others are told of such rows without a measurement."""
        return False

    @property
    def pending(self) -> Genes:
        """The rows that were proposed and not told yet."""
        return self._pending.copy()

    def ask(self, n: int) -> Genes:
        """Proposes rows that are distinct, canonical, and neither told before nor pending.

        Returns:
            An `n x d` array; fewer rows only where (nearly) all of the space is known (see
            `is_exhausted`), or where the strategy `waits`.
        """
        if n < 0:
            raise BadInputError(f"n must be at least 0, got {n}")
        parts = [self._next_initial(n)]
        missing = n - len(parts[0])
        share_new = 1.0
        for attempt in range(self._attempts + self._random_attempts):
            if missing == 0 or self.is_exhausted or self._must_wait():
                break
            if attempt < self._attempts:
                count = min(math.ceil(1.1 * missing / share_new), 4 * n)
                rows = self._propose(count if attempt else missing)
            else:
                count = max(missing, 64) * 2 ** (attempt - self._attempts)
                rows = self.space.sample(min(count, _MOST_ROWS), self.rng, "architectures")
            fresh = self._known.add(rows, missing)
            share_new = max(len(fresh) / max(len(rows), 1), 0.1)
            parts.append(rows[fresh])
            missing -= len(fresh)
        asked = np.concatenate(parts)
        self._pending = np.concatenate([self._pending, asked])
        return asked

    def expect(self, genes: Genes) -> None:
        """Takes rows for pending that others chose, so that they are not proposed meanwhile.

        Rows that are known already are left as they are.

        Raises:
            BadInputError: Genes that are none of the space.
        """
        rows = self.space.gene_space.check(genes)
        self._pending = np.concatenate([self._pending, rows[self._known.add(rows)]])

    def tell(self, genes: Genes, objectives: Floats, violations: Floats | None = None) -> None:
        """Takes in what became of some rows, asked for or not; a refused call changes nothing.

        Rows that were not asked for are checked and put into canonical form: to tell a row that
        is not canonical is to tell of the architecture that it means. Of a row that is told
        twice, in one call or in two, the later values count.

        Args:
            genes: An `n x d` array of integers.
            objectives: An `n x m` array, minimised, with the same `m` in every call. NaN where an
                evaluation failed, or where an infeasible row was not evaluated; an infinite
                value counts as NaN. Rows with a NaN rank last.
            violations: By how much each row misses its constraints, 0 or less for a feasible one,
                NaN counts as infinite; None if all are feasible.

        Raises:
            BadInputError: Arrays that do not fit each other, the space, or earlier calls.
        """
        genes, objectives, missed = self._fitting(genes, objectives, violations)
        if len(genes) == 0:
            return
        keys = row_keys(genes)
        pending = row_keys(self._pending)
        if not np.array_equal(keys, pending):
            strange = ~np.isin(keys, pending)
            if strange.any():
                genes = genes.copy()
                genes[strange] = self.space.gene_space.check(genes[strange])
                keys = row_keys(genes)
            last = np.sort(len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1])
            if len(last) < len(keys):
                keys, genes = keys[last], genes[last]
                objectives, missed = objectives[last], missed[last]
        self._columns = objectives.shape[1]
        self._known.update(keys)
        self._pending = self._pending[~np.isin(pending, keys)]
        self._learn(genes.astype(np.int16, copy=False), objectives, missed)

    def _fitting(
        self, genes: Genes, objectives: Floats, violations: Floats | None
    ) -> tuple[Genes, Floats, Floats]:
        """What was told, with NaN for unknown objectives and infinity for unknown violations."""
        genes, objectives = np.asarray(genes), np.asarray(objectives, np.float64)
        missed = np.zeros(len(genes)) if violations is None else np.asarray(violations, np.float64)
        d = len(self.space.choices)
        if genes.shape[1:] != (d,) or objectives.ndim != 2 or objectives.shape[1] == 0:
            raise BadInputError(
                f"genes must be n x {d} and objectives n x m, "
                f"got {genes.shape} and {objectives.shape}"
            )
        if genes.dtype.kind not in "iu" and len(genes):
            raise BadInputError(f"genes must be integers, got {genes.dtype}")
        if not len(genes) == len(objectives) == len(missed) or missed.ndim != 1:
            raise BadInputError(
                f"told {len(genes)} rows with {len(objectives)} rows of objectives and "
                f"{len(missed)} violations; there must be one of each a row"
            )
        if self._columns is not None and objectives.shape[1] != self._columns:
            raise BadInputError(
                f"told {objectives.shape[1]} objectives, {self._columns} before or when the "
                "strategy was made"
            )
        objectives = np.where(np.isfinite(objectives), objectives, np.nan)
        return genes, objectives, np.where(np.isnan(missed), np.inf, np.maximum(missed, 0.0))

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, as JSON-ready values."""
        return {
            "strategy": type(self).__name__,
            "space_hash": self.space.hash,
            "rng": self.rng.bit_generator.state,
            "known": self._known.to_text(),
            "initial": self._initial.tolist(),
            "pending": self._pending.tolist(),
            "objectives": self._columns,
            "learned": self._learned(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues exactly where a strategy, made with the same arguments, had come to.

        Raises:
            BadInputError: The state is of another strategy or space.
        """
        for key, own in (("strategy", type(self).__name__), ("space_hash", self.space.hash)):
            if state.get(key) != own:
                raise BadInputError(f"this state has {key} {state.get(key)!r}, expected {own!r}")
        self.rng.bit_generator.state = state["rng"]
        self._known = KnownRows.from_text(state["known"])
        self._initial = self._rows(state["initial"])
        self._pending = self._rows(state["pending"])
        self._columns = state.get("objectives")
        self._relearn(state["learned"])

    @abstractmethod
    def _propose(self, n: int) -> Genes:
        """About `n` canonical rows; known and repeated ones are dropped by the caller."""

    def _must_wait(self) -> bool:
        """Whether a strategy that `waits` cannot propose before it hears of pending rows."""
        return False

    @abstractmethod
    def _learn(self, genes: Genes, objectives: Floats, violations: Floats) -> None:
        """Takes in checked results."""

    @abstractmethod
    def _learned(self) -> dict[str, Any]:
        """What was learned, as JSON-ready values."""

    @abstractmethod
    def _relearn(self, learned: Mapping[str, Any]) -> None:
        """Takes back what `_learned` gave."""

    def _next_initial(self, n: int) -> Genes:
        """Takes the first `n` of the initial rows that are not known yet."""
        taken = self._known.add(self._initial, n)
        rows = self._initial[taken]
        used = int(taken[-1]) + 1 if 0 < len(taken) == n else len(self._initial) * (n > 0)
        self._initial = self._initial[used:]
        return rows

    def _rows(self, rows: npt.ArrayLike) -> Genes:
        return np.asarray(rows, np.int16).reshape(-1, len(self.space.choices))

    def _no_rows(self) -> Genes:
        return self._rows([])


_MOST_ROWS = 8192


def floats_to_json(array: Floats) -> Any:
    """An array as nested lists, with None for what JSON cannot hold (NaN and infinities)."""
    values = array.astype(object)
    values[~np.isfinite(array)] = None
    return values.tolist()


def floats_from_json(value: Any, *, missing: float = np.nan) -> Floats:
    """The array that `floats_to_json` wrote, with `missing` in the place of None."""
    array = np.array(value, np.float64)
    return np.where(np.isnan(array), missing, array)
