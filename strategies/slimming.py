"""Latency-driven slimming: from the largest network down, always by the cheapest change.

Each step looks at all networks that are one choice away from the current one and faster (numbers
one step down, names any other), and takes the one that loses the least accuracy for the latency
it saves. Every network on the way is a point of a front, from the largest to the smallest.

The loss of each change is measured, or predicted; with a predictor only the networks on the way
are measured. While the current network misses limits, what counts as saved is the cost that is
limited.

Deviations from the paper: the changes are those of the space, not of one family of blocks, and
their loss is measured or predicted instead of read off a mixture of blocks.

References:
    Li et al., EfficientFormer: vision transformers at MobileNet speed, NeurIPS 2022,
    arXiv 2206.01191, sec. 4.2 and algorithm 1; Li et al., Rethinking vision transformers for
    MobileNet size and speed (EfficientFormerV2), ICCV 2023 (other costs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces import Genes
from strategies.known_rows import KnownRows
from strategies.neighbourhood import largest_values, neighbours
from strategies.planned import Planned
from strategies.problem import Problem
from strategies.protocols import Floats, Predictor

_LEAST_GAIN = 1e-9
_STEPS_A_VALUE = 2
_LEAST_TRAINING = 2


class Slimming(Planned):
    """Descends from the largest networks to the smallest, then searches around the way.

    Args:
        problem: The space, costs and limits.
        predictor: Predicts accuracy, so that candidates need not be measured; None measures the
            candidates of every step, some dozens as a rule.
        training: How many distinct random networks are measured first to fit the predictor; 0 for
            one that is fitted already.
        descents: From how many of the largest networks to descend, the most accurate first. There
            is one for each way to set the choices of names.
        seed: See `Strategy`.
        initial: See `Strategy`.

    Raises:
        BadInputError: No descent, or fewer than 0 or only 1 network for training.
    """

    def __init__(
        self,
        problem: Problem,
        predictor: Predictor | None = None,
        *,
        training: int = 32,
        descents: int = 1,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        if descents < 1:
            raise BadInputError(f"descents must be at least 1, got {descents}")
        if 0 != training < _LEAST_TRAINING:
            raise BadInputError(f"training must be 0, or 2 or more, got {training}")
        super().__init__(problem, seed=seed, initial=initial)
        self.predictor = predictor
        self.descents = descents
        self._sample = self._no_rows()
        if predictor is not None and training:
            drawn = problem.space.sample(4 * training, self.rng)
            self._sample = drawn[KnownRows().add(drawn, training)]
        self._is_fitted = len(self._sample) == 0
        self._largest = problem.space.extremes("largest")
        self._begins: Genes | None = None  # where to descend from, once these are measured
        self._descent = 0
        self._way: list[Genes] = []  # the rows of the current descent

    @property
    def way(self) -> Genes:
        """The networks of the current descent, from the largest; empty when all are done."""
        return self._rows(self._way)

    def _needed(self) -> Genes:
        missing = self._untold(np.concatenate([self._sample, self._largest]))
        if len(missing):
            return missing
        if self._begins is None:
            error = self._error(self._largest)
            order = np.argsort(error, kind="stable")[: int((~np.isnan(error)).sum())]
            self._begins = self._largest[order][: self.descents]
        while self._descent < len(self._begins):
            missing = self._descend(self._begins[self._descent])
            if len(missing):
                return missing
            self._descent += 1
            self._way = []
        return self._no_rows()

    def _descend(self, start: Genes) -> Genes:
        """Goes on until measurements are missing, which are returned, or to the smallest.

        Every step saves something, so that it ends; were it to go round in circles between two
        limits, the bound on its length ends it.
        """
        if not self._way:
            self._way = [start]
        for _ in range(_STEPS_A_VALUE * int(self.space.gene_space.sizes.sum())):
            candidates, gains = self._candidates(self._way[-1])
            if len(candidates) == 0:
                break
            if self.predictor is None and len(missing := self._untold(candidates)):
                return missing
            loss = self._losses(self._way[-1], candidates)
            usable = np.flatnonzero(~np.isnan(loss))
            if len(usable) == 0:
                break
            best = usable[cheapest_change(loss[usable], gains[usable])]
            self._way.append(candidates[best])
        return self._untold(self._rows(self._way))

    def _candidates(self, row: Genes) -> tuple[Genes, Floats]:
        """The changes that save something, and the logarithm of what they save."""
        fill = largest_values(self.space)
        rows = neighbours(self.space, row, fill=fill, downwards=True)
        missed = self.problem.excesses(row[None])[0] > 0
        cost = self._log_cost(np.concatenate([row[None], rows]), missed)
        gains = cost[0] - cost[1:]
        saves = gains > _LEAST_GAIN
        if self.problem.constraints and not missed.any():  # what is kept stays kept
            saves &= self.problem.excesses(rows).sum(axis=1) <= 0
        return rows[saves], gains[saves]

    def _losses(self, row: Genes, candidates: Genes) -> Floats:
        """What the changes add to the error, NaN where an evaluation failed."""
        rows = np.concatenate([row[None], candidates])
        if self.predictor is None:
            error = self._error(rows)
        else:
            if not self._fit(self.predictor):
                return np.full(len(candidates), np.nan)
            error = 1 - self.predictor.predict(self.space.without_platform(rows)).mean
        losses: Floats = error[1:] - error[0]
        return losses

    def _fit(self, predictor: Predictor) -> bool:
        """Fits the predictor once; says whether there was anything to learn from."""
        if not self._is_fitted:
            accuracy = 1 - self._error(self._sample)
            known = ~np.isnan(accuracy)
            if known.sum() < _LEAST_TRAINING:
                return False
            predictor.fit(self.space.without_platform(self._sample[known]), accuracy[known])
            self._is_fitted = True
        return True

    def _learned(self) -> dict[str, Any]:
        return super()._learned() | {
            "sample": self._sample.tolist(),
            "begins": None if self._begins is None else self._begins.tolist(),
            "descent": self._descent,
            "way": [row.tolist() for row in self._way],
        }

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        super()._relearn(learned)
        self._sample = self._rows(learned["sample"])
        self._is_fitted = len(self._sample) == 0
        self._begins = None if learned["begins"] is None else self._rows(learned["begins"])
        self._descent = int(learned["descent"])
        self._way = list(self._rows(learned["way"]))


def cheapest_change(loss: Floats, gain: Floats) -> int:
    """The index of the change with the least loss for what it saves.

    Where the error falls, the change is the better the more it saves: their order is by
    `loss * gain`, and they come before all others.

    >>> cheapest_change(np.array([0.02, 0.01, 0.03]), np.array([0.1, 0.1, 0.4]))
    2
    """
    return int(np.where(loss > 0, loss / gain, loss * gain).argmin())
