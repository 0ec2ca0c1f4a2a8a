"""Calibration images cut into batches of a network's shape."""

from __future__ import annotations

import numpy as np

from deployment.quantisation.quantised import CALIBRATION_RUNS
from deployment.runtimes.runtime import Array, batch_shape
from records import BadInputError
from supernet import Subnet


def calibration_batches(
    subnet: Subnet, batch_size: int, images: Array | None, seed: int = 0
) -> list[Array]:
    """Whole batches of images; what is beyond them is left out.

    Args:
        subnet: The network whose shape they must have.
        batch_size: Images a batch.
        images: Training images, at least a batch; random ones where there are none.
        seed: Derives the random ones.

    Raises:
        BadInputError: Images of another shape, fewer than a batch, or not finite.
    """
    shape = batch_shape(subnet, batch_size)
    if images is None:
        rng = np.random.default_rng(seed)
        return [rng.standard_normal(shape).astype(np.float32) for _ in range(CALIBRATION_RUNS)]
    images = np.ascontiguousarray(images, np.float32)
    if images.ndim != 4 or images.shape[1:] != shape[1:] or len(images) < batch_size:
        raise BadInputError(
            f"calibration needs at least {batch_size} images of {list(shape[1:])}, got an array "
            f"of shape {list(images.shape)}"
        )
    if not np.isfinite(images).all():
        raise BadInputError("calibration images must be finite: a scale would be lost")
    whole = len(images) // batch_size
    return list(images[: whole * batch_size].reshape(whole, *shape))
