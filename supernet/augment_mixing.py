"""Mixing the images of a batch in pairs, and their targets in the same proportion.

Every image gets a partner by a random permutation of the batch, and a weight of its own; the
authors' programs draw one weight for a whole batch, which has the same distribution for a pair.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from supernet.augment_draws import rectangle, uniform


def mixup(
    images: Tensor, targets: Tensor, generator: torch.Generator, alpha: float
) -> tuple[Tensor, Tensor]:
    """Each image becomes `w * image + (1 - w) * partner`, with `w` from Beta(alpha, alpha).

    Args:
        images: `n x channels x height x width`.
        targets: `n x num_classes` probabilities.
        generator: The source of randomness.
        alpha: Above 0; the smaller, the more an image stays itself or becomes its partner.

    References:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv 1710.09412.
    """
    weight, partner = _pairs(images, generator, alpha)
    mixed = torch.lerp(images[partner], images, weight.view(-1, 1, 1, 1))
    return mixed, torch.lerp(targets[partner], targets, weight.view(-1, 1))


def cutmix(
    images: Tensor, targets: Tensor, generator: torch.Generator, alpha: float
) -> tuple[Tensor, Tensor]:
    """Each image gets a rectangle of its partner, in the same place.

    The rectangle has the image's proportions, an area of `1 - w` with `w` from Beta(alpha, alpha),
    and a centre anywhere; what would stick out of the image is cut off. The partner's weight in
    the targets is the share of pixels that were really replaced.

    Args:
        images: `n x channels x height x width`.
        targets: `n x num_classes` probabilities.
        generator: The source of randomness.
        alpha: Above 0; 1 for areas of equal chances.

    References:
        Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
        Features, ICCV 2019, arXiv 1905.04899, eq. 2.
    """
    height, width = images.shape[2:]
    weight, partner = _pairs(images, generator, alpha)
    side = torch.sqrt(1 - weight)
    u = uniform((2, len(images)), generator, images)
    ends = []
    for size, centre in zip((height, width), u, strict=True):
        middle, half = centre * size, side * size / 2
        low, high = (torch.round(end).clamp(0, size) for end in (middle - half, middle + half))
        ends.append((low, high))
    (top, bottom), (left, right) = ends
    replaced = (bottom - top) * (right - left) / (height * width)
    inside = rectangle(images, top, left, bottom, right)
    mixed = torch.where(inside, images[partner], images)
    return mixed, torch.lerp(targets, targets[partner], replaced.view(-1, 1))


def _pairs(images: Tensor, generator: torch.Generator, alpha: float) -> tuple[Tensor, Tensor]:
    """The weight of each image and the row of its partner, two arrays of length `n`."""
    n = len(images)
    # torch's Beta distribution takes no generator
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    weight = np.random.default_rng(int(seed)).beta(alpha, alpha, n).astype(np.float32)
    partner = torch.randperm(n, generator=generator, device=generator.device)
    return torch.from_numpy(weight).to(images.device), partner.to(images.device)
