"""Few networks for many targets: which `n` of the candidates to take.

On each target a network has an error and a latency, here scaled to 0..1 over the target's own
front, latency in logarithms. Two rules choose a set:

`worst`: a user who has one point of one target's front loses least. What a set loses of a point
is the least that one of its networks lacks in error or in latency, whichever is more; the regret
on a target is what is lost of the point that is served worst (the additive epsilon indicator of
Zitzler et al., 2003). The largest regret, weighted, over the targets is made as small as possible.
This is exact: whether some `n` networks serve every point within a given loss is a set cover,
which an integer program decides (HiGHS), and the loss is found by bisection. Of sets with that
loss, one is sought whose mean loss is small, by exchanges.

`hypervolume`: the weighted sum over the targets of the share of the front's hypervolume that the
set dominates is made large: greedily, which is within 1 - 1/e of the best since a set's volume is
submodular (Nemhauser et al., 1978), then by exchanges until none helps. The same is done from some
other first networks, and the best set is taken; that it is the very best is not proven.

References:
    Zitzler et al., Performance assessment of multiobjective optimizers: an analysis and review,
    IEEE Transactions on Evolutionary Computation 7(2), 2003.
    Nemhauser et al., An analysis of approximations for maximizing submodular set functions,
    Mathematical Programming 14, 1978.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp

from strategies.dominance import hypervolume
from strategies.improvement import staircase_gain
from strategies.protocols import Floats

REFERENCE = 1.1
"""Up to where volume counts, in both scaled objectives: the ends of a front count a little."""

_EQUAL = 1e-9
_STARTS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """One target: its front and the candidates, as scaled (error, log latency), both minimised.

    Attributes:
        front: A `k x 2` array.
        candidates: An `m x 2` array.
    """

    front: Floats
    candidates: Floats

    @staticmethod
    def of(front: Floats, candidates: Floats) -> Scaled:
        """Scales (error, latency_ms) pairs to the range of the front.

        Where all of a front is the same, the candidates' range takes the place, or 1.
        """
        logs = [np.column_stack([rows[:, 0], np.log(rows[:, 1])]) for rows in (front, candidates)]
        low, span = logs[0].min(axis=0), np.ptp(logs[0], axis=0)
        span = np.where(span > 0, span, np.ptp(logs[1], axis=0))
        span = np.where(span > 0, span, 1.0)
        return Scaled(front=(logs[0] - low) / span, candidates=(logs[1] - low) / span)

    def losses(self) -> Floats:
        """What each candidate lacks of each point of the front, an `m x k` array."""
        lacks: Floats = (self.candidates[:, None] - self.front).max(axis=2)
        return np.maximum(lacks, 0.0)

    def regret(self, chosen: Sequence[int]) -> float:
        """What some of the candidates together lose of the point that they serve worst."""
        return float(self.losses()[list(chosen)].min(axis=0).max())

    def share(self, chosen: Sequence[int]) -> float:
        """The share of the front's hypervolume that some of the candidates dominate."""
        reference = [REFERENCE, REFERENCE]
        return hypervolume(self.candidates[list(chosen)], reference) / self.volume

    @property
    def volume(self) -> float:
        """The hypervolume of the front."""
        return hypervolume(self.front, [REFERENCE, REFERENCE])


def least_regret(targets: Sequence[Scaled], weights: Floats, n: int) -> tuple[int, ...]:
    """The places of at most `n` candidates with the smallest largest regret.

    Args:
        targets: The targets, each with the same candidates in the same order.
        weights: By which each target's regret is multiplied.
        n: How many, at least 1.
    """
    scaled = [t.losses() * w for t, w in zip(targets, weights, strict=True) if w > 0]
    loss = np.concatenate(scaled, axis=1)
    share = np.concatenate([np.full(s.shape[1], 1 / s.shape[1]) for s in scaled])
    levels = np.unique(np.append(loss.min(axis=0).max(), loss))
    low, high = int(np.searchsorted(levels, loss.min(axis=0).max())), len(levels) - 1
    chosen = [int(loss.max(axis=1).argmin())]
    high = min(high, int(np.searchsorted(levels, loss[chosen].max())))
    while low < high:
        middle = (low + high) // 2
        cover = _cover(loss <= levels[middle], n)
        if cover is None:
            low = middle + 1
        else:
            chosen, high = cover, int(np.searchsorted(levels, loss[cover].min(axis=0).max()))
    most = levels[high] + _EQUAL

    def gains(kept: list[int]) -> Floats:
        least = np.minimum(loss, loss[kept].min(axis=0, initial=np.inf))
        return np.where(least.max(axis=1) <= most, -(least @ share), -np.inf)

    return _improved(chosen, n, len(loss), gains)


def most_volume(targets: Sequence[Scaled], weights: Floats, n: int) -> tuple[int, ...]:
    """The places of at most `n` candidates that dominate most; see `least_regret`."""
    reference = (REFERENCE, REFERENCE)
    parts = [(t, w / t.volume) for t, w in zip(targets, weights, strict=True) if w > 0]

    def volumes(kept: list[int]) -> Floats:
        total = np.zeros(len(targets[0].candidates))
        for target, worth in parts:
            rows = target.candidates
            gain = staircase_gain(
                rows[kept], rows[:, 0], np.zeros(len(rows)), rows[:, 1], reference
            )
            total += worth * (hypervolume(rows[kept], reference) + gain)
        return total

    alone = volumes([])
    starts = [[int(first)] for first in np.argsort(-alone, kind="stable")[:_STARTS]]
    found = [_improved(start, n, len(alone), volumes) for start in starts]
    return max(found, key=lambda chosen: float(volumes(list(chosen[:-1]))[chosen[-1]]))


def _improved(
    chosen: list[int], n: int, candidates: int, scores: Callable[[list[int]], Floats]
) -> tuple[int, ...]:
    """Adds the best candidates up to `n`, then exchanges one while that makes the set better.

    Args:
        chosen: The places to begin with.
        n: How many there may be.
        candidates: How many candidates there are.
        scores: Gives, for a set, how good it is with each candidate added; larger is better.
    """
    while len(chosen) < min(n, candidates):
        added = scores(chosen)
        added[chosen] = -np.inf
        chosen = [*chosen, int(added.argmax())]
    reached = float(scores(chosen[:-1])[chosen[-1]])
    exchanged = True
    while exchanged:
        exchanged = False
        for i in range(len(chosen)):
            kept = chosen[:i] + chosen[i + 1 :]
            found = scores(kept)
            found[kept] = -np.inf
            best = int(found.argmax())
            if found[best] > reached + _EQUAL:
                chosen, reached, exchanged = [*kept, best], float(found[best]), True
                break
    return tuple(sorted(chosen))


def _cover(serves: npt.NDArray[np.bool_], n: int) -> list[int] | None:
    """At most `n` rows that together serve every column; None where there are none."""
    rows, columns = serves.shape
    needs = np.vstack([serves.T.astype(np.float64), -np.ones(rows)])
    found = milp(
        np.zeros(rows),
        constraints=[LinearConstraint(needs, np.append(np.ones(columns), -n), np.inf)],
        bounds=Bounds(0, 1),
        integrality=np.ones(rows),
    )
    return None if found.x is None else [int(i) for i in np.flatnonzero(found.x > 0.5)]
