"""How weights from elsewhere are made to fit a layer, by stated rules and no others.

- a matrix and a convolution kernel with the same rows and as many values are the same weights: a
  1x1 convolution and a linear map, a linear map of a flattened feature map and a convolution over
  the whole of it;
- a kernel that reads colour images is summed over the colours for grey images, which is what it
  answers to a grey picture in three equal channels; a kernel for grey images is spread evenly over
  the colours;
- a position embedding `1 x n x channels` loses its leading axis; the vector of a class token, in
  front, is left out, since networks here average their tokens; another square grid is resized
  bilinearly (Dosovitskiy et al., ViT, ICLR 2021, sec. 3.2 resizes likewise);
- where a bias is missing it is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from records import BadInputError
from search_spaces import Layer


def fit(
    layer: Layer, parameter: str, given: Tensor, shape: Sequence[int], *, reads_images: bool
) -> tuple[Tensor, str]:
    """A tensor in the shape of a layer's weight, and what was done to it (empty: nothing).

    Args:
        layer: The layer.
        parameter: The weight's name.
        given: The tensor from elsewhere.
        shape: The shape that the layer needs.
        reads_images: Whether the layer is the first with weights.

    Raises:
        BadInputError: No rule makes it fit.
    """
    if layer.operator == "position" and given.ndim in (2, 3):
        return _fit_positions(layer, given)
    if tuple(given.shape) == tuple(shape):
        return given, ""
    same_rows = given.ndim > 1 and given.shape[0] == shape[0]
    if same_rows and given.ndim != len(shape) and given.numel() == math.prod(shape):
        return given.reshape(*shape), f"{tuple(given.shape)} seen as {tuple(shape)}"
    if reads_images and same_rows and given.shape[2:] == torch.Size(shape[2:]):
        colours, wanted = given.shape[1], shape[1]
        if wanted == 1:
            return given.sum(1, keepdim=True), f"summed over {colours} colours"
        if colours == 1:
            return given.expand(*shape) / wanted, f"spread over {wanted} colours"
    raise _unfit(layer, parameter, given, shape)


def _fit_positions(layer: Layer, given: Tensor) -> tuple[Tensor, str]:
    """An embedding `n x channels`, or with a leading axis of 1, for the layer's grid."""
    rows = given[0] if given.ndim == 3 and len(given) == 1 else given
    if rows.ndim != 2 or rows.shape[1] != layer.channels:
        raise _unfit(layer, "embedding", given, (layer.tokens, layer.channels))
    notes = []
    if len(rows) != layer.tokens and (
        len(rows) == layer.tokens + 1 or math.isqrt(len(rows)) ** 2 != len(rows)
    ):
        rows = rows[1:]
        notes.append("without the class token's vector")
    if len(rows) != layer.tokens:
        side = math.isqrt(len(rows))
        if side == 0 or side**2 != len(rows):
            raise _unfit(layer, "embedding", given, (layer.tokens, layer.channels))
        grid = rows.T.reshape(1, layer.channels, side, side)
        size = (layer.height, layer.width)
        grid = F.interpolate(grid, size=size, mode="bilinear", antialias=True)
        rows = grid[0].flatten(1).T
        notes.append(f"resized from {side}x{side} to {size[0]}x{size[1]}")
    return rows, ", ".join(notes)


def _unfit(layer: Layer, parameter: str, given: Tensor, shape: Sequence[int]) -> BadInputError:
    return BadInputError(
        f"{parameter} of layer {layer.name!r} has shape {tuple(shape)} in the largest subnet, got "
        f"{tuple(given.shape)}; the weights must be those of a network of that size"
    )
