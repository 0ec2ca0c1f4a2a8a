"""How the learning rate falls after its warm-up."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from records import BadInputError


class Schedule(ABC):
    """The learning rate as a share of its highest value."""

    @abstractmethod
    def share(self, progress: float) -> float:
        """The share at a progress from 0 (end of the warm-up) to 1 (end of training)."""


@dataclass(frozen=True, slots=True)
class Cosine(Schedule):
    """Half a cosine down to zero (Loshchilov & Hutter, SGDR, ICLR 2017, arXiv 1608.03983)."""

    def share(self, progress: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, slots=True)
class Constant(Schedule):
    """The highest value throughout."""

    def share(self, progress: float) -> float:
        return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialWithFloor(Schedule):
    """Exponential decay, constant from a floor on: small networks learn on when large ones stop.

    Attributes:
        final: The share that the decay alone would reach at the end.
        floor: The least share.

    References:
        Yu et al., BigNAS, ECCV 2020, arXiv 2003.11142, sec. 3.2 (floor 5 %).
    """

    final: float = 0.01
    floor: float = 0.05

    def __post_init__(self) -> None:
        for name, value in (("final", self.final), ("floor", self.floor)):
            if not 0 < value <= 1:
                raise BadInputError(f"{name} must be above 0 and at most 1, got {value}")

    def share(self, progress: float) -> float:
        return max(float(self.final**progress), self.floor)
