"""Confidence intervals of shares."""

from __future__ import annotations

from records import BadInputError


def wilson_interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share counted on `n` cases; 95 % for `z = 1.96`.

    Unlike the normal approximation it stays within 0..1 and has a width at 0 and 1.

    References:
        E. B. Wilson, Probable inference, JASA 22, 1927; Brown, Cai & DasGupta, Interval estimation
        for a binomial proportion, Statistical Science 16, 2001.
    """
    if n < 1 or not 0 <= share <= 1:
        raise BadInputError(f"a share within 0 and 1 of at least one case, got {share} of {n}")
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    # At 0 and 1 an end is the share itself, which rounding must not push out of the interval.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
