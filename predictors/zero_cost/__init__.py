"""Zero-cost proxies: how good a network will be, from its untrained weights and one minibatch."""

from predictors.zero_cost.probe import Batch, Proxy
from predictors.zero_cost.scores import (
    PROXIES,
    SIZES,
    ZeroCostProxy,
    checked_batch,
    fresh_network,
    score_network,
    unscored,
    zero_cost_scores,
)

__all__ = [
    "PROXIES",
    "SIZES",
    "Batch",
    "Proxy",
    "ZeroCostProxy",
    "checked_batch",
    "fresh_network",
    "score_network",
    "unscored",
    "zero_cost_scores",
]
