"""Which values of choices a search can do without, by what a predictor has learned.

After some hundred evaluations a predictor knows values that harm wherever they stand. Removing
them leaves a smaller space in which every further evaluation is spent better (GBDT-NAS, Luo et
al., Accuracy Prediction with Non-neural Model for Neural Architecture Search, 2020, arXiv
2007.04785: at most 20 values a round, single values first, then pairs).

A value is removed where its effect (`predictors.value_effects`) is below 0 with its whole
interval and rests on enough rows. One is removed at a time, the worst first, and the effects are
then taken on what is left: otherwise a depth would be blamed for what one kernel of its last layer
does. Of every choice a value stays.

With accuracy alone this removes what is small, since large is more accurate, and with it the cheap
half of the space: a search under limits gives a `cost`, and values are then judged by accuracy at
equal cost.

Pairs that harm beyond their values cannot be taken out of a space of independent choices;
`PruningAdvice.keeps` says which architectures are without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from predictors.boosted_trees import BoostedTrees
from predictors.value_effects import Cost, Effect, Effects
from records import BadInputError
from search_spaces import Restricted, SearchSpace
from search_spaces.choice import Value

MOST_VALUES = 20
LEAST_ROWS = 5
LEAST_EVALUATED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueEffect:
    """A value of a choice and its effect on the predicted values."""

    choice: str
    value: Value
    effect: Effect


@dataclass(frozen=True, slots=True, kw_only=True)
class PairEffect:
    """Two values of two choices and what they do together beyond what each does."""

    choices: tuple[str, str]
    values: tuple[Value, Value]
    effect: Effect


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningAdvice:
    """What to remove from a space, and everything that was looked at.

    Attributes:
        space: The space of the predictor; it stays as it is.
        removed: The values to remove, in the order in which they were found, each with its effect
            on what was left then.
        pairs: The pairs to avoid, the worst first; none unless asked for.
        effects: The effects of all values in the whole space, in the order of the choices.
        at_equal_cost: Whether effects are at equal cost.
    """

    space: SearchSpace
    removed: tuple[ValueEffect, ...]
    pairs: tuple[PairEffect, ...]
    effects: tuple[ValueEffect, ...]
    at_equal_cost: bool

    def applied(self, space: SearchSpace | None = None) -> Restricted:
        """The space without the removed values, as `SearchSpace.restrict` makes it.

        Nothing is lost: the restricted space knows its `base`, and `to_base` and `from_base` give
        the genes of one as those of the other.

        Args:
            space: A space with the same choices, or some of them: the one advised on unless given,
                or a restriction of it from an earlier round. What it does not offer any more is
                passed over, and the last value of a choice stays.

        Raises:
            BadInputError: Nothing is left to choose.
        """
        space = self.space if space is None else space
        gone: dict[str, set[Value]] = {}
        for entry in self.removed:
            gone.setdefault(entry.choice, set()).add(entry.value)
        kept = {
            choice.name: tuple(v for v in choice.values if v not in gone[choice.name])
            for choice in space.choices
            if choice.name in gone
        }
        return space.restrict({name: values for name, values in kept.items() if values})

    def keeps(self, genes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which architectures have no removed value and no pair to avoid, a mask of length `n`.

        Args:
            genes: An `n x d` array of genes of the space advised on.
        """
        rows = self.space.gene_space.check(genes)
        active = self.space.active(rows)
        place = {choice.name: j for j, choice in enumerate(self.space.choices)}

        def has(name: str, value: Value) -> npt.NDArray[np.bool_]:
            j = place[name]
            gene = self.space.choices[j].values.index(value)
            there: npt.NDArray[np.bool_] = active[:, j] & (rows[:, j] == gene)
            return there

        out = np.zeros(len(rows), np.bool_)
        for entry in self.removed:
            out |= has(entry.choice, entry.value)
        for pair in self.pairs:
            out |= has(pair.choices[0], pair.values[0]) & has(pair.choices[1], pair.values[1])
        return ~out

    def __str__(self) -> str:
        left = self.applied().cardinality
        equal = " at equal cost" if self.at_equal_cost else ""
        lines = [
            f"{self.space.name}: {len(self.removed)} of {len(self.effects)} values removed, "
            f"{left:.4g} of {self.space.cardinality:.4g} architectures left; mean effect{equal}, "
            "its interval, and the evaluated rows that it rests on"
        ]
        named = [(f"{e.choice} = {e.value}", e.effect) for e in self.removed]
        named += [
            (
                " and ".join(f"{c} = {v}" for c, v in zip(p.choices, p.values, strict=True)),
                p.effect,
            )
            for p in self.pairs
        ]
        wide = max((len(name) for name, _ in named), default=0)
        lines += [f"{name:<{wide}}  {effect}" for name, effect in named]
        return "\n".join(lines)


