"""jacob_cov: how differently an untrained network responds to different images.

Let row `i` of J be the gradient of the sum of the outputs with respect to image `i`, and v the
eigenvalues of the rows' correlation matrix. Then

    score = - sum_i ( log(v_i + k) + 1 / (v_i + k) ),    k = 1e-5

which is greatest where all eigenvalues are 1: no two images move the outputs alike. Batch norm
works on the batch, as in the released code, so that a gradient has a part of the other images.

References:
    Mellor et al., Neural Architecture Search without Training, arXiv 2006.04647v1 (its first
    version); Abdelfattah et al., ICLR 2021, arXiv 2101.08134.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from predictors.zero_cost.probe import Batch, working_copy
from supernet import Subnet

FLOOR = 1e-5


def jacob_cov(network: Subnet, batch: Batch) -> float:
    """The score; NaN where an image does not move the outputs at all."""
    probe = working_copy(network)
    images = batch.images.detach().clone().requires_grad_()
    probe(images).sum().backward()
    if images.grad is None:
        return math.nan
    return spread_of_rows(images.grad.flatten(1).double().cpu().numpy())


def spread_of_rows(gradients: npt.NDArray[np.float64]) -> float:
    """The score of an `n x pixels` array of gradients; NaN where a row is constant."""
    if not (np.isfinite(gradients).all() and np.ptp(gradients, axis=1).all()):
        return math.nan
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(gradients)).clip(0)
    return float(-(np.log(eigenvalues + FLOOR) + 1 / (eigenvalues + FLOOR)).sum())
