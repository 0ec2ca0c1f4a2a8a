"""How far an open network is from torch, whatever runs it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from deployment.proofs.verify import VerificationError
from deployment.runtimes.runtime import Array, Opened
from supernet import Subnet

RANDOM_IMAGES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeAgreement:
    """How far the logits of a runtime are from torch's.

    Attributes:
        images: How many were compared.
        are_real: Whether there were real images among them.
        largest_difference: The largest difference of a logit, relative to the largest logit.
        relative_error: Root mean square of the logits' difference over their deviation.
        top1_agreement: Share of images with the same predicted class.
        tolerance: The largest difference that is allowed; None where it is only told.
    """

    images: int
    are_real: bool
    largest_difference: float
    relative_error: float
    top1_agreement: float
    tolerance: float | None

    @property
    def is_within(self) -> bool:
        """Whether the difference is allowed; NaN is not."""
        if self.tolerance is None:
            return bool(np.isfinite(self.relative_error))
        return self.largest_difference <= self.tolerance


def agreement_with_torch(
    opened: Opened,
    subnet: Subnet,
    images: Array | None = None,
    *,
    tolerance: float | None = 1e-4,
    seed: int = 0,
) -> RuntimeAgreement:
    """Compares an open network with the subnet in torch.

    Args:
        opened: The network in a runtime.
        subnet: The same in torch, in eval mode.
        images: Real images, compared beside random and empty ones.
        tolerance: As in `RuntimeAgreement`.
        seed: Derives the random images.
    """
    random = np.random.default_rng(seed).standard_normal((RANDOM_IMAGES, *opened.shape[1:]))
    random[-1] = 0
    compared = random.astype(np.float32)
    if images is not None:
        compared = np.concatenate([np.asarray(images, np.float32), compared])
    with torch.no_grad():
        ours = subnet(torch.from_numpy(compared)).numpy()
    theirs = opened.predict(compared)
    scale, spread = max(float(np.abs(ours).max()), 1e-30), max(float(ours.std()), 1e-30)
    return RuntimeAgreement(
        images=len(ours),
        are_real=images is not None,
        largest_difference=float(np.abs(ours - theirs).max()) / scale,
        relative_error=float(np.sqrt(np.mean((ours - theirs) ** 2))) / spread,
        top1_agreement=float((ours.argmax(1) == theirs.argmax(1)).mean()),
        tolerance=tolerance,
    )


def check_agreement(found: RuntimeAgreement, title: str) -> None:
    """Refuses a runtime that computes another function.

    Raises:
        VerificationError: The difference is beyond the tolerance, or not a number.
    """
    if not found.is_within:
        allowed = "finite" if found.tolerance is None else f"{found.tolerance:.2g}"
        raise VerificationError(
            f"{title} differs from torch by {found.largest_difference:.2g} of the largest logit "
            f"(allowed: {allowed})"
        )
