"""Where a run's members come from: a sampler on a space, or one network alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from records import content_hash
from search_spaces import Genes, Graph
from supernet.channel_sorting import sort_channels
from supernet.supernet import Supernet
from supernet.training.batches import shards_of
from supernet.training.members import Draw, Member
from supernet.training.optimisation import MovingAverage
from supernet.training.parallel import Ranks
from supernet.training.recipe import Recipe


class MemberSource(Protocol):
    """Gives the members of every step."""

    memory: dict[str, Any]
    """Notes that a checkpoint keeps, values as in JSON."""

    def facts(self) -> dict[str, Any]:
        """What a checkpoint must agree in to be continued."""

    def before_step(
        self,
        step: int,
        total: int,
        optimiser: torch.optim.Optimizer,
        average: MovingAverage | None,
    ) -> bool:
        """May rearrange weights, with the optimiser's state and the average; whether it did."""

    def draw(self, step: int, total: int, images: Tensor, targets: Tensor) -> list[Member]:
        """The members of a step."""

    def observe(self, members: Sequence[Member], losses: Sequence[float]) -> None:
        """Told the losses of the members just drawn; NaN for one that was dropped."""


class OneNetwork:
    """A single network, which learns the labels."""

    def __init__(self, graph: Graph) -> None:
        self.memory: dict[str, Any] = {}
        self._member = Member(graph=graph, role="largest")

    def facts(self) -> dict[str, Any]:
        return {"graph_hash": content_hash(self._member.graph.to_json())}

    def before_step(
        self,
        step: int,
        total: int,
        optimiser: torch.optim.Optimizer,
        average: MovingAverage | None,
    ) -> bool:
        return False

    def draw(self, step: int, total: int, images: Tensor, targets: Tensor) -> list[Member]:
        return [self._member]

    def observe(self, members: Sequence[Member], losses: Sequence[float]) -> None:
        """Nothing to note."""


class SpaceMembers:
    """Subnets of a supernet, chosen by the recipe's sampler."""

    def __init__(self, supernet: Supernet, recipe: Recipe, seed: int) -> None:
        self.supernet = supernet
        self.recipe = recipe
        self.seed = seed
        self.ranks = Ranks.current()
        self.memory: dict[str, Any] = {}
        self._cache: dict[str, Any] = {}
        self._last: Draw | None = None

    def facts(self) -> dict[str, Any]:
        space = self.supernet.space
        return {"space": space.to_json(), "space_hash": space.hash}

    def before_step(
        self,
        step: int,
        total: int,
        optimiser: torch.optim.Optimizer,
        average: MovingAverage | None,
    ) -> bool:
        draw = self._draw(step, total, None)
        sampler = self.recipe.members
        if not sampler.sorts_channels(draw):
            return False
        averaged = None if average is None else average.weights
        sort_channels(
            self.supernet, optimiser=optimiser, average=averaged, keep=sampler.trained_part(draw)
        )
        return True

    def draw(self, step: int, total: int, images: Tensor, targets: Tensor) -> list[Member]:
        first = shards_of(images, targets, self.recipe)[0]
        self._last = self._draw(step, total, first)
        return self.recipe.members.members(self._last)

    def observe(self, members: Sequence[Member], losses: Sequence[float]) -> None:
        assert self._last is not None
        self.recipe.members.observe(self._last, members, losses)

    def _draw(self, step: int, total: int, part: tuple[Tensor, Tensor] | None) -> Draw:
        @torch.no_grad()
        def losses(rows: Genes) -> npt.NDArray[np.float64]:
            assert part is not None
            images, targets = part
            found = torch.stack(
                [F.cross_entropy(self.supernet(images, row), targets) for row in rows]
            )
            self.ranks.take_from_first([found])
            return found.double().cpu().numpy()

        return Draw(
            space=self.supernet.space,
            graph=self.supernet.graph,
            step=step,
            total=total,
            seed=self.seed,
            losses=losses,
            memory=self.memory,
            cache=self._cache,
        )
