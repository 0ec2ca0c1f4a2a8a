"""Sensitivity bisection: what each choice costs alone, and one threshold for all of them.

The most accurate of the largest networks is changed in one choice at a time, to each of its other
values, and the loss of each change is measured. The losses are made monotone: of two values of a
choice the cheaper one never counts as the less harmful. For a threshold `t` each choice then takes
its cheapest value with a loss of at most `t`, and bisection finds the least threshold whose
network keeps the limits. Limits are checked on the costs, so the bisection measures nothing.

Deviations: without a limit, or beyond it, the networks of all larger thresholds are measured as
well, which gives a front; and a choice of names is ordered by what its values cost.

References:
    FastNAS in NVIDIA's Model Optimizer (https://github.com/NVIDIA/Model-Optimizer); the idea of
    one threshold over sensitivities goes back to Yang et al., NetAdapt, ECCV 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces import Genes, SearchSpace
from strategies.neighbourhood import largest_values, neighbours
from strategies.planned import Planned
from strategies.problem import Problem
from strategies.protocols import Floats


class SensitivityBisection(Planned):
    """Measures sensitivities, bisects on them, then searches around the outcome.

    It needs the largest networks and those one choice away from the best of them: in all the
    number of values of all active choices, about.

    Args:
        problem: The space, costs and limits.
        seed: See `Strategy`.
        initial: See `Strategy`.
    """

    def __init__(
        self, problem: Problem, *, seed: int = 0, initial: npt.ArrayLike | None = None
    ) -> None:
        super().__init__(problem, seed=seed, initial=initial)
        self._largest = problem.space.extremes("largest")
        self._base: Genes | None = None
        self._path: Genes | None = None

    @property
    def path(self) -> Genes:
        """The networks of the thresholds from the bisected one on, from large to small; empty
        while sensitivities are missing."""
        return self._no_rows() if self._path is None else self._path.copy()

    def _needed(self) -> Genes:
        missing = self._untold(self._largest)
        if len(missing):
            return missing
        if self._base is None:
            error = self._error(self._largest)
            if np.isnan(error).all():
                return self._no_rows()
            self._base = self._largest[int(np.nanargmin(error))]
        if self._path is None:
            changed = neighbours(self.space, self._base, fill=largest_values(self.space))
            missing = self._untold(changed)
            if len(missing):
                return missing
            loss = self._error(changed) - self._error(self._base[None])
            path = threshold_path(self.space, self._base, changed, loss, self._log_cost)
            self._path = path[self._bisect(path) :]
        return self._untold(self._path)

    def _bisect(self, path: Genes) -> int:
        """The first network that keeps the limits; the last one where none does."""
        low, high = 0, len(path) - 1
        while low < high:
            middle = (low + high) // 2
            if self.problem.violations(path[middle : middle + 1])[0] <= 0:
                high = middle
            else:
                low = middle + 1
        return low

    def _learned(self) -> dict[str, Any]:
        return super()._learned() | {
            "base": None if self._base is None else self._base.tolist(),
            "path": None if self._path is None else self._path.tolist(),
        }

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        super()._relearn(learned)
        self._base = None if learned["base"] is None else self._rows(learned["base"])[0]
        self._path = None if learned["path"] is None else self._rows(learned["path"])


def threshold_path(
    space: SearchSpace,
    base: Genes,
    changed: Genes,
    loss: Floats,
    log_cost: Callable[[Genes], Floats],
) -> Genes:
    """The networks that all thresholds give, from the least threshold to the largest.

    Args:
        space: The space.
        base: The network that was changed, an array of length `d`.
        changed: Networks that differ from it in one active choice, a `k x d` array.
        loss: What each change adds to the error, of length `k`; NaN where it is unknown, so that
            the value is never taken. Less than 0 counts as 0.
        log_cost: Orders the values of a choice.

    Returns:
        Distinct canonical rows, the base first unless a change without loss is cheaper.
    """
    cost = log_cost(changed)
    own_cost = float(log_cost(base[None])[0])
    gene, value = _changes(space, base, changed)
    steps: list[tuple[float, float, int, int]] = []  # loss, cost, gene, value
    for j in np.unique(gene).tolist():
        of_gene = np.flatnonzero((gene == j) & (cost < own_cost) & ~np.isnan(loss))
        of_gene = of_gene[np.argsort(-cost[of_gene], kind="stable")]
        worst = np.maximum.accumulate(np.maximum(loss[of_gene], 0.0))
        steps += [
            (float(w), -float(cost[i]), j, int(value[i]))
            for w, i in zip(worst, of_gene, strict=True)
        ]
    active = space.active(base[None])[0]
    row = np.where(active, base, largest_values(space)).astype(np.int16)
    thresholds = sorted({0.0, *(step[0] for step in steps)})
    rows = []
    for threshold in thresholds:
        for _, _, j, v in sorted(s for s in steps if s[0] <= threshold):
            row[j] = v
        rows.append(row.copy())
    path = space.canonical(np.array(rows, np.int16))
    return path[np.sort(np.unique(path, axis=0, return_index=True)[1])]


def _changes(space: SearchSpace, base: Genes, changed: Genes) -> tuple[Genes, Genes]:
    """The gene that each network was changed in, and its value: the first that differs.

    What a change switches on or off depends on it, and so stands behind it.
    """
    gene = (changed != base).argmax(axis=1)
    return gene, changed[np.arange(len(changed)), gene]
