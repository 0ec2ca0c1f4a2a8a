"""Attentive sampling: of several random networks of similar cost, train the best or the worst.

Wang et al., AttentiveNAS, CVPR 2021, arXiv 2011.09011. For every random slot of the sandwich a
cost bin is drawn from how often random networks fall into it, `candidates` networks are drawn from
the bin, and the one whose loss on the batch (without gradient) is least (BestUp) or greatest
(WorstUp) is trained.

Deviation: candidates come from a pool of random networks sorted by cost, where the original draws
from the bin's marginals and rejects those that miss the bin; the pool has no such misses and keeps
what the choices of a bin have to do with each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from records import unknown_name
from records.seeds import generator
from search_spaces import Genes
from supernet.training.members import Draw, Sandwich, check_count

POOL = 8192

Preference: TypeAlias = Literal["best", "worst"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentiveSampling(Sandwich):
    """The sandwich rule with BestUp or WorstUp sampling of its random networks.

    Attributes:
        prefer: `best` or `worst`.
        candidates: Networks that are compared for each random one.
        bins: Cost bins of equal numbers of random networks; the cost is MACs.
    """

    prefer: Preference = "best"
    candidates: int = 3
    bins: int = 16

    def __post_init__(self) -> None:
        Sandwich.__post_init__(self)
        if self.prefer not in get_args(Preference):
            raise unknown_name("preference", self.prefer, get_args(Preference))
        check_count("candidates", self.candidates, 1)
        check_count("bins", self.bins, 1, POOL)

    def middle(self, draw: Draw) -> Genes:
        """For each slot the preferred one of its candidates; a loss that is NaN is passed over."""
        bins = np.array_split(cost_pool(draw), self.bins)
        rng = draw.rng("attentive")
        rows = []
        for _ in range(self.random_subnets):
            # bins hold equally many networks, so a uniform bin is one drawn by frequency
            chosen = bins[rng.integers(len(bins))]
            candidates = chosen[rng.integers(len(chosen), size=self.candidates)]
            losses = draw.losses(candidates)
            order = losses if self.prefer == "best" else -losses
            rows.append(candidates[np.where(np.isfinite(order), order, np.inf).argmin()])
        return np.array(rows, np.int16).reshape(-1, len(draw.space.choices))


def cost_pool(draw: Draw) -> Genes:
    """Random networks of the space in the order of their MACs, the same for a whole run."""
    if "pool" not in draw.cache:
        rows = draw.space.sample(POOL, generator(draw.seed, "pool"), "choices")
        order = np.argsort(draw.space.layer_table(rows).macs, kind="stable")
        draw.cache["pool"] = rows[order]
    pool: Genes = draw.cache["pool"]
    return pool
