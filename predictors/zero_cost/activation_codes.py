"""NASWOT: how well the activations of an untrained network tell images apart.

Every image has a code: for each unit of every activation layer whether its input is above 0. With
`N_A` units and the Hamming distance `d` of two codes,

    K_ij = N_A - d_ij,    score = log |det K|

which is largest where all codes differ most. Batch norm works on the batch, as in the released
code. Counted are the layers between weights (relu, gelu and their like), not the sigmoids of
gates. The paper draws weights as torch does; so does a fresh `Subnet`.

Reference:
    Mellor et al., Neural Architecture Search without Training, ICML 2021, arXiv 2006.04647 (the
    score of its later versions).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from predictors.zero_cost.probe import Batch, working_copy
from supernet import Subnet

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.Hardswish, nn.SiLU)


@torch.no_grad()
def naswot(network: Subnet, batch: Batch) -> float:
    """The score; -infinity where two images have one code, NaN without activations."""
    probe = working_copy(network)
    n = len(batch.images)
    kernel = torch.zeros((n, n), dtype=torch.float64, device=batch.images.device)

    def compare(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kernel.add_(equal_bits(inputs[0].flatten(1) > 0))

    for module in probe.modules():
        if isinstance(module, ACTIVATIONS):
            module.register_forward_pre_hook(compare)
    probe(batch.images)
    return log_determinant(kernel.cpu().numpy())


def equal_bits(codes: Tensor) -> Tensor:
    """In how many places two codes agree: an `n x n` array from `n x units` bits."""
    signs = codes.float() * 2 - 1
    return (codes.shape[1] + (signs @ signs.T).double()) / 2  # sums below 2^24 are exact


def log_determinant(kernel: npt.NDArray[np.float64]) -> float:
    """`log |det K|`; -infinity where the kernel is singular, NaN where it is 0 altogether."""
    if not kernel.any():
        return math.nan
    if np.linalg.matrix_rank(kernel, hermitian=True) < len(kernel):
        return -math.inf
    return float(np.linalg.slogdet(kernel).logabsdet)
