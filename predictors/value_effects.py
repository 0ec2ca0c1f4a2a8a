"""What a fitted predictor says that each value of each choice does.

The effect of value v of choice c is a partial dependence (Friedman, Greedy Function Approximation,
2001, sec. 8.2), taken over the evaluated architectures in which c is active:

    effect(c = v) = mean over them of  f(x with c = v) - mean over values v' of f(x with c = v')

Where a value makes other choices active, these are drawn at random, for all values alike. In place
of the SHAP values of GBDT-NAS (Luo et al., 2020, arXiv 2007.04785): their mean over the rows with
c = v also holds what else these rows have in common, and they would be shared out between a choice
and the statistics of the layer table that move with it.

**Interval.** The members of `BoostedTrees` have each left a part of the rows out. With `e_k` the
effects by the `g` members of one division, the delete-a-group jackknife
(Kott, Journal of Official Statistics 17, 2001) gives

    variance = (g - 1) / g * sum over k of (e_k - mean)^2

averaged over divisions; the interval is that of Student's t with `divisions * (g - 1)` degrees of
freedom. Members differ by their random numbers too, so it is wide rather than narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from predictors.boosted_trees import FOLDS, BoostedTrees
from records import generator
from search_spaces import Genes, SearchSpace

Array: TypeAlias = npt.NDArray[np.float64]
Cost: TypeAlias = Callable[[Genes], npt.ArrayLike]
"""A cost of an `n x d` array of genes, positive: an array of length `n`."""

_CHUNK = 16_384  # rows predicted at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """An effect on the predicted values, in their unit.

    Attributes:
        mean: By all members.
        lower: The lower end of the interval; NaN where nothing was evaluated.
        upper: The upper end.
        rows: Evaluated architectures that have the value (or both values of a pair).
    """

    mean: float
    lower: float
    upper: float
    rows: int

    def __str__(self) -> str:
        return f"{self.mean:+.3g}  [{self.lower:+.3g}, {self.upper:+.3g}]  {self.rows} rows"


class Effects:
    """The effects of values and of pairs of values in one fitted predictor.

    Values can be removed: effects are then taken over architectures without them, in which removed
    values are replaced by others at random.

    Args:
        model: Fitted, on a space.
        space: The space.
        genes: The evaluated architectures, an `n x d` array in canonical form.
        cost: Effects are then taken at equal cost: less what a predicted value rises with the
            logarithm of the cost over random architectures.
        confidence: Of the intervals.
        most_rows: Architectures to average over, the first in a random order.
        seed: Draws them, and values in place of others.
    """

    def __init__(
        self,
        model: BoostedTrees,
        space: SearchSpace,
        genes: Genes,
        *,
        cost: Cost | None,
        confidence: float,
        most_rows: int,
        seed: int,
    ) -> None:
        self.model = model
        self.space = space
        self.cost = cost
        self.confidence = confidence
        self.most_rows = most_rows
        self.left = [list(range(len(choice.values))) for choice in space.choices]
        self._genes, self._active = genes, space.active(genes)
        self._rng = generator(seed, "pruning advice")
        self._order = self._rng.permutation(len(genes))
        # every gene has a value here, also the inactive ones, in case they become active
        drawn = space.gene_space.uniform(len(genes), self._rng)
        self._full = np.where(self._active, genes, drawn).astype(np.int16)
        self._divisions = model.member_count // FOLDS
        self._slopes = None if cost is None else self._slopes_of(space.sample(1024, self._rng))

    def remove(self, j: int, value: int) -> None:
        """Leaves a value of choice `j` out from now on; it must not be the last."""
        self.left[j].remove(value)
        drawn = self._rng.choice(self.left[j], len(self._full))
        self._full[:, j] = np.where(self._full[:, j] == value, drawn, self._full[:, j])

    def of_values(self, j: int) -> dict[int, Effect]:
        """The effect of every value of choice `j` that is left."""
        counts = [self._having({j: v}) for v in self.left[j]]
        base = self._base([j])
        if len(base) == 0:
            nothing = Effect(mean=math.nan, lower=math.nan, upper=math.nan, rows=0)
            return dict.fromkeys(self.left[j], nothing)
        means = np.stack([self._means(self._with(base, {j: v})) for v in self.left[j]])
        effects = self._effects(means - means.mean(axis=0), counts)
        return dict(zip(self.left[j], effects, strict=True))

    def of_pairs(self, i: int, j: int) -> dict[tuple[int, int], tuple[Effect, Effect]]:
        """What pairs of values do beyond the two values, and what they do in all.

        Over the architectures in which both choices are active. Values of `i` with which `j` would
        not be are left out.

        Args:
            i: A choice.
            j: A later one.
        """
        base = self._base([i, j])
        means: dict[int, Array] = {}
        for v in self.left[i]:
            rows = [self._with(base, {i: v, j: w}) for w in self.left[j]]
            if len(base) and all(self.space.active(r)[:, [i, j]].all() for r in rows):
                means[v] = np.stack([self._means(r) for r in rows])
        if not means:
            return {}
        table = np.stack(list(means.values()))
        joint = table - table.mean(axis=(0, 1))
        beyond = joint - joint.mean(axis=0) - joint.mean(axis=1)[:, None]
        pairs = [(v, w) for v in means for w in self.left[j]]
        counts = [self._having({i: v, j: w}) for v, w in pairs]
        parts = (part.reshape(len(pairs), -1) for part in (beyond, joint))
        effects = zip(*(self._effects(part, counts) for part in parts), strict=True)
        return dict(zip(pairs, effects, strict=True))

    def _having(self, values: dict[int, int]) -> int:
        """How many evaluated architectures have the values."""
        has = [self._active[:, k] & (self._genes[:, k] == value) for k, value in values.items()]
        return int(np.logical_and.reduce(has).sum())

    def _base(self, choices: list[int]) -> npt.NDArray[np.intp]:
        """The architectures to average over: some in which all of the choices are active."""
        mask = np.logical_and.reduce(self.space.active(self._full)[:, choices], axis=1)
        found: npt.NDArray[np.intp] = self._order[mask[self._order]][: self.most_rows]
        return found

    def _with(self, base: npt.NDArray[np.intp], values: dict[int, int]) -> Genes:
        """Architectures with some genes set."""
        rows = self._full[base].copy()
        for j, value in values.items():
            rows[:, j] = value
        return self.space.canonical(rows)

    def _means(self, rows: Genes) -> Array:
        """Each member's mean prediction at equal cost, an array of length `members`."""
        predicted = self._predicted(rows)
        if self.cost is not None and self._slopes is not None:
            predicted = predicted - self._slopes[:, None] * _log_cost(self.cost, rows)
        mean: Array = predicted.mean(axis=1)
        return mean

    def _predicted(self, rows: Genes) -> Array:
        parts = range(0, len(rows), _CHUNK)
        found = [self.model.member_predictions(rows[k : k + _CHUNK]) for k in parts]
        return np.concatenate(found, axis=1)[: self._divisions * FOLDS]  # whole divisions

    def _slopes_of(self, rows: Genes) -> Array:
        """By how much each member's prediction rises with the logarithm of the cost."""
        assert self.cost is not None
        logarithm = _log_cost(self.cost, rows)
        logarithm = logarithm - logarithm.mean()
        square = float(logarithm @ logarithm)
        predicted = self._predicted(rows)
        return predicted @ logarithm / square if square else np.zeros(len(predicted))

    def _effects(self, members: Array, counts: list[int]) -> list[Effect]:
        """Effects with intervals from a `values x members` array."""
        mean = members.mean(axis=1)
        parts = members.reshape(len(members), self._divisions, FOLDS)
        squares = ((parts - parts.mean(axis=2, keepdims=True)) ** 2).sum(axis=2)
        variance = (squares * (FOLDS - 1) / FOLDS).mean(axis=1)
        quantile = student_t.ppf(0.5 + self.confidence / 2, self._divisions * (FOLDS - 1))
        half = quantile * np.sqrt(variance)
        return [
            Effect(mean=float(m), lower=float(m - h), upper=float(m + h), rows=n)
            for m, h, n in zip(mean, half, counts, strict=True)
        ]


def _log_cost(cost: Cost, rows: Genes) -> Array:
    found = np.asarray(cost(rows), np.float64)
    return np.log(np.maximum(found, np.finfo(np.float64).tiny))
