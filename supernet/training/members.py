"""Which subnets a step trains: the samplers, part of a `Recipe`.

A sampler is a frozen description. What it draws is a function of (seed, step) and, for those that
look at losses, of the batch and of `Draw.memory`, which is saved with the checkpoint; so a resumed
run and all ranks of a distributed one draw the same networks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError
from records.seeds import generator
from search_spaces import Genes, Graph, SearchSpace

Role: TypeAlias = Literal["largest", "random", "smallest"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """A network that a step trains.

    Attributes:
        graph: Its layers.
        role: Its place in the sandwich.
        teachers: Earlier members of the step from whose mean prediction it learns; with none it
            learns from the labels.
        genes: Its genes, where it was drawn from a space.
    """

    graph: Graph
    role: Role
    teachers: tuple[int, ...] = ()
    genes: Genes | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """What a sampler may look at.

    Attributes:
        space: The search space.
        graph: The layers of a row of genes.
        step: The step, from 0.
        total: The number of steps.
        seed: The run's seed.
        losses: For rows of genes the loss of each on the first shard of this step's batch,
            without gradient; the same on all ranks.
        memory: The sampler's own notes, values as in JSON, saved with the checkpoint.
        cache: What the sampler derived from space and seed, not saved.
    """

    space: SearchSpace
    graph: Callable[[Genes], Graph]
    step: int
    total: int
    seed: int
    losses: Callable[[Genes], npt.NDArray[np.float64]]
    memory: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def progress(self) -> float:
        """The share of the steps that is done."""
        return self.step / self.total

    def rng(self, what: str) -> np.random.Generator:
        """Randomness for a purpose, a function of (seed, step)."""
        return generator(self.seed, what, self.step)

    def member(self, row: Genes, role: Role, teachers: tuple[int, ...] = ()) -> Member:
        """The member of a row of genes."""
        return Member(graph=self.graph(row), role=role, teachers=teachers, genes=row)


class MemberSampler(ABC):
    """Chooses the members of each step."""

    @abstractmethod
    def members(self, draw: Draw) -> list[Member]:
        """The members in the order in which they are trained, teachers before their pupils."""

    def sorts_channels(self, draw: Draw) -> bool:
        """Whether channels are to be sorted by importance before this step."""
        return False

    def trained_part(self, draw: Draw) -> SearchSpace | None:
        """What the earlier steps trained, whose channels stay the first when they are sorted."""
        return None

    def observe(self, draw: Draw, members: Sequence[Member], losses: Sequence[float]) -> None:
        """Told the losses of a finished step; NaN for a member that was dropped."""
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandwich(MemberSampler):
    """The sandwich rule: the largest network, some random ones, the smallest.

    A space with choices by name (convolution or attention) has several largest and smallest
    networks, which take turns. The largest, trained first, is the teacher of the others for
    recipes with in-place distillation.

    Attributes:
        random_subnets: Sampled networks a step.
        largest_alone_share: Share of the steps, at the start, in which the largest trains alone.

    References:
        Yu et al., Universally Slimmable Networks, ICCV 2019, arXiv 1903.05134; Yu et al., BigNAS,
        ECCV 2020, arXiv 2003.11142.
    """

    random_subnets: int = 1
    largest_alone_share: float = 0.0

    def __post_init__(self) -> None:
        check_count("random_subnets", self.random_subnets, 0)
        check_share("largest_alone_share", self.largest_alone_share)

    def members(self, draw: Draw) -> list[Member]:
        top = take_turns(draw, "largest")
        members = [draw.member(top, "largest")]
        if draw.progress < self.largest_alone_share:
            return members
        for row in self.middle(draw):
            members.append(draw.member(row, "random", (0,)))
        members.append(draw.member(take_turns(draw, "smallest"), "smallest", (0,)))
        return members

    def middle(self, draw: Draw) -> Genes:
        """The networks between largest and smallest."""
        return draw.space.sample(self.random_subnets, draw.rng("members"), "choices")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePath(MemberSampler):
    """One uniformly drawn network a step, which learns the labels (weight entanglement).

    References:
        Guo et al., Single Path One-Shot, ECCV 2020, arXiv 1904.00420; Chen et al., AutoFormer,
        ICCV 2021, arXiv 2107.00651.
    """

    def members(self, draw: Draw) -> list[Member]:
        (row,) = draw.space.sample(1, draw.rng("members"), "choices")
        return [draw.member(row, "random")]


def take_turns(draw: Draw, which: Literal["largest", "smallest"]) -> Genes:
    """The largest or smallest network; where there are several, the one whose turn it is."""
    if which not in draw.cache:
        draw.cache[which] = draw.space.extremes(which)
    rows: Genes = draw.cache[which]
    row: Genes = rows[draw.step % len(rows)]
    return row


def check_count(name: str, value: int, least: int, most: int | None = None) -> None:
    """Refuses a number of networks below the least or above the most.

    Raises:
        BadInputError: It is.
    """
    if value < least:
        raise BadInputError(f"{name} must be >= {least}, got {value}")
    if most is not None and value > most:
        raise BadInputError(f"{name} must be <= {most}, got {value}")


def check_share(name: str, value: float) -> None:
    """Refuses a share outside of 0 to 1.

    Raises:
        BadInputError: It is.
    """
    if not 0 <= value <= 1:
        raise BadInputError(f"{name} must be within 0 and 1, got {value}")
