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
from typing import Literal

import numpy as np

from records import unknown_name
from records.seeds import generator
from search_spaces import Genes
from supernet.training.members import Draw, Member, MemberSampler, Sandwich, check_count

POOL = 8192
PREFERENCES = ("best", "worst")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentiveSampling(MemberSampler):
    """The sandwich rule with BestUp or WorstUp sampling of its random networks.

    Attributes:
        prefer: `best` or `worst`.
        candidates: Networks that are compared for each slot.
        bins: Cost bins of equal numbers of random networks; the cost is MACs.
        random_subnets: Slots a step.
        largest_alone_share: As in `Sandwich`.
    """

    prefer: Literal["best", "worst"] = "best"
    candidates: int = 3
    bins: int = 16
    random_subnets: int = 1
    largest_alone_share: float = 0.3

    def __post_init__(self) -> None:
        if self.prefer not in PREFERENCES:
            raise unknown_name("preference", self.prefer, PREFERENCES)
        check_count("candidates", self.candidates, 1)
        check_count("bins", self.bins, 1)
        self._sandwich()  # refuses bad counts

    def _sandwich(self) -> Sandwich:
        return Sandwich(
            random_subnets=self.random_subnets, largest_alone_share=self.largest_alone_share
        )

    def members(self, draw: Draw) -> list[Member]:
        members = self._sandwich().members(draw)
        if len(members) == 1:
            return members
        rng = draw.rng("attentive")
        for place, member in enumerate(members):
            if member.role == "random":
                rows = self._candidates(draw, rng)
                losses = draw.losses(rows)
                losses = np.where(np.isfinite(losses), losses, np.inf)
                pick = losses.argmin() if self.prefer == "best" else losses.argmax()
                members[place] = draw.member(rows[pick], "random", member.teachers)
        return members

    def _candidates(self, draw: Draw, rng: np.random.Generator) -> Genes:
        bins = np.array_split(cost_pool(draw), self.bins)
        # bins hold equally many networks, so a uniform bin is one drawn by frequency
        chosen = bins[rng.integers(len(bins))]
        rows: Genes = chosen[rng.integers(len(chosen), size=self.candidates)]
        return rows


def cost_pool(draw: Draw) -> Genes:
    """Random networks of the space in the order of their MACs, the same for a whole run."""
    if "pool" not in draw.cache:
        rows = draw.space.sample(POOL, generator(draw.seed, "pool"), "choices")
        order = np.argsort(draw.space.layer_table(rows).macs, kind="stable")
        draw.cache["pool"] = rows[order]
    pool: Genes = draw.cache["pool"]
    return pool
