"""Architectures whose metric lies in a band, e.g. of latency: drawn, counted, or searched for.

For a metric that is a sum over table rows, `search_spaces.sums` draws uniformly from all
architectures on levels that cover the band, and those outside are rejected: the draws are uniform
over the canonical architectures in the band, up to the rounding of floats. With random draws from
the whole space instead, a narrow band costs hundreds of draws for each one that is kept, and a
band at the end of the range is never met.

For any other metric there is `search_spaces.band_search`, whose architectures are not uniform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.additive import InfeasibleLimitError, layer_values, least
from search_spaces.genes import Genes
from search_spaces.space import SearchSpace
from search_spaces.sums import SumChain, SumCounts
from search_spaces.tabulate import Tabulation

_LEVELS = (1024, 1 << 17)
"""The least and the greatest number of levels that are asked for."""

_MOST_DRAWN = 1 << 20
"""Draws, some ten seconds, after which a band is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountInBand:
    """How many architectures are in a band: from `least` to `most` of them.

    Attributes:
        least: The number of those that surely are.
        most: The number of those that may be; more than `least` where sums had to be rounded.
    """

    least: int
    most: int

    @property
    def is_exact(self) -> bool:
        """Whether both are the same."""
        return self.least == self.most


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDistribution:
    """How many architectures have which metric.

    Attributes:
        edges: The `bins + 1` edges of the bins, ascending; a bin holds its left edge, the last
            one both.
        counts: The number of architectures in each bin, an array of length `bins`.
        error: By so much a metric may have been rounded before it was put into a bin; 0 where the
            counts are exact.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.float64]
    error: float


def sample_in_band(
    space: SearchSpace,
    n: int,
    rng: np.random.Generator,
    low: float,
    high: float,
    *,
    values: npt.NDArray[np.float64] | str = "macs",
    table: Tabulation | None = None,
) -> Genes:
    """Draws `n` architectures uniformly from all those with a metric in `[low, high]`.

    Args:
        space: The space.
        n: How many; they are drawn independently, so one may come twice.
        rng: The source of randomness.
        low: The least metric.
        high: The greatest metric.
        values: The metric: `macs`, `parameters` or `elements` of the layers, or the summand of
            every variant of a table, as in `least`.
        table: The tabulation that `values` belongs to; the layer table unless given.

    Returns:
        An `n x d` array of canonical genes.

    Raises:
        InfeasibleLimitError: No architecture is in the band, or too few draws were (a bounded
            number is made); the nearest metric is named.
        BadInputError: A band that is none, rows that hang together too tightly.
    """
    table, values = _metric(space, table, values)
    check_band(low, high)
    chain = SumChain(space, table, values)
    counts = chain.count(_levels(chain, low, high))
    wide = counts.levels(low, high)
    if not counts.counts[wide].any():
        raise _empty(space, low, high, counts)
    share = _share(counts, low, high)
    found, kept, drawn, nearest = [np.zeros((0, len(space.choices)), np.int16)], 0, 0, math.inf
    while kept < n and drawn < _MOST_DRAWN:
        rows = counts.draw(_ask(n - kept, share), rng, wide)
        sums = values[table.codes(rows)].sum(axis=0)
        inside = (sums >= low) & (sums <= high)
        found.append(rows[inside])
        kept, drawn = kept + int(inside.sum()), drawn + len(rows)
        share = max(kept / drawn, share / 8)
        nearest = min([nearest, *sums[~inside]], key=lambda s: max(low - s, s - high))
    if kept < n:
        raise InfeasibleLimitError(
            f"{kept} of {drawn} architectures drawn near the band of {low:g} to {high:g} are in "
            f"it, {n} were asked for; the nearest outside has {nearest:g}: widen the band",
            nearest,
        )
    return np.concatenate(found)[:n]


def count_in_band(
    space: SearchSpace,
    low: float,
    high: float,
    *,
    values: npt.NDArray[np.float64] | str = "macs",
    table: Tabulation | None = None,
) -> CountInBand:
    """The number of architectures with a metric in `[low, high]`; arguments as `sample_in_band`.

    It is exact where the metric takes integer values and not too many of them. Otherwise sums are
    rounded, and architectures at the ends of the band may or may not be in it.

    Raises:
        BadInputError: A band that is none, rows that hang together too tightly.
    """
    table, values = _metric(space, table, values)
    check_band(low, high)
    chain = SumChain(space, table, values)
    counts = chain.count_all(min(8 * _levels(chain, low, high), _LEVELS[1]))
    surely, maybe = (counts.counts[counts.levels(low, high, surely=s)] for s in (True, False))
    return CountInBand(least=int(surely.sum()), most=int(maybe.sum()))


def distribution(
    space: SearchSpace,
    bins: int | Sequence[float] = 100,
    *,
    values: npt.NDArray[np.float64] | str = "macs",
    table: Tabulation | None = None,
) -> MetricDistribution:
    """The number of architectures in each bin of a metric.

    Args:
        space: The space.
        bins: The number of bins of equal width between the least and the greatest metric, or the
            edges in ascending order.
        values: The metric, as in `sample_in_band`.
        table: The tabulation that `values` belongs to; the layer table unless given.

    Raises:
        BadInputError: No bins, edges out of order, rows that hang together too tightly.
    """
    table, values = _metric(space, table, values)
    if isinstance(bins, int):
        low, high = least(space, table, values)[0], -least(space, table, -values)[0]
        edges = np.linspace(low, high, bins + 1) if bins > 0 else np.zeros(0)
    else:
        edges = np.asarray(bins, np.float64)
    if len(edges) < 2 or not (np.diff(edges) >= 0).all():
        raise BadInputError(f"bins must be 1 or more, or edges in ascending order, got {bins!r}")
    counts = SumChain(space, table, values).count_all(max(64 * len(edges), 1 << 14))
    sums = counts.sums
    if isinstance(bins, int) and not counts.is_exact:
        sums = sums.clip(edges[0], edges[-1])
    there = np.flatnonzero(counts.counts)
    totals = np.histogram(sums[there], edges, weights=counts.counts[there].astype(np.float64))[0]
    return MetricDistribution(
        edges=edges, counts=totals, error=max(-counts.error[0], counts.error[1])
    )


def _metric(
    space: SearchSpace, table: Tabulation | None, values: npt.NDArray[np.float64] | str
) -> tuple[Tabulation, npt.NDArray[np.float64]]:
    if isinstance(values, str):
        if table is not None:
            raise BadInputError(f"{values!r} is a metric of the layers; it takes no other table")
        return layer_values(space, values)
    return table or space.layers, np.asarray(values, np.float64)


def check_band(low: float, high: float) -> None:
    """Refuses a band whose ends are no numbers or change places."""
    if not low <= high:
        raise BadInputError(f"a band goes from a number up to another, got {low} to {high}")


def _levels(chain: SumChain, low: float, high: float) -> int:
    """Levels so fine that rounding moves architectures by half of the band, at most."""
    band = min(high - low, chain.range)
    if band <= 0:
        return _LEVELS[1]
    return int(min(max(2 * len(chain.steps) * chain.range / band, _LEVELS[0]), _LEVELS[1]))


def _share(counts: SumCounts, low: float, high: float) -> float:
    """About how many of the draws will be in the band."""
    if counts.is_exact:
        return 1.0
    wide, sure = (counts.counts[counts.levels(low, high, surely=s)].sum() for s in (False, True))
    return max(float(sure / wide), 1 / 64)


def _ask(missing: int, share: float) -> int:
    return min(int(missing / share * 1.1) + 16, _MOST_DRAWN // 32)


def _empty(space: SearchSpace, low: float, high: float, counts: SumCounts) -> InfeasibleLimitError:
    sums = counts.sums[counts.counts > 0]
    below, above = sums[sums < low], sums[sums > high]
    near = [*below[-1:].tolist(), *above[:1].tolist()]
    words = "nearest are" if counts.is_exact else "nearest are about"
    return InfeasibleLimitError(
        f"no architecture of {space.name!r} is from {low:g} to {high:g}: the {words} "
        f"{' and '.join(f'{value:g}' for value in near)}; widen the band or the space",
        min(near, key=lambda value: max(low - value, value - high)),
    )
