"""What a strategy wants tried next, one row at a time, for a loop that is not ours.

`search` asks, has rows measured and tells. Here somebody else has them measured (Ray Tune), so
what `search` does between asking and telling stands by itself: the design that comes first, rows
that miss the limits, rows where the strategy knows none. One row after the other, the proposals
are those of `search` with a batch size of 1.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError, generator
from search_spaces import Genes, SearchSpace
from strategies.design import initial_design
from strategies.feasibility import Feasibility, known_or_checked
from strategies.known_rows import KnownRows
from strategies.limited_strategy import LimitedStrategy
from strategies.parameter_space import ParameterSpace
from strategies.problem import Problem
from strategies.protocols import Floats
from strategies.search import DESIGN_SIZE
from strategies.strategy import Strategy, floats_from_json, floats_to_json
from strategies.study_problem import study_problem, told_values

MakeStrategy: TypeAlias = Callable[..., Strategy]


class Proposals(ABC):
    """A strategy in the hands of a loop that tries one row after the other, or many at a time.

    Attributes:
        strategy: What proposes.
        space: The space of its rows.
    """

    strategy: Strategy
    space: SearchSpace

    @abstractmethod
    def next(self, *, is_waiting: bool) -> Genes | None:
        """The next row, an array of length `d`, which is pending from then on.

        Args:
            is_waiting: Whether rows are pending that will be told.

        Returns:
            None where there is none now, and where nothing is waited for, none ever.
        """

    @abstractmethod
    def tell(self, row: Sequence[int], values: Floats) -> None:
        """Takes in what was reported of a row, one value a metric, NaN where it failed."""

    @abstractmethod
    def why_unusable(self, values: Floats) -> str:
        """Why values count as a failure; empty where they do not."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, as JSON-ready values."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues where proposals, made with the same arguments, had come to."""

    def _rows(self, rows: npt.ArrayLike) -> Genes:
        return np.asarray(rows, np.int16).reshape(-1, len(self.space.choices))


class ProblemProposals(Proposals):
    """Proposals for a problem: the accuracy is reported, the costs are known beforehand.

    Args:
        problem: What to search for.
        make: Makes the strategy, see `made_strategy`.
        seed: The same seed and the same answers give the same proposals.
        initial: Rows to try first, even if they miss the limits.
        feasibility: What `check_feasible` found for this problem and seed, where it is known.

    Raises:
        InfeasibleConstraintError: The limits cannot be kept.
        BadInputError: Arguments that do not fit.
    """

    def __init__(
        self,
        problem: Problem,
        make: MakeStrategy,
        *,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
        feasibility: Feasibility | None = None,
    ) -> None:
        self.problem = problem
        self.space = problem.space
        self.feasibility = known_or_checked(problem, seed, feasibility)
        self.strategy = made_strategy(make, problem.space, problem, seed)
        self._limited = LimitedStrategy(problem, self.strategy, self.feasibility)
        self._rng = generator(seed, "strategies", "search")
        self._initial = None if initial is None else self.space.gene_space.check(initial)
        self._design: Genes | None = None  # made when it is needed: what is restored needs none
        self._surplus = self._rows([])
        self._told = self._rows([])
        self._known = KnownRows()

    def next(self, *, is_waiting: bool) -> Genes | None:
        """See `Proposals`; rows that miss the limits are told to the strategy instead."""
        design = self._made_design() if self._design is None else self._design
        first, self._design = np.split(design[self._known.is_new(design)], [1])
        if len(first):
            self.strategy.expect(first)
        else:
            first, self._surplus = np.split(self._found(is_waiting), [1])
        return first[0] if len(first) else None

    def tell(self, row: Sequence[int], values: Floats) -> None:
        """See `Proposals`."""
        genes = self._rows([row])
        self._known.add(genes)
        self._told = np.concatenate([self._told, genes])
        objectives = self.problem.objectives(genes, values)
        self._limited.report(genes, objectives, self.problem.target_violations(genes))

    def why_unusable(self, values: Floats) -> str:
        """See `Proposals`; an accuracy is a share."""
        (value,) = values
        if 0 <= value <= 1:
            return ""
        hint = " (divide percentages by 100)" if 1 < value <= 100 else ""
        return f"{value:g} was reported; it must be a share in 0..1{hint}"

    def state(self) -> dict[str, Any]:
        """See `Proposals`."""
        return {
            "strategy": self.strategy.state(),
            "rng": self._rng.bit_generator.state,
            "design": None if self._design is None else self._design.tolist(),
            "surplus": self._surplus.tolist(),
            "told": self._told.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Proposals`."""
        self.strategy.restore(state["strategy"])
        self._rng.bit_generator.state = state["rng"]
        design = state["design"]
        self._design = None if design is None else self._rows(design)
        self._surplus = self._rows(state["surplus"])
        self._told = self._rows(state["told"])
        self._known = KnownRows()
        self._known.add(self._told)

    def _made_design(self) -> Genes:
        return initial_design(
            self.problem,
            0 if self.strategy.has_design else DESIGN_SIZE,
            self._rng,
            feasible=self.feasibility.feasible_genes,
            first=self._initial,
        )

    def _found(self, is_waiting: bool) -> Genes:
        """At least one row that keeps the limits, as a rule; none if no further was found."""
        found = self._limited.ask(1, self._surplus)
        if len(found) or self.strategy.finished or is_waiting:
            return found
        found = self._limited.random_rows(1, self._known, self._told, self._rng)
        self.strategy.expect(found)
        return found


