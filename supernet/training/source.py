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
from supernet.supernet import Supernet
from supernet.training.members import Draw, Member
from supernet.training.optimisation import MovingAverage
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
    ) -> None:
        """May rearrange weights, with the optimiser's state and the average."""

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
    ) -> None:
        """Nothing to rearrange."""

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
    ) -> None:
        if self.recipe.members.sorts_channels(self._draw(step, total, None)):
            from supernet.channel_sorting import sort_channels

            averaged = None if average is None else average.weights
            sort_channels(self.supernet, optimiser=optimiser, average=averaged)

    def draw(self, step: int, total: int, images: Tensor, targets: Tensor) -> list[Member]:
        part = images.chunk(self.recipe.shards)[0], targets.chunk(self.recipe.shards)[0]
        self._last = self._draw(step, total, part)
        return self.recipe.members.members(self._last)

    def observe(self, members: Sequence[Member], losses: Sequence[float]) -> None:
        assert self._last is not None
        self.recipe.members.observe(self._last, members, losses)

    def _draw(self, step: int, total: int, part: tuple[Tensor, Tensor] | None) -> Draw:
        @torch.no_grad()
        def losses(rows: Genes) -> npt.NDArray[np.float64]:
            assert part is not None
            images, targets = part
            found = [F.cross_entropy(self.supernet(images, row), targets).item() for row in rows]
            return np.array(found)

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
