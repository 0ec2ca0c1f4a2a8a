"""Complexity-aware sampling: the networks of a step are of similar cost, which wanders slowly.

Tang et al., ElasticViT, ICCV 2023, arXiv 2303.09730. Training networks of very different sizes in
one step makes their gradients conflict. So all random networks of a step come from one cost level,
the level makes a random walk, and instead of one smallest network there are several minima, of
which the nearest below the level is trained. There is no largest network: the random networks
learn from the labels (and from the teacher that is given to `train`), the minimum from their mean
prediction. With a growing chance a random network is drawn from a bank of those that had a low
loss at its level.

Deviations: levels are quantiles of the MACs of random networks, not fixed FLOPs, so that any space
has them; the bank is filled with the losses seen in training, not with losses of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from records.seeds import generator
from search_spaces import Genes
from supernet.training.attentive import POOL, cost_pool
from supernet.training.members import Draw, Member, MemberSampler, check_count, check_share


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplexityAware(MemberSampler):
    """Random networks of one cost level and the nearest minimum.

    Attributes:
        levels: Cost levels of equal numbers of random networks.
        minima: Predefined small networks: the cheapest that is known, and the cheapest at further
            levels, evenly spread.
        random_subnets: Random networks a step.
        bank_size: Networks remembered a level; 0 for no bank.
        bank_share: Chance at the end of training that a random network comes from the bank; it
            rises linearly from 0.
    """

    levels: int = 8
    minima: int = 3
    random_subnets: int = 3
    bank_size: int = 32
    bank_share: float = 0.35

    def __post_init__(self) -> None:
        check_count("levels", self.levels, 2, POOL)
        check_count("minima", self.minima, 1)
        check_count("random_subnets", self.random_subnets, 1)
        check_count("bank_size", self.bank_size, 0)
        check_share("bank_share", self.bank_share)

    def level(self, draw: Draw) -> int:
        """The level of a step: a walk of -1, 0 or +1, held at both ends."""
        if "walk" not in draw.cache:
            rng = generator(draw.seed, "walk")
            level, walk = self.levels // 2, []
            for move in rng.integers(-1, 2, size=draw.total):
                walk.append(level)
                level = min(max(level + int(move), 0), self.levels - 1)
            draw.cache["walk"] = walk
        walk = draw.cache["walk"]
        return int(walk[draw.step])

    def minimum(self, draw: Draw, level: int) -> Genes:
        """The greatest of the minima that is no larger than the level."""
        if "minima" not in draw.cache:
            starts = [part[0] for part in np.array_split(cost_pool(draw), self.levels)]
            low = np.concatenate([draw.space.extremes("smallest"), starts[0][None]])
            places = [i * self.levels // self.minima for i in range(self.minima)]
            draw.cache["minima"] = {place: starts[place] for place in places}
            # the smallest values need not make the cheapest network: small patches are many
            draw.cache["minima"][0] = low[draw.space.layer_table(low).macs.argmin()]
        rows: dict[int, Genes] = draw.cache["minima"]
        return rows[max(place for place in rows if place <= level)]

    def members(self, draw: Draw) -> list[Member]:
        level = self.level(draw)
        band = np.array_split(cost_pool(draw), self.levels)[level]
        rng = draw.rng("members")
        bank = _bank(draw, level)
        members = []
        for _ in range(self.random_subnets):
            row = band[rng.integers(len(band))]
            from_bank = rng.random() < self.bank_share * draw.progress
            if from_bank and bank:
                losses = np.array([loss for _, loss in bank])
                weights = np.exp(losses.min() - losses)
                row = np.array(bank[rng.choice(len(bank), p=weights / weights.sum())][0], np.int16)
            members.append(draw.member(row, "random"))
        small = self.minimum(draw, level)
        members.append(draw.member(small, "smallest", tuple(range(self.random_subnets))))
        return members

    def observe(self, draw: Draw, members: Sequence[Member], losses: Sequence[float]) -> None:
        """Remembers the random networks; the worst of a full bank goes."""
        bank = _bank(draw, self.level(draw))
        for member, loss in zip(members, losses, strict=True):
            if member.role != "random" or member.genes is None or not np.isfinite(loss):
                continue
            genes = [int(g) for g in member.genes]
            bank[:] = [entry for entry in bank if entry[0] != genes]
            bank.append([genes, float(loss)])
            bank.sort(key=lambda entry: float(entry[1]))
            del bank[self.bank_size :]


def _bank(draw: Draw, level: int) -> list[Any]:
    """The remembered networks of a level, each with its loss, best first."""
    banks: dict[str, list[Any]] = draw.memory.setdefault("bank", {})
    return banks.setdefault(str(level), [])
