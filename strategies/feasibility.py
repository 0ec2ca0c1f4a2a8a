"""Whether the limits of a problem can be kept at all, found out before anything expensive.

Each limit is checked alone, exactly where the cost is additive, and then all of them together.
What cannot be decided exactly is searched for with a bounded number of candidates and reported as
the lowest *found*. Limits of several targets are looked at target by target, unless they hold
together. An impossible limit is an error within seconds that names the nearest value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from records import BadInputError, HwnasError, generator
from search_spaces import Genes
from strategies.known_rows import KnownRows
from strategies.neighbourhood import neighbours
from strategies.nsga2 import NSGA2
from strategies.problem import Constraint, Problem
from strategies.protocols import LATENCY, Floats

Score: TypeAlias = Callable[[Genes], Floats]

_POPULATION = 128
_GENERATIONS = 25
_JOINT_GENERATIONS = 60
_PATIENCE = 5
_LOCAL_STEPS = 40
_RANDOM_ROUNDS = 4
_VARIATION_ROUNDS = 20
_FEASIBLE_ROWS = 64


class InfeasibleConstraintError(HwnasError, ValueError):
    """No architecture keeps the limits.

    Attributes:
        nearest: For each (metric, target) the value nearest to its limit that was reached; for
            several limits, these are values of one architecture.
    """

    def __init__(
        self, message: str, nearest: Mapping[tuple[str, str], float] | None = None
    ) -> None:
        super().__init__(message)
        self.nearest = dict(nearest or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachableRange:
    """From where to where the expected value of a cost reaches.

    Attributes:
        metric: The cost.
        target: The target.
        lowest: The lowest value; with `exact`, of the whole space, otherwise of those looked at.
        highest: The highest value, likewise.
        exact: Whether nothing below `lowest` or above `highest` exists.
        lowest_genes: An architecture that has the lowest value.
    """

    metric: str
    target: str
    lowest: float
    highest: float
    exact: bool
    lowest_genes: tuple[int, ...]

    def __str__(self) -> str:
        words = "lowest" if self.exact else "lowest found"
        return f"{self.metric} on {self.target!r}: {words} {self.lowest:.4g} to {self.highest:.4g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasibility:
    """What is known before a search.

    Attributes:
        ranges: The reachable range of every cost on every target.
        feasible_genes: A `k x d` array of architectures that a target allows, `k >= 1`; where
            targets have limits of their own, some for each of them.
    """

    ranges: tuple[ReachableRange, ...]
    feasible_genes: Genes

    def range(self, metric: str, target: str) -> ReachableRange:
        """The range of one cost on one target; `KeyError` where it was not looked for."""
        return {(r.metric, r.target): r for r in self.ranges}[metric, target]


def reachable_ranges(problem: Problem, rng: np.random.Generator) -> list[ReachableRange]:
    """How low and high each cost can be on each target, latencies first.

    Exact where the cost model knows its extremes; otherwise the outcome of a small evolution from
    the smallest and largest architectures (some thousand candidates each way).
    """
    keys = [(LATENCY, target) for target in problem.targets]
    keys += [(m, cost.target_name) for cost in problem.costs for m in cost.metrics if m != LATENCY]
    return [_range(problem, metric, target, rng) for metric, target in keys]


def check_feasible(problem: Problem, seed: int = 0) -> Feasibility:
    """Looks for architectures that keep all limits, or each target's limits.

    Raises:
        InfeasibleConstraintError: None was found, if only for one of the targets; the message
            names the limits and the nearest reachable values.
    """
    rng = generator(seed, "strategies", "feasibility")
    ranges = reachable_ranges(problem, rng)
    starts = _ends(problem)
    if problem.target_groups:
        by_key = {(r.metric, r.target): r for r in ranges}
        found = [
            _check_alone(problem, c, by_key[c.metric, c.target], starts, rng)
            for c in problem.constraints
        ]
        starts = np.concatenate([starts, *found])
        groups = [_check_jointly(problem, group, starts, rng) for group in problem.target_groups]
        starts = np.concatenate(groups)
    feasible = sample_feasible(problem, _FEASIBLE_ROWS, rng, starts)
    return Feasibility(ranges=tuple(ranges), feasible_genes=feasible)


def known_or_checked(problem: Problem, seed: int, known: Feasibility | None) -> Feasibility:
    """What is known of a problem, or what `check_feasible` finds.

    Raises:
        BadInputError: What is known is of another problem.
        InfeasibleConstraintError: See `check_feasible`.
    """
    if known is None:
        return check_feasible(problem, seed)
    reached = {(r.metric, r.target) for r in known.ranges}
    genes = known.feasible_genes
    if (
        any((LATENCY, target) not in reached for target in problem.targets)
        or genes.shape[1] != len(problem.space.choices)
        or (problem.violations(genes) > 0).any()
    ):
        raise BadInputError(
            "the feasibility is of another problem: give what check_feasible(problem, seed) found "
            "for this one, or leave it out"
        )
    return known


def sample_feasible(
    problem: Problem, count: int, rng: np.random.Generator, starts: Genes
) -> Genes:
    """Draws distinct architectures that keep the limits.

    They are random draws of the space as long as enough of these are feasible; where limits are
    tight, the rest are feasible variations of `starts` and of each other. Where targets have
    limits of their own, each gets an equal share of rows that it allows, in turn.

    Args:
        problem: The space and its limits.
        count: How many.
        rng: The source of randomness.
        starts: A `k x d` array of architectures, feasible or not, to vary and to begin with.

    Returns:
        At most `count` rows; fewer where a bounded number of draws gave no more.
    """
    if not problem.is_apart:
        return _sample(problem, problem.violations, count, rng, starts)
    share = math.ceil(count / len(problem.targets))
    parts = []
    for t in range(len(problem.targets)):

        def missed(genes: Genes, t: int = t) -> Floats:
            return problem.target_violations(genes)[:, t]

        parts.append(_sample(problem, missed, share, rng, starts))
    turn = np.concatenate([np.arange(len(part)) for part in parts])
    rows = np.concatenate(parts)[np.argsort(turn, kind="stable")]
    rows = rows[KnownRows().add(rows)]
    if len(rows) < count:
        rows = np.concatenate([rows, _sample(problem, problem.violations, count, rng, starts)])
        rows = rows[KnownRows().add(rows)]
    return rows[:count]


def _sample(
    problem: Problem, missed: Score, count: int, rng: np.random.Generator, starts: Genes
) -> Genes:
    """Rows of which nothing is missed; see `sample_feasible`."""
    known = KnownRows()
    found = starts[:0]
    for attempt in range(_RANDOM_ROUNDS + _VARIATION_ROUNDS):
        if attempt < _RANDOM_ROUNDS:
            rows = problem.space.sample(max(256, 2 * count), rng)
        else:
            parents = found if len(found) else starts
            if len(parents) == 0:
                break
            pick = rng.integers(len(parents), size=(2, max(256, 2 * count)))
            children = problem.space.crossover(parents[pick[0]], parents[pick[1]], rng)
            rows = problem.space.mutate(children, rng, float(rng.choice([0.0, 0.1, 0.3])))
        found = np.concatenate([found, _new_feasible(missed, rows, known)])
        if len(found) >= count:
            return found[:count]
        if attempt == _RANDOM_ROUNDS - 1:
            found = np.concatenate([_new_feasible(missed, starts, known), found])
    return found[:count]


def _new_feasible(missed: Score, rows: Genes, known: KnownRows) -> Genes:
    new = rows[known.add(rows)]
    return new[missed(new) <= 0] if len(new) else new


def _ends(problem: Problem) -> Genes:
    space = problem.space
    return np.concatenate([space.extremes("smallest"), space.extremes("largest")])


def _range(problem: Problem, metric: str, target: str, rng: np.random.Generator) -> ReachableRange:
    cost = problem.cost(target)
    extremes = cost.extremes(metric)
    if extremes is not None:
        (lowest, genes), (highest, _) = extremes
    else:
        starts = _ends(problem)
        genes, lowest = _descend(
            problem, lambda g: cost.predict(g)[metric], starts, rng, patience=_PATIENCE
        )
        _, negative = _descend(
            problem, lambda g: -cost.predict(g)[metric], starts, rng, patience=_PATIENCE
        )
        highest = -negative
    return ReachableRange(
        metric=metric,
        target=target,
        lowest=float(lowest),
        highest=float(highest),
        exact=extremes is not None,
        lowest_genes=tuple(np.ravel(genes).tolist()),
    )


def _check_alone(
    problem: Problem,
    constraint: Constraint,
    reach: ReachableRange,
    starts: Genes,
    rng: np.random.Generator,
) -> Genes:
    """An architecture that keeps one limit, a `1 x d` array.

    Raises:
        InfeasibleConstraintError: None was found.
    """
    cost = problem.cost(constraint.target)

    def bound(genes: Genes) -> Floats:
        return cost.bound(constraint.metric, genes, problem.probability)

    starts = np.concatenate([np.array([reach.lowest_genes], np.int16), starts])
    row, nearest = _descend(problem, bound, starts, rng, enough=constraint.limit)
    if nearest <= constraint.limit:
        return row
    shown = _rounded_up(nearest)
    words = "lowest reachable" if reach.exact else "lowest found"
    raise InfeasibleConstraintError(
        f"no architecture of {problem.space.name!r} meets {constraint}: the {words} is {shown:g}, "
        f"to hold with probability {problem.probability:g} ({reach.lowest:.3g} is expected); "
        "raise the limit or widen the space",
        {(constraint.metric, constraint.target): shown},
    )


def _check_jointly(
    problem: Problem, targets: tuple[str, ...], starts: Genes, rng: np.random.Generator
) -> Genes:
    """An architecture that all of some targets allow, a `1 x d` array.

    Raises:
        InfeasibleConstraintError: None was found.
    """
    row, missed = _descend(
        problem,
        lambda genes: problem.misses(genes, targets),
        starts,
        rng,
        enough=0.0,
        generations=_JOINT_GENERATIONS,
    )
    if missed <= 0:
        return row
    places = [i for i, c in enumerate(problem.constraints) if c.target in targets]
    values = [_rounded_up(value) for value in problem.bounds(row)[0][places]]
    constraints = [problem.constraints[i] for i in places]
    pairs = list(zip(constraints, values, strict=True))
    limits = " and ".join(str(c) for c in constraints)
    if not problem.runs(row)[0, [problem.targets.index(t) for t in targets]].all():
        raise InfeasibleConstraintError(
            f"no architecture of {problem.space.name!r} was found that runs on "
            f"{' and '.join(map(repr, targets))}{' with ' + limits if limits else ''}: the "
            "targets do not run every network (such as those of another precision); search "
            "without together=True, widen the space or raise a limit"
        )
    nearest = " with ".join(f"{c.metric} {v:g} on {c.target!r}" for c, v in pairs)
    raise InfeasibleConstraintError(
        f"no architecture of {problem.space.name!r} meets all limits at once ({limits}), though "
        f"each alone can be met: the nearest found has {nearest}; raise a limit or widen the "
        "space",
        {(c.metric, c.target): v for c, v in pairs},
    )


def _descend(
    problem: Problem,
    score: Score,
    starts: Genes,
    rng: np.random.Generator,
    *,
    enough: float = -math.inf,
    generations: int = _GENERATIONS,
    patience: int = _JOINT_GENERATIONS,
) -> tuple[Genes, float]:
    """Looks for the lowest score by evolution, then by changing one gene after the other.

    Args:
        problem: The space.
        score: Gives an array of length `n`, or an `n x m` array whose rows are summed; its columns
            are then objectives of the evolution, which keeps what they trade between them.
        starts: Rows to begin with, at least one.
        rng: The source of randomness.
        enough: A score at which to stop.
        generations: After which the evolution stops.
        patience: Generations without a lower score after which it stops.

    Returns:
        The best row found, a `1 x d` array, and its score.
    """
    seed = int(rng.integers(2**62))
    evolution = NSGA2(problem.space, population_size=_POPULATION, seed=seed, initial=starts)
    best, lowest, waited = starts[:1], math.inf, 0
    for _ in range(generations):
        genes = evolution.ask(_POPULATION) if lowest > enough and waited < patience else starts[:0]
        if len(genes) == 0:
            break
        columns = _columns(score, genes)
        before = lowest
        best, lowest = _better(genes, columns, best, lowest)
        waited = waited + 1 if lowest == before else 0
        evolution.tell(genes, columns)
    for _ in range(_LOCAL_STEPS):
        before = lowest
        if lowest <= enough:
            break
        genes = neighbours(problem.space, best[0])
        best, lowest = _better(genes, _columns(score, genes), best, lowest)
        if lowest == before:
            break
    return best, lowest


def _columns(score: Score, genes: Genes) -> Floats:
    values = np.asarray(score(genes), np.float64).reshape(len(genes), -1)
    return np.where(np.isnan(values), np.inf, values)


def _better(genes: Genes, columns: Floats, best: Genes, lowest: float) -> tuple[Genes, float]:
    total = columns.sum(axis=1)
    place = int(total.argmin())
    if total[place] < lowest:
        return genes[place : place + 1], float(total[place])
    return best, lowest


def _rounded_up(value: float, digits: int = 3) -> float:
    """A number as a message shows it: never below the value, so that it is a limit that works."""
    if not math.isfinite(value) or value == 0:
        return float(value)
    scale = 10.0 ** (digits - 1 - math.floor(math.log10(abs(value))))
    shown = math.ceil(value * scale) / scale
    return shown if shown >= value else (math.ceil(value * scale) + 1) / scale
