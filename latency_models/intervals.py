"""Intervals of predictions from the errors on networks that were left out of the fit.

Split conformal prediction (Vovk et al., Algorithmic Learning in a Random World, 2005; Lei et al.,
JASA 2018, arXiv:1604.04173): where the ratios of measured to predicted latency of `n` left-out
networks and of the next one are exchangeable, the next one lies below the `ceil((n + 1) p)`-th of
them with a probability of at least `p`. Cross-validation leaves out every network once; the fits
differ a little from the final one, so this holds nearly.

Networks of several spaces share a fit, and one space may be harder than another. The log ratios
are therefore divided by the spread of their space (Papadopoulos et al., normalised nonconformity
measures, 2008) and multiplied by that of the space that is asked for. The spread of a space is its
mean absolute log ratio, pulled towards that of all networks as if `PRIOR` more had been timed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import t

Values = npt.NDArray[np.float64]

PRIOR = 10


def conformal_quantile(ratios: Values, probability: float) -> float:
    """The quantile of sorted ratios, widened for the finite number of them; NaN without any.

    Above one half it is rounded up, else down. Fewer ratios than a quantile of this probability
    needs (19 for 95 %) give the greatest or least of them, or the end of the prediction interval
    of a normal distribution of their logarithms where that lies further out:

        mean +- t(n - 1, p) s sqrt(1 + 1 / n),

    because the greatest of ten is exceeded by one in eleven, not by one in twenty.
    """
    n = len(ratios)
    if n == 0:
        return float("nan")
    above = probability > 0.5
    rank = (n + 1) * probability
    rank = np.ceil(rank - 1e-9) if above else np.floor(rank + 1e-9)
    found = float(ratios[int(np.clip(rank, 1, n)) - 1])
    if 1 <= rank <= n or n == 1:
        return found
    logs = np.log(ratios)
    reach = float(t.ppf(probability, n - 1) * logs.std(ddof=1) * np.sqrt(1 + 1 / n))
    end = float(np.exp(logs.mean() + reach))
    return max(found, end) if above else min(found, end)


def spread(log_ratios: Values, everything: Values) -> float:
    """The mean absolute log ratio of one space, pulled towards that of all."""
    overall = float(np.abs(everything).mean())
    return (float(np.abs(log_ratios).sum()) + PRIOR * overall) / (len(log_ratios) + PRIOR)


def ratios_for(own: int, log_ratios: Sequence[Values]) -> Values:
    """The sorted ratios that hold for one of several spaces.

    Args:
        own: Which of the spaces.
        log_ratios: For each space the log ratios of measured to predicted latency of its networks,
            any number of them.
    """
    everything = np.concatenate(list(log_ratios))
    if not len(everything):
        return everything
    spreads = [spread(one, everything) for one in log_ratios]
    scaled = [
        one * (spreads[own] / max(s, 1e-12)) for one, s in zip(log_ratios, spreads, strict=True)
    ]
    return np.asarray(np.exp(np.sort(np.concatenate(scaled))))
