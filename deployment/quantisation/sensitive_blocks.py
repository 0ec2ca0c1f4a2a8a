"""Which blocks to leave in fp32 so that a quantised network keeps its accuracy.

Greedy by the error that each block has alone (`deployment.quantisation.block_errors`). Errors of
several blocks add up nearly as if they were independent, which makes this a good order, and no
proof. So the accuracy of every mixed file on the way is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deployment.quantisation.accuracy import BATCH_SIZE, file_accuracy
from deployment.quantisation.block_errors import BlockErrors, check_images, quantiser_of
from records import BadInputError
from supernet import Split, Subnet

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitiveBlocks:
    """Blocks to leave in fp32 so that a network keeps an accuracy.

    Attributes:
        fp32_blocks: Their names, the most sensitive first.
        accuracy: Of the file with these in fp32 and all others in int8.
        fp32_accuracy: Of the file in fp32.
        int8_accuracy: Of the file with all blocks in int8.
        tried: Accuracies with none, one, two ... of the most sensitive blocks in fp32.
    """

    fp32_blocks: tuple[str, ...]
    accuracy: float
    fp32_accuracy: float
    int8_accuracy: float
    tried: tuple[float, ...]


def most_sensitive(
    subnet: Subnet,
    errors: BlockErrors,
    validation: Split,
    *,
    largest_loss: float = 0.005,
    calibration_images: Array | None = None,
    batch_size: int = BATCH_SIZE,
    threads: int = 1,
) -> SensitiveBlocks:
    """The blocks to leave in fp32 so that a network loses at most some accuracy.

    Blocks go to fp32 one by one, the largest error first, until the accuracy that is measured of
    the mixed file keeps the bound. With all of them it does, so this ends. Fewer or other blocks
    might do as well; only the greedy order is looked at.

    Args:
        subnet: The network in eval mode.
        errors: What `block_errors` found for it.
        validation: The images that count: those of the search, not of the test.
        largest_loss: How much accuracy below that in fp32 is allowed, as a share.
        calibration_images: Training images that set the scales of the static way.
        batch_size: Images a run.
        threads: Threads inside an operator.

    Raises:
        BadInputError: A negative bound, or static quantisation without calibration images.
        CorruptFileError: onnxruntime cannot quantise the network.
    """
    if not largest_loss >= 0:
        raise BadInputError(f"largest_loss is a share of at least 0, got {largest_loss!r}")
    check_images(errors.mode, validation.images.numpy(), calibration_images)
    if calibration_images is not None:
        batch_size = min(batch_size, len(calibration_images))
    quantiser = quantiser_of(subnet, errors.mode, calibration_images, batch_size, threads)
    order = errors.by_error
    fp32 = file_accuracy(quantiser.model, validation, threads)
    tried: list[float] = []
    for kept in range(len(order) + 1):
        tried.append(file_accuracy(quantiser.file(order[:kept]), validation, threads))
        if tried[-1] >= fp32 - largest_loss - 1e-12:
            break
    return SensitiveBlocks(
        fp32_blocks=order[: len(tried) - 1],
        accuracy=tried[-1],
        fp32_accuracy=fp32,
        int8_accuracy=tried[0],
        tried=tuple(tried),
    )
