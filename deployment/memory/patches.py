"""The scratch space of onnxruntime's convolutions with groups on maps in plain order.

A convolution that is not in blocks of channels, because its groups do not fill them, is a product
of matrices for each group: patches of the input are laid out as columns first. How much space it
asks for is the rule of `MlasConvPrepare` (`core/mlas/lib/convolve.cpp`), compared with what
version 1.31.1 takes on x86-64. With `F` filters a group, `P` positions of the output and `K`
products for each of its values, in float32:

- nothing, where the input is the matrix already: 1x1 kernels, stride 1, no padding;
- `P K`, where `F > P`;
- otherwise 128 x 128 for each thread that has a group of an image to itself. (Later versions take
  `max(P K, F P, 128 * 128)` there.)

On ARM processors depthwise 3x3 kernels take less (a row), and no convolution is in blocks of
channels; that is not followed. Where a processor has cores of two kinds, onnxruntime splits work
into four times as many parts as threads, which is not followed either. What the convolutions of
int8 files take is not known here.
"""

from __future__ import annotations

import numpy as np

from deployment.memory.writing import Counts, Mask

SEGMENT = 128 * 128
"""Values that a thread has room for."""


def patch_values(
    *,
    batch_groups: Counts,
    filters: Counts,
    inputs: Counts,
    positions: Counts,
    kernel: Counts,
    is_plain_product: Mask,
    threads: int,
) -> Counts:
    """Values of scratch space that a convolution asks for, an array of length `n`.

    Args:
        batch_groups: Images times groups.
        filters: Channels of the output in a group.
        inputs: Channels of the input in a group.
        positions: Height times width of the output.
        kernel: Side of the square kernels.
        is_plain_product: Whether kernels are 1x1, with stride 1 and no padding.
        threads: Threads inside an operator.
    """
    products = inputs * kernel**2
    of_threads = np.minimum(threads, batch_groups) * SEGMENT
    found = np.where(filters > positions, positions * products, of_threads)
    return np.where(is_plain_product, 0, found)
