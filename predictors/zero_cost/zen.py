"""Zen: how much a network with normal weights amplifies a small change of its input.

With weights from N(0, 1), an image x of noise and another e, f the map before the last pooling:

    score = log mean_x sum |f(x) - f(x + 0.01 e)|  +  sum over batch norms of log s,
    s^2 = the mean over channels of the variance of what the batch norm reads

The second part gives back what batch norm divides out: without it, wide and deep networks would
score like narrow ones. The mean over `REPEATS` draws of weights and noise.

Deviation: the variances are those of the batch x + 0.01 e itself, as in the paper's algorithm 1;
the released code takes torch's running ones, which still hold a share 0.81 of their initial 1. A
batch norm whose input is constant (behind a branch without input) rescales nothing and is left
out.

Reference:
    Lin et al., Zen-NAS: A Zero-Shot NAS for High-Performance Deep Image Recognition, ICCV 2021,
    arXiv 2102.01063.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from predictors.zero_cost.probe import Batch, draw_weights, features, working_copy
from supernet import Subnet

REPEATS = 4
"""The released code takes 32; see `zen` for the price."""

IMAGES = 16
STEP = 0.01


@torch.no_grad()
def zen(network: Subnet, batch: Batch, repeats: int = REPEATS) -> float:
    """The score; -infinity where the input does not reach the features.

    Of the batch only the size of its images and their device are read. The time grows with
    `repeats`, the standard error of the mean falls with its root.
    """
    probe = working_copy(network)
    generator = batch.generator("zen")
    scores = []
    for _ in range(repeats):
        draw_weights(probe, generator, gain=None)
        x = batch.noise(IMAGES, generator)
        scores.append(expressivity(probe, x, x + STEP * batch.noise(IMAGES, generator)))
    return sum(scores) / repeats


@torch.no_grad()
def expressivity(network: Subnet, x: Tensor, moved: Tensor) -> float:
    """The score of a network with the weights and in the mode it has, for two batches."""
    scales: list[float] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variance = float(inputs[0].var((0, 2, 3), correction=0).mean())
        if variance > 0:
            scales.append(0.5 * math.log(variance))

    before = features(network, x, pooled=False)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    handles = [m.register_forward_pre_hook(note) for m in norms]
    try:
        after = features(network, moved, pooled=False)
    finally:
        for handle in handles:
            handle.remove()
    change = float((before - after).abs().flatten(1).sum(1).mean())
    return math.log(change) + sum(scales) if change > 0 else -math.inf
