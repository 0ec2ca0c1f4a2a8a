"""When to stop: where no candidate is expected to add enough to the front, and why, in words."""

from __future__ import annotations

from collections.abc import Sequence

from records import BadInputError
from strategies.dominance import hypervolume
from strategies.protocols import Floats


def checked_least_gain(least_gain: float) -> float:
    """A share of the volume found that a gain has to reach; 0 for a search that goes on.

    Raises:
        BadInputError: It is not within 0 and 1.
    """
    if not 0 <= least_gain < 1:
        raise BadInputError(f"least_gain must be within 0 and 1, got {least_gain}")
    return least_gain


def why_finished(
    gain: float,
    least_gain: float,
    fronts: Sequence[Floats],
    references: Sequence[tuple[float, float]],
    weights: Sequence[float],
) -> str:
    """Why nothing more is worth an evaluation; empty while something is.

    Args:
        gain: The largest expected gain in hypervolume, over all targets.
        least_gain: The share of the volume found that it has to reach.
        fronts: For each target a `k x 2` array of what was found.
        references: For each target the point up to which volume counts.
        weights: The targets' weights.
    """
    if least_gain == 0:
        return ""
    volumes = [hypervolume(f, r) for f, r in zip(fronts, references, strict=True)]
    volume = sum(w * v for w, v in zip(weights, volumes, strict=True))
    if gain >= least_gain * volume:
        return ""
    return (
        f"the largest expected gain in hypervolume, {gain:.3g}, is below "
        f"{least_gain:g} of the volume found, {volume:.3g}"
    )
