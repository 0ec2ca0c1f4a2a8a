"""Length distortion: how long a closed curve becomes on its way through the network.

The curve is `h(t) = sqrt(N) (u cos t + v sin t)` for t from 0 to 2 pi, with u and v orthonormal
images of N values. The score is the length of `f(h(t))`, f the pooled features of the network with
normalisation layers replaced by the identity: an expressive network bends the curve, and makes it
longer. The mean of `CURVES` curves, each with weights of its own from N(0, 2 / inputs).

Deviation: the length is that of the polygon through `POINTS` points, which is never above the
curve's and meets it for many points; the released code sums the norms of the derivative at the
points, for which it runs backward once for every feature.

Reference:
    Chen et al., Auto-scaling Vision Transformers without Training, ICLR 2022, arXiv 2202.11921,
    sec. 3.1; the curve from Poole et al., Exponential expressivity in deep neural networks through
    transient chaos, NeurIPS 2016, arXiv 1606.05340.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from predictors.zero_cost.probe import Batch, draw_weights, features, working_copy
from supernet import Subnet

CURVES = 3
POINTS = 96
_CHUNK = 32  # points that pass the network at once


@torch.no_grad()
def length_distortion(network: Subnet, batch: Batch) -> float:
    """The mean length of curves in the space of features; 0 where no input reaches it.

    Of the batch only the size of its images and their device are read.
    """
    probe = without_norms(network)
    generator = batch.generator("length distortion")
    lengths = []
    for _ in range(CURVES):
        draw_weights(probe, generator, gain=2.0)
        images = circle(tuple(batch.images.shape[1:]), POINTS, generator)
        parts = torch.split(images.to(batch.images.device), _CHUNK)
        outputs = torch.cat([features(probe, part, pooled=True).flatten(1) for part in parts])
        lengths.append(length(outputs))
    return sum(lengths) / CURVES


def without_norms(network: Subnet) -> Subnet:
    """A copy whose batch norms and layer norms are the identity."""
    probe = working_copy(network)
    for key, module in probe.layers.items():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            probe.layers[key] = nn.Identity()
    return probe


def circle(shape: tuple[int, ...], points: int, generator: torch.Generator) -> Tensor:
    """A circle of images of the given shape, `points` of them; the first follows the last."""
    size = math.prod(shape)
    plane, _ = torch.linalg.qr(torch.randn((size, 2), generator=generator, dtype=torch.float64))
    angle = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
    curve: Tensor = math.sqrt(size) * torch.stack([angle.cos(), angle.sin()], dim=1) @ plane.T
    return curve.float().reshape(points, *shape)


def length(points: Tensor) -> float:
    """The length of the closed polygon through `n x d` points."""
    return float((points.roll(-1, 0) - points).double().norm(dim=1).sum())
