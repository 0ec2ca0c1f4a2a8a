"""Augmentation of image batches as tensors: small shifts, turns and scalings, and mirroring."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(
    images: Tensor,
    generator: torch.Generator,
    *,
    flip: bool = False,
    shift: float = 0.1,
    degrees: float = 10.0,
    scale: float = 0.1,
) -> Tensor:
    """Moves, turns and scales every image by random amounts, by bilinear sampling.

    Args:
        images: `n x channels x height x width`.
        generator: The source of randomness.
        flip: Mirrors half of the images.
        shift: Largest shift, as a share of the side.
        degrees: Largest turn.
        scale: Largest relative change of size.
    """
    n = len(images)
    u = 2 * torch.rand(4, n, generator=generator) - 1  # uniform in [-1, 1)
    angle = u[0] * math.radians(degrees)
    zoom = 1 + u[1] * scale
    mirror = torch.ones(n)
    if flip:
        mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack(
        [cos * mirror, -sin, 2 * shift * u[2], sin * mirror, cos, 2 * shift * u[3]], dim=1
    )
    grid = F.affine_grid(rows.view(n, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)