class ReportedProposals(Proposals):
    """Proposals where every objective is reported, and none is known beforehand.

    Where a space of parameters is exhausted, rows are drawn at random: their values differ.

    Args:
        space: The space.
        make: Makes the strategy, see `made_strategy`.
        signs: 1 for each objective that is minimised, -1 for one that is maximised.
        seed: The same seed and the same answers give the same proposals.
        initial: Rows to try first.
    """

    def __init__(
        self,
        space: SearchSpace,
        make: MakeStrategy,
        signs: Sequence[float],
        *,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        self.space = space
        self.strategy = made_strategy(make, space, None, seed, len(signs))
        self._signs = np.array(signs)
        self._takes_problem = _takes_problem(make)
        self._rng = generator(seed, "strategies", "reported")
        self._first = self._rows([]) if initial is None else space.gene_space.check(initial)
        self._told = self._rows([])
        self._values = np.zeros((0, len(signs)))

    def next(self, *, is_waiting: bool) -> Genes | None:
        """See `Proposals`."""
        if len(self._first):
            rows, self._first = np.split(self._first, [1])
            self.strategy.expect(rows)
        else:
            rows = self.strategy.ask(1)
        is_done = len(rows) == 0 and not is_waiting and not self.strategy.finished
        if is_done and isinstance(self.space, ParameterSpace):
            rows = self.space.sample(1, self._rng)
        return rows[0] if len(rows) else None

    def tell(self, row: Sequence[int], values: Floats) -> None:
        """See `Proposals`; of all rows again where the scale of their values may have moved."""
        genes, signed = self._rows([row]), (self._signs * values)[None]
        if not self._takes_problem:
            self.strategy.tell(genes, signed)
            return
        self._told = np.concatenate([self._told, genes])
        self._values = np.concatenate([self._values, signed])
        self.strategy.tell(self._told, told_values(self._values))

    def why_unusable(self, values: Floats) -> str:
        """See `Proposals`; any finite number will do."""
        if np.isfinite(values).all():
            return ""
        return f"{', '.join(f'{value:g}' for value in values)} was reported"

    def state(self) -> dict[str, Any]:
        """See `Proposals`."""
        return {
            "strategy": self.strategy.state(),
            "rng": self._rng.bit_generator.state,
            "first": self._first.tolist(),
            "told": self._told.tolist(),
            "values": floats_to_json(self._values),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Proposals`."""
        self.strategy.restore(state["strategy"])
        self._rng.bit_generator.state = state["rng"]
        self._first = self._rows(state["first"])
        self._told = self._rows(state["told"])
        self._values = floats_from_json(state["values"]).reshape(-1, len(self._signs))


def made_strategy(
    make: MakeStrategy,
    space: SearchSpace,
    problem: Problem | None,
    seed: int,
    objectives: int = 2,
) -> Strategy:
    """Makes a strategy.

    Args:
        make: Makes it from a space and a `seed`, e.g. the class `NSGA2`; or from a problem, where
            its first parameter is called `problem`, e.g. `Bayesian` or
            `functools.partial(strategy_by_name, "slimming")`.
        space: The space.
        problem: The problem; None where nothing is known beforehand.
        seed: See `Strategy`.
        objectives: How many there are where nothing is known beforehand.

    Raises:
        BadInputError: A strategy of another space, or one that needs costs that are not known.
    """
    options: dict[str, Any] = {}
    if not _takes_problem(make):
        strategy = make(space, seed=seed)
    else:
        if problem is None and objectives > 1:
            options = {"learns_latency": True}
            if "learns_latency" not in inspect.signature(make).parameters:
                raise BadInputError(
                    "this strategy asks for costs before anything is measured, and here all "
                    "objectives are reported: use Bayesian, which learns them, a strategy that "
                    "takes a space, such as NSGA2, or give a Problem"
                )
        strategy = make(problem or study_problem(space, objectives), seed=seed, **options)
    if strategy.space.hash != space.hash:
        raise BadInputError("the strategy was made with another space than was given")
    return strategy


def _takes_problem(make: MakeStrategy) -> bool:
    """Whether a strategy is made with a problem."""
    return tuple(inspect.signature(make).parameters)[:1] == ("problem",)
