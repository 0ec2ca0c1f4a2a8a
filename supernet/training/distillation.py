"""How a network learns from another's predictions: the losses of in-place distillation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from records import BadInputError


class Distillation(ABC):
    """A loss against a teacher's predictions."""

    uses_teacher: bool = True

    @abstractmethod
    def loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """The mean loss of `n x classes` logits against the teacher's `n x classes` probabilities.

        The teacher's probabilities carry no gradient.
        """


@dataclass(frozen=True, slots=True)
class SoftTargets(Distillation):
    """Cross entropy with the teacher's probabilities, `-sum_c p_T(c) log p(c)`, temperature 1.

    References:
        Yu et al., BigNAS, ECCV 2020, arXiv 2003.11142.
    """

    def loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), teacher)


@dataclass(frozen=True, slots=True)
class LabelsOnly(Distillation):
    """No distillation: every network learns the labels."""

    uses_teacher = False

    def loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        raise BadInputError("LabelsOnly has no loss against a teacher")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaDivergence(Distillation):
    """The larger of two clipped alpha-divergences, chosen for each image.

    `D_a(p||q) = 1 / (a (a - 1)) sum_i q_i ((p_i / q_i)^a - 1)` of teacher p and student q: a
    negative `a` punishes a student that is too sure, a positive one a student that is not sure
    enough. The ratio to the power is clipped, and the gradient is that of

        L = - sum_i sg[q_i rho_i] log q_i,   rho = min((p/q)^a, clip) / a + 1 / (a (a - 1)),

    with everything but `log q` detached; for `a = 1`, KL(p||q), rho is p / q and not clipped, for
    `a = 0`, KL(q||p), it is log(min(p / q, clip)) - 1. Ratios are formed in logarithms, so no
    power overflows. The value may be negative.

    Attributes:
        low: The lesser alpha, usually negative.
        high: The greater alpha.
        clip: The largest ratio to the power of alpha.

    References:
        Wang et al., AlphaNet, ICML 2021, arXiv 2102.07954, and its released code.
    """

    low: float = -1.0
    high: float = 1.0
    clip: float = 5.0

    def __post_init__(self) -> None:
        if not self.low < self.high or not self.clip > 1:
            raise BadInputError(
                f"alphas must ascend and clip must be above 1, got low={self.low}, "
                f"high={self.high}, clip={self.clip}"
            )

    def loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        student = logits.float().log_softmax(dim=1)
        target = teacher.detach().clamp_min(1e-30).log()
        low, low_value = _surrogate(student, target, self.low, math.log(self.clip))
        high, high_value = _surrogate(student, target, self.high, math.log(self.clip))
        return torch.where(low_value > high_value, low, high).mean()


def _surrogate(log_q: Tensor, log_p: Tensor, alpha: float, limit: float) -> tuple[Tensor, Tensor]:
    """For each image the surrogate loss and the clipped divergence itself.

    Args:
        log_q: The student's logarithmic probabilities, `n x classes`.
        log_p: The teacher's.
        alpha: Of the divergence.
        limit: The logarithm of the largest ratio to the power of alpha.
    """
    fixed = log_q.detach()
    q, log_ratio = fixed.exp(), log_p - fixed
    if abs(alpha) < 1e-3:
        log_ratio = log_ratio.clamp(max=limit)
        rho = log_ratio - 1
        value = -(q * log_ratio).sum(1)
    elif abs(alpha - 1) < 1e-3:
        p = log_p.exp()
        return -(p * log_q).sum(1), (p * log_ratio).sum(1)
    else:
        power = (alpha * log_ratio).clamp(max=limit).exp()
        rho = power / alpha + 1 / (alpha * (alpha - 1))
        value = (q * (power - 1)).sum(1) / (alpha * (alpha - 1))
    return -(q * rho * log_q).sum(1), value