def pruning_advice(
    model: BoostedTrees,
    genes: npt.ArrayLike,
    *,
    cost: Cost | None = None,
    most: int = MOST_VALUES,
    least_rows: int = LEAST_ROWS,
    confidence: float = 0.95,
    pairs: bool = False,
    most_rows: int = 256,
    seed: int = 0,
) -> PruningAdvice:
    """Advises what to remove from the space of a predictor whose values are better when larger.

    From evaluated rows:
    `pruning_advice(BoostedTrees(space, graph=False).fit(genes, values), genes)`.

    Args:
        model: Fitted, made with a space.
        genes: The rows that it was fitted on, an `n x d` array with at least `LEAST_EVALUATED`
            distinct ones.
        cost: Judges values at equal cost, e.g. `lambda genes: space.layer_table(genes).macs` or a
            cost model's `latency_ms`.
        most: At most so many values are removed, and so many pairs named.
        least_rows: Values (and pairs) with fewer evaluated rows stay: too little is known.
        confidence: Of the intervals.
        pairs: Whether pairs of the values that are left are looked at too, which takes the square
            of the time.
        most_rows: Rows to average predictions over.
        seed: Draws these, and choices that become active.

    Raises:
        BadInputError: A predictor without a space, or one that sees networks by their graph, where
            a choice's effect is spread over what moves with it; too few rows, a number out of
            range.
        NotFittedError: The predictor is not fitted.
    """
    if model.space is None:
        raise BadInputError("the predictor was made with featurize: make it with a space")
    if model.graph:
        raise BadInputError(
            "the predictor sees networks by their graph, where effects of single choices do not "
            "show: fit BoostedTrees(space, graph=False)"
        )
    space = model.space
    rows = space.gene_space.check(genes)
    _check(rows, most, least_rows, confidence, most_rows)
    effects = Effects(
        model, space, rows, cost=cost, confidence=confidence, most_rows=most_rows, seed=seed
    )
    found = [
        ValueEffect(choice=choice.name, value=choice.values[v], effect=effect)
        for j, choice in enumerate(space.choices)
        for v, effect in effects.of_values(j).items()
    ]
    removed = _removed(effects, most, least_rows)
    return PruningAdvice(
        space=space,
        removed=tuple(removed),
        pairs=tuple(_worst_pairs(effects, most, least_rows)) if pairs else (),
        effects=tuple(found),
        at_equal_cost=cost is not None,
    )


def _check(
    rows: npt.NDArray[np.int16], most: int, least_rows: int, confidence: float, most_rows: int
) -> None:
    distinct = len(np.unique(rows, axis=0))
    if distinct < LEAST_EVALUATED:
        raise BadInputError(
            f"{distinct} distinct architectures say too little about values: evaluate at least "
            f"{LEAST_EVALUATED}"
        )
    for name, value in (("most", most), ("least_rows", least_rows), ("most_rows", most_rows)):
        if value < 1:
            raise BadInputError(f"{name} must be at least 1, got {value}")
    if not 0 < confidence < 1:
        raise BadInputError(f"confidence must be above 0 and below 1, got {confidence}")


def _removed(effects: Effects, most: int, least_rows: int) -> list[ValueEffect]:
    """Removes the worst value that harms, looks again at what is left, and so on.

    A choice whose values average to 0 has always one that does not harm, so one stays.
    """
    choices = effects.space.choices
    removed: list[ValueEffect] = []
    harmful = list(range(len(choices)))
    while harmful and len(removed) < most:
        found = {
            (j, v): effect
            for j in harmful
            for v, effect in effects.of_values(j).items()
            if _harms(effect, least_rows)
        }
        if not found:
            break
        j, v = min(found, key=lambda place: found[place].mean)
        choice = choices[j]
        removed.append(ValueEffect(choice=choice.name, value=choice.values[v], effect=found[j, v]))
        effects.remove(j, v)
        harmful = sorted({j for j, _ in found})
    return removed


def _worst_pairs(effects: Effects, most: int, least_rows: int) -> list[PairEffect]:
    """The pairs that harm beyond their values and in all, the worst first."""
    bad = [
        PairEffect(
            choices=(first.name, second.name),
            values=(first.values[v], second.values[w]),
            effect=beyond,
        )
        for (i, first), (j, second) in combinations(enumerate(effects.space.choices), 2)
        for (v, w), (beyond, joint) in effects.of_pairs(i, j).items()
        if _harms(beyond, least_rows) and _harms(joint, least_rows)
    ]
    return sorted(bad, key=lambda e: e.effect.mean)[:most]


def _harms(effect: Effect, least_rows: int) -> bool:
    """Whether an effect is below 0 for certain; NaN is not."""
    return effect.upper < 0 and effect.rows >= least_rows
