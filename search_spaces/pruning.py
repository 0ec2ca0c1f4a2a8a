"""What a limit leaves of a space: values of choices that no architecture under it has are removed.

A choice's value is removed if the least metric over all architectures in which it is active
exceeds the limit. For a metric that is a sum over table rows this least is exact, so no
architecture under the limit is lost, and one pass is enough: an architecture that shows that a
value can stay shows the same for all its values.

For any other metric the least is looked for by a bounded search. It may miss an architecture under
the limit, and with it remove a value that could stay; the result then says "lowest found".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.additive import InfeasibleLimitError, layer_values, least
from search_spaces.choice import Value
from search_spaces.genes import Genes
from search_spaces.restricted import Restricted
from search_spaces.space import SearchSpace
from search_spaces.tabulate import Tabulation

Metric: TypeAlias = Callable[[Genes], npt.NDArray[np.float64]]
"""A function of an `n x d` array of canonical genes that gives an array of length `n`."""

_ROUNDING = 1e-12
"""Relative error of a sum, by which a limit counts as kept."""

_KEPT = 4
"""Rows that the search keeps for each value of each choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedValue:
    """A value that was removed.

    Attributes:
        choice: The choice's name.
        value: The value.
        least: The least metric of the architectures that have it; with a search, the lowest
            found; infinity where no architecture has it at all.
    """

    choice: str
    value: Value
    least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a limit leaves of a space.

    Attributes:
        space: The space without the values that do not keep the limit.
        removed: The values that were removed, in the order of the choices.
        limit: The limit.
        least: The least metric of the whole space; with a search, the lowest found.
        exact: Whether `least` and those of the removed values are proven. If not, an architecture
            under the limit may have been lost.
    """

    space: Restricted
    removed: tuple[RemovedValue, ...]
    limit: float
    least: float
    exact: bool

    def __str__(self) -> str:
        words = "least" if self.exact else "lowest found"
        base = self.space.base
        wide = max((len(r.choice) for r in self.removed), default=0)
        lines = [
            f"{base.name} under {self.limit:g} ({words} {self.least:g}): {len(self.removed)} "
            f"values removed, {self.space.cardinality:.4g} of {base.cardinality:.4g} "
            "architectures left"
        ]
        lines += [f"{r.choice:<{wide}}  {r.value!s:<8}  {words} {r.least:g}" for r in self.removed]
        return "\n".join(lines)


def prune(
    space: SearchSpace, table: Tabulation, values: npt.NDArray[np.float64], limit: float
) -> Pruned:
    """Removes the values of choices that no architecture under a limit has, exactly.

    Args:
        space: The space.
        table: The tabulation over whose rows the metric is a sum.
        values: The summand of every variant, as in `least`.
        limit: The greatest allowed sum.

    Raises:
        InfeasibleLimitError: No architecture keeps the limit; the least reachable is named.
        BadInputError: A limit that is no number, rows that hang together too tightly, a limit so
            low that nothing is left to choose.
    """
    lowest, row = least(space, table, values)
    slack = _ROUNDING * max(abs(limit), float(np.abs(values).max()))
    _check(space, limit, lowest, slack, "least reachable")
    shown = _values_of(space, row[None])
    leasts: dict[tuple[int, int], float] = {}
    for gene, choice in enumerate(space.choices):
        for place, value in enumerate(choice.values):
            if (gene, place) in shown:
                continue
            reached, row = least(space, table, values, having={choice.name: value})
            leasts[gene, place] = reached
            if reached <= limit + slack:
                shown |= _values_of(space, row[None])
    excess = {pair: leasts[pair] for pair in leasts if pair not in shown}
    return _pruned(space, excess, limit, lowest, exact=True)


def prune_layers(space: SearchSpace, metric: str, limit: float) -> Pruned:
    """`prune` for `macs`, `parameters` or `elements` (output values of all layers) of the layers.

    Raises:
        InfeasibleLimitError: No architecture keeps the limit; the least reachable is named.
        UnknownNameError: Another metric.
    """
    return prune(space, *layer_values(space, metric), limit)


def prune_by_search(
    space: SearchSpace,
    metric: Metric,
    limit: float,
    rng: np.random.Generator,
    *,
    samples: int = 4096,
    rounds: int = 30,
) -> Pruned:
    """Removes the values of choices for which no architecture under a limit was found.

    From random architectures and the smallest and largest ones, the best few with each value of
    each choice are kept; they are mutated, the value held fixed, as long as the best of them
    exceeds the limit.

    Args:
        space: The space.
        metric: The metric of a population; NaN counts as infinity.
        limit: The greatest allowed value.
        rng: The source of randomness.
        samples: Random architectures to begin with.
        rounds: Rounds of mutation; each evaluates at most four rows for each value of each choice.

    Raises:
        InfeasibleLimitError: None was found under the limit; the lowest found is named.
        BadInputError: A limit that is no number.
    """
    search = _Search(space, metric, rng)
    ends = [space.extremes("smallest"), space.extremes("largest")]
    search.look_at(np.concatenate([*ends, space.sample(samples, rng)]))
    search.look_at(search.missing())
    for _ in range(rounds):
        children = search.children(limit)
        if len(children) == 0:
            break
        search.look_at(children)
    lowest = float(min(scores[0] for scores in search.scores if len(scores)))
    _check(space, limit, lowest, 0.0, "lowest found")
    excess = {
        pair: float(scores[0]) if len(scores) else math.inf
        for pair, scores in zip(search.pairs, search.scores, strict=True)
        if len(scores) == 0 or scores[0] > limit
    }
    return _pruned(space, excess, limit, lowest, exact=False)


class _Search:
    """The lowest rows found for every value of every choice."""

    def __init__(self, space: SearchSpace, metric: Metric, rng: np.random.Generator) -> None:
        self.space = space
        self.metric = metric
        self.rng = rng
        self.pairs = [(j, v) for j, c in enumerate(space.choices) for v in range(len(c.values))]
        self.rows: list[Genes] = [np.zeros((0, len(space.choices)), np.int16) for _ in self.pairs]
        self.scores: list[npt.NDArray[np.float64]] = [np.zeros(0) for _ in self.pairs]

    def look_at(self, genes: Genes) -> None:
        """Evaluates rows and keeps the lowest for each value that they have."""
        genes = np.unique(genes, axis=0)
        if len(genes) == 0:
            return
        found = np.asarray(self.metric(genes), np.float64)
        if found.shape != (len(genes),):
            raise BadInputError(
                f"the metric of {len(genes)} rows must be an array of that length, got shape "
                f"{found.shape}"
            )
        scores = np.where(np.isnan(found), np.inf, found)
        active = self.space.active(genes)
        for p, (gene, place) in enumerate(self.pairs):
            having = np.flatnonzero(active[:, gene] & (genes[:, gene] == place))
            best = having[np.argsort(scores[having], kind="stable")[:_KEPT]]
            rows = np.concatenate([self.rows[p], genes[best]])
            both = np.concatenate([self.scores[p], scores[best]])
            _, first = np.unique(rows, axis=0, return_index=True)
            first = first[np.argsort(both[first], kind="stable")[:_KEPT]]
            self.rows[p], self.scores[p] = rows[first], both[first]

    def missing(self) -> Genes:
        """A row for each value that no row so far has, where there is one at all."""
        table = self.space.layers
        rows = [np.zeros((0, len(self.space.choices)), np.int16)]
        for (gene, place), scores in zip(self.pairs, self.scores, strict=True):
            if len(scores) == 0:
                choice = self.space.choices[gene]
                having = {choice.name: choice.values[place]}
                total, row = least(self.space, table, np.zeros(table.variants), having=having)
                rows.append(row[None][: int(math.isfinite(total))])
        return np.concatenate(rows)

    def children(self, limit: float) -> Genes:
        """Mutations of the rows of those values that exceed the limit, the value held fixed."""
        left = [p for p, scores in enumerate(self.scores) if len(scores) and scores[0] > limit]
        if not left:
            return np.zeros((0, len(self.space.choices)), np.int16)
        parents = np.concatenate([self.rows[p] for p in left])
        counts = [len(self.rows[p]) for p in left]
        gene, place = np.repeat([self.pairs[p] for p in left], counts, axis=0).T
        probability = float(self.rng.choice([0.0, 0.05, 0.2]))
        children = self.space.mutate(parents, self.rng, probability)
        children[np.arange(len(children)), gene] = place
        return self.space.canonical(children)


def _check(space: SearchSpace, limit: float, lowest: float, slack: float, words: str) -> None:
    if math.isnan(limit):
        raise BadInputError("the limit must be a number, got nan")
    if lowest > limit + slack:
        raise InfeasibleLimitError(
            f"no architecture of {space.name!r} keeps the limit of {limit:g}: the {words} is "
            f"{lowest:g}; raise the limit or widen the space",
            lowest,
        )


def _values_of(space: SearchSpace, genes: Genes) -> set[tuple[int, int]]:
    """The active (gene, value) pairs of a `1 x d` row."""
    active = space.active(genes)[0]
    return {(int(j), int(genes[0, j])) for j in np.flatnonzero(active)}


def _pruned(
    space: SearchSpace,
    excess: dict[tuple[int, int], float],
    limit: float,
    lowest: float,
    *,
    exact: bool,
) -> Pruned:
    """The record; a choice that is never active under the limit keeps its lowest value."""
    allowed: list[tuple[str, tuple[Value, ...]]] = []
    removed: list[RemovedValue] = []
    for gene, choice in enumerate(space.choices):
        gone = {v: excess[gene, v] for v in range(len(choice.values)) if (gene, v) in excess}
        if len(gone) == len(choice.values):
            del gone[min(gone, key=lambda v: (gone[v], v))]
        if gone:
            kept = tuple(v for i, v in enumerate(choice.values) if i not in gone)
            allowed.append((choice.name, kept))
        removed += [
            RemovedValue(choice=choice.name, value=choice.values[v], least=gone[v]) for v in gone
        ]
    return Pruned(
        space=Restricted(base=space, allowed=tuple(allowed)),
        removed=tuple(removed),
        limit=float(limit),
        least=lowest,
        exact=exact,
    )
