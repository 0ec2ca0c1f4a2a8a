"""What the augmentations share: random numbers for a batch, and rectangles in its images."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(shape: int | tuple[int, ...], generator: torch.Generator, images: Tensor) -> Tensor:
    """Float32 numbers in [0, 1), drawn on the generator's device and moved to the images'."""
    return torch.rand(shape, generator=generator, device=generator.device).to(images.device)


def rectangle(images: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """A mask `n x 1 x height x width`: one rectangle an image, from top and left to below bottom.

    Args:
        images: `n x channels x height x width`.
        top: The first row of each rectangle, `n` numbers.
        left: The first column.
        bottom: The row after the last.
        right: The column after the last.
    """
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    in_rows = (rows >= top[:, None]) & (rows < bottom[:, None])
    in_columns = (columns >= left[:, None]) & (columns < right[:, None])
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
