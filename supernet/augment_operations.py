"""RandAugment's operations on batches of tensors (Cubuk et al., arXiv 1909.13719).

The publication changes 8-bit images, where black and white are known. Here images come in any
scale, most often with a mean of 0 and a deviation of 1 in every channel. So operations on values
take the least and the greatest value of each channel of each image for black and white (and grey
is where all channels are at the same share of their ranges). They therefore commute with any
normalisation of the channels, and never leave an image's own range.

Magnitude `m` from 0 to 1 stands for the publication's 0 to 30, with the usual ranges:

| operation | at magnitude m |
|---|---|
| identity | nothing |
| rotate | a turn of 30 m degrees, either way |
| shear_x, shear_y | a slope of 0.3 m, either way |
| translate_x, translate_y | a shift of 0.45 m of the side, either way |
| brightness | the distance from black times 1 + 0.9 m or 1 - 0.9 m |
| contrast | the distance from the channel's mean, likewise |
| saturation | the distance from grey, likewise; images of 3 channels only |
| sharpness | the distance from the image smoothed by 3 x 3, likewise |
| posterize | 8 - 4 m bits a value, rounded |
| solarize | values above 1 - m of the range are mirrored in it |
| equalize | ranks for values: the histogram becomes flat |
| invert | values are mirrored in the range |

Deviations: auto-contrast is left out, since an image that fills its own range has it already;
invert, which the published program has and its text has not, is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.augment_draws import uniform

BINS = 256
"""Steps of the histogram that `equalize` counts: those of an 8-bit image."""

GEOMETRY = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
"""Operations that move pixels; all of them are done in one resampling."""


def random_operations(images: Tensor, generator: torch.Generator, magnitude: float) -> Tensor:
    """Changes every image by one operation, drawn for itself with equal chances.

    Args:
        images: `n x channels x height x width`.
        generator: The source of randomness.
        magnitude: The strength of the operations, 0 to 1.
    """
    names = operation_names(images.shape[1])
    u = uniform((2, len(images)), generator, images)
    drawn = (u[0] * len(names)).long().clamp(max=len(names) - 1)
    strength = torch.where(u[1] < 0.5, -magnitude, magnitude)
    return apply_operations(images, drawn, strength)


def apply_operations(images: Tensor, drawn: Tensor, strength: Tensor) -> Tensor:
    """Changes every image by the operation that was drawn for it.

    Args:
        images: `n x channels x height x width`.
        drawn: Positions in `operation_names(channels)`, `n` integers.
        strength: The magnitude of each, negative for the other way, `n` numbers.
    """
    geometric = torch.nonzero(drawn < len(GEOMETRY))[:, 0]
    changed = images.clone()
    if len(geometric):
        rows = _affine_rows(drawn[geometric], strength[geometric])
        grid = F.affine_grid(rows, [len(rows), *images.shape[1:]], align_corners=False)
        changed[geometric] = F.grid_sample(
            images[geometric], grid, mode="bilinear", align_corners=False
        )
    for place, name in enumerate(operation_names(images.shape[1])):
        if name in VALUES:
            chosen = torch.nonzero(drawn == place)[:, 0]
            if len(chosen):
                changed[chosen] = VALUES[name](images[chosen], strength[chosen])
    return changed


def operation_names(channels: int) -> tuple[str, ...]:
    """The operations that images of so many channels may get, the geometric ones first."""
    values = [name for name in VALUES if channels == 3 or name != "saturation"]
    return (*GEOMETRY, *values, "identity")


def _affine_rows(drawn: Tensor, strength: Tensor) -> Tensor:
    """The maps `(x, y, 1) -> (x, y)` of the geometric operations, `n x 2 x 3`.

    Coordinates are those of torch's grids, from -1 to 1, so the side is 2 long.
    """
    amount = torch.where(drawn == torch.arange(len(GEOMETRY), device=drawn.device)[:, None],
                         strength, 0.0)  # fmt: skip
    turn, shear_x, shear_y, translate_x, translate_y = amount
    cos, sin = torch.cos(turn * math.radians(30)), torch.sin(turn * math.radians(30))
    return torch.stack(
        [cos, 0.3 * shear_x - sin, 0.9 * translate_x, 0.3 * shear_y + sin, cos, 0.9 * translate_y],
        dim=1,
    ).view(-1, 2, 3)


def _brightness(images: Tensor, strength: Tensor) -> Tensor:
    return _away_from(images, images.amin((2, 3), keepdim=True), strength)


def _contrast(images: Tensor, strength: Tensor) -> Tensor:
    return _away_from(images, images.mean((2, 3), keepdim=True), strength)


def _saturation(images: Tensor, strength: Tensor) -> Tensor:
    low, high = _range(images)
    shares = (images - low) / _width(low, high)
    grey = shares.mean(1, keepdim=True)
    return _away_from(images, low + (high - low) * grey, strength)


def _sharpness(images: Tensor, strength: Tensor) -> Tensor:
    channels, height, width = images.shape[1:]
    if min(height, width) < 3:
        return images
    kernel = torch.ones(channels, 1, 3, 3, device=images.device) / 13
    kernel[:, :, 1, 1] = 5 / 13
    inner = F.conv2d(images, kernel, groups=channels)
    smooth = images.clone()  # the border stays as it is
    smooth[:, :, 1:-1, 1:-1] = inner
    return _away_from(images, smooth, strength)


def _away_from(images: Tensor, anchor: Tensor, strength: Tensor) -> Tensor:
    """`anchor + (1 + 0.9 strength) * (images - anchor)`, kept in each image's own range."""
    factor = (1 + 0.9 * strength).view(-1, 1, 1, 1)
    low, high = _range(images)
    return torch.lerp(anchor, images, factor).clamp(low, high)


def _posterize(images: Tensor, strength: Tensor) -> Tensor:
    steps = 2 ** torch.round(8 - 4 * strength.abs()).view(-1, 1, 1, 1)
    low, high = _range(images)
    share = (images - low) / _width(low, high)
    return low + (high - low) * torch.floor(share * steps).clamp(max=steps - 1) / steps


def _solarize(images: Tensor, strength: Tensor) -> Tensor:
    low, high = _range(images)
    threshold = high - strength.abs().view(-1, 1, 1, 1) * (high - low)
    return torch.where(images > threshold, low + high - images, images)


def _invert(images: Tensor, strength: Tensor) -> Tensor:
    low, high = _range(images)
    return low + high - images


def _equalize(images: Tensor, strength: Tensor) -> Tensor:
    n, channels, height, width = images.shape
    low, high = _range(images)
    share = ((images - low) / _width(low, high)).reshape(n * channels, height * width)
    step = (share * BINS).long().clamp(max=BINS - 1)
    counts = torch.zeros(n * channels, BINS, device=images.device)
    counts.scatter_add_(1, step, torch.ones_like(share))
    below = counts.cumsum(1) - counts  # pixels of a lower step: 0 for black
    # those of the brightest step have all others below them, and stay white
    highest = (height * width - counts.gather(1, step.amax(1, keepdim=True))).clamp(min=1)
    flat = (below / highest).gather(1, step).view(images.shape)
    return low + (high - low) * flat


def _range(images: Tensor) -> tuple[Tensor, Tensor]:
    """The least and greatest value of each channel of each image, `n x channels x 1 x 1`."""
    return images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)


def _width(low: Tensor, high: Tensor) -> Tensor:
    """The width of ranges to divide by; 1 for an image of one value."""
    return torch.where(high > low, high - low, 1.0)


VALUES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "equalize": _equalize,
    "invert": _invert,
}
"""Operations on values: images and their signed strengths (`n` numbers) to changed images."""
