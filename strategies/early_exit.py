"""Early exit for the first population: what misses cheap limits is not measured.

While a first population is drawn, rows that miss a cheap limit are drawn again, a bounded number
of times. What still misses it then moves, gene by gene in random order, towards a row that keeps
it: towards one that was found, or the one nearest to the limit among the smallest networks.

Deviations from the paper: any cheap costs may screen, not the number of parameters alone; the
redraws are bounded, and the move at the end takes their place.

References:
    Termritthikun et al., EEEA-Net: an early exit evolutionary neural architecture search,
    Engineering Applications of Artificial Intelligence 104, 2021, arXiv 2108.06156.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from search_spaces import Genes, SearchSpace
from strategies.protocols import Floats

Screen: TypeAlias = Callable[[Genes], Floats]
"""Gives for an `n x d` array by how much each row misses the limits, 0 where it keeps them; the
`violations` of a `Problem`, or anything as cheap. NaN counts as a miss."""

_REDRAWS = 8
_STEPS = 5


def sample_screened(
    space: SearchSpace, count: int, rng: np.random.Generator, screen: Screen
) -> Genes:
    """Draws architectures that keep cheap limits, as far as a bounded number of draws finds any.

    Args:
        space: The space.
        count: How many.
        rng: The source of randomness.
        screen: Tells by how much each row misses the limits.

    Returns:
        A `count x d` array of canonical rows; rows may repeat. Where nothing keeps the limits,
        those nearest to them.
    """
    rows = space.sample(count, rng)
    missed = _missed(screen, rows)
    for _ in range(_REDRAWS):
        bad = np.flatnonzero(missed > 0)
        if len(bad) == 0:
            return rows
        again = space.sample(len(bad), rng)
        misses = _missed(screen, again)
        better = misses < missed[bad]
        rows[bad[better]], missed[bad[better]] = again[better], misses[better]
    return _moved(space, rows, missed, rng, screen)


def _moved(
    space: SearchSpace, rows: Genes, missed: Floats, rng: np.random.Generator, screen: Screen
) -> Genes:
    """Moves rows that miss the limits towards rows that keep them, in ever larger steps."""
    anchors = np.concatenate([rows[missed <= 0], space.extremes("smallest")])
    misses = _missed(screen, anchors)
    anchors = anchors[misses <= max(0.0, float(misses.min()))]
    bad = np.flatnonzero(missed > 0)
    if len(bad) == 0:
        return rows
    towards = anchors[rng.integers(len(anchors), size=len(bad))]
    turn = rng.random(towards.shape)
    begun = rows[bad]
    for step in range(1, _STEPS + 1):
        moved = space.canonical(np.where(turn < step / _STEPS, towards, begun).astype(np.int16))
        misses = _missed(screen, moved)
        better = misses < missed[bad]
        rows[bad[better]], missed[bad[better]] = moved[better], misses[better]
    return rows


def _missed(screen: Screen, rows: Genes) -> Floats:
    missed = np.asarray(screen(rows), np.float64)
    return np.where(np.isnan(missed), np.inf, missed)
