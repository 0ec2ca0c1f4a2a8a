"""How the gradients of a step's members become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from supernet.cut import Piece
from supernet.training.members import check_share

Gradients: TypeAlias = list[Tensor | None]
"""One gradient for each parameter; None where no member uses it."""


class Combination(ABC):
    """Makes one gradient of the largest network's and the others' summed one."""

    needs_both: bool = False
    """Whether the two are kept apart, which costs one more copy of the gradient.

    Where they are not, `combine` gets the sum over all members as that of the others.
    """

    @abstractmethod
    def combine(
        self, largest: Gradients, others: Gradients, members: int, progress: float
    ) -> Gradients:
        """The gradient of the step; what it is given stays as it is.

        Args:
            largest: Of the largest network.
            others: Summed over the other members.
            members: How many members there were.
            progress: The share of the steps that is done.
        """


@dataclass(frozen=True, slots=True)
class SumOfMembers(Combination):
    """The sum, as in AttentiveNAS; its learning rates assume it."""

    def combine(
        self, largest: Gradients, others: Gradients, members: int, progress: float
    ) -> Gradients:
        return added(largest, others)


@dataclass(frozen=True, slots=True)
class MeanOfMembers(Combination):
    """The mean, so that the rate need not change with the number of members."""

    def combine(
        self, largest: Gradients, others: Gradients, members: int, progress: float
    ) -> Gradients:
        return [None if g is None else g / members for g in added(largest, others)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectConflicts(Combination):
    """Removes from the largest network's gradient what works against the others'.

    For each weight tensor, with `g_s` of the largest and `g_u` of the others,

        g = g_u + g_s + lambda g_u,   lambda = clip(-<g_s, g_u> / (|g_u|^2 + 1e-6), 0, bound),

    so where they conflict the others win. Tensors that the others do not use keep `g_s`.

    Attributes:
        after_share: Share of the steps with the plain sum beforehand.
        bound: The greatest lambda.

    References:
        Gong et al., NASViT, ICLR 2022, and its released code.
    """

    after_share: float = 0.3
    bound: float = 2.0
    needs_both = True

    def __post_init__(self) -> None:
        check_share("after_share", self.after_share)

    def combine(
        self, largest: Gradients, others: Gradients, members: int, progress: float
    ) -> Gradients:
        if progress < self.after_share:
            return added(largest, others)
        return [
            (s if u is None else u) if s is None or u is None else self._project(s, u)
            for s, u in zip(largest, others, strict=True)
        ]

    def _project(self, s: Tensor, u: Tensor) -> Tensor:
        factor = -(s * u).sum() / ((u * u).sum() + 1e-6)
        return s + u * (1 + factor.clamp(0, self.bound))


def added(first: Sequence[Tensor | None], second: Sequence[Tensor | None]) -> Gradients:
    """The sum of two lists of gradients; None where both have none."""
    return [
        b if a is None else a if b is None else a + b for a, b in zip(first, second, strict=True)
    ]


class GradientSum:
    """Gradients of the same tensors, added up in the order in which they come.

    The first gradient of a tensor is taken as it is and never written to, for it may share memory
    with others; the sum of the first two is new, and all further ones are added to it in place.

    Args:
        tensors: How many there are.
    """

    def __init__(self, tensors: int) -> None:
        self.total: Gradients = [None] * tensors
        self._is_own = [False] * tensors

    def add(self, gradients: Gradients) -> None:
        """Adds one gradient for each tensor."""
        own: list[tuple[Tensor, Tensor]] = []
        new: list[tuple[int, Tensor, Tensor]] = []
        for k, (total, gradient) in enumerate(zip(self.total, gradients, strict=True)):
            if gradient is None:
                continue
            if total is None:
                self.total[k] = gradient
            elif self._is_own[k]:
                own.append((total, gradient))
            else:
                new.append((k, total, gradient))
        if own:
            torch._foreach_add_([total for total, _ in own], [gradient for _, gradient in own])
        if new:
            sums = torch._foreach_add([a for _, a, _ in new], [b for _, _, b in new])
            for (k, _, _), value in zip(new, sums, strict=True):
                self.total[k], self._is_own[k] = value, True


class SharedGradient:
    """Gradients of networks that share weights, added up in the order in which they come.

    The first gradient of a whole weight is taken as it is and never written to; a sum lies in
    memory as its weight does, so that slices have the same place in both.

    Args:
        numbers: The place of each of the shared weights in the sum.
    """

    def __init__(self, numbers: Mapping[nn.Parameter, int]) -> None:
        self.total: Gradients = [None] * len(numbers)
        self._is_own = [False] * len(numbers)
        self._numbers = numbers

    def add(self, pieces: Sequence[Piece]) -> None:
        """Adds the gradient of a network."""
        into: list[Tensor] = []
        added: list[Tensor] = []
        for piece in pieces:
            k = self._numbers[piece.parameter]
            total = self.total[k]
            if total is None and piece.geometry is None:
                self.total[k] = piece.gradient
                continue
            if total is None:
                total = torch.zeros_like(piece.parameter, requires_grad=False)
            elif not self._is_own[k]:
                total = torch.empty_like(piece.parameter, requires_grad=False).copy_(total)
            self.total[k], self._is_own[k] = total, True
            into.append(total if piece.geometry is None else total.as_strided(*piece.geometry))
            added.append(piece.gradient)
        if into:
            torch._foreach_add_(into, added)

    def divided(self, factor: float) -> Gradients:
        """The sums divided by a number, each in memory of its own, so that it can be changed."""
        return [
            g if g is None or (is_own and factor == 1) else g / factor
            for g, is_own in zip(self.total, self._is_own, strict=True)
        ]


def is_finite(pieces: Sequence[Piece]) -> Tensor:
    """Whether all gradients are finite and have a finite norm, as a tensor without dimensions."""
    if not pieces:
        return torch.tensor(True)
    return torch.stack(torch._foreach_norm([p.gradient for p in pieces])).sum().isfinite()


def cosine(first: Sequence[Tensor | None], second: Sequence[Tensor | None]) -> float:
    """The cosine between two gradients over the weights that both use; NaN where one is zero."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not pairs:
        return float("nan")
    product = torch.stack([(a * b).sum() for a, b in pairs]).sum()
    norms = [torch.stack(torch._foreach_norm([p[k] for p in pairs])).norm() for k in range(2)]
    return float(product / (norms[0] * norms[1]))
