"""The very file that a target runs: what is emitted in fp32, in int8 where the target says so.

An int8 file does not compute the same as torch; rounding of weights and activations to 8 bits
changes logits by some percent. So the fp32 file is proved equal to torch first
(`deployment.proofs.verify`), and the int8 file is then compared with torch on its own terms: the
error of the logits relative to their spread, and, on real images, how often the predicted class is
the same. A file beyond these tolerances is refused: scales set by images unlike the real ones, or
a network whose activations 8 bits cannot hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch

from deployment.emission.emit import image_shape
from deployment.emission.preprocessing import preprocessing_of
from deployment.proofs.verify import VerificationError
from deployment.quantisation.quantised import MODES, quantise
from deployment.runtime import open_session
from hardware_profiles import Target
from records import BadInputError, unknown_name
from supernet import Subnet

LARGEST_ERROR = 0.25
"""Root mean square of the difference of logits, relative to the deviation of torch's logits."""
LEAST_TOP1 = 0.8
"""Share of real images whose predicted class is the same; random ones say nothing about it."""

RANDOM_IMAGES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """How an int8 file was made, and how far it is from torch.

    Attributes:
        mode: "dynamic" or "static" (`deployment.quantisation.quantised`).
        calibration_images: How many set the scales; 0 for the dynamic way.
        images: How many were compared.
        are_real: Whether these were real images; random ones otherwise.
        relative_error: Root mean square of the logits' difference over their deviation.
        largest_error: The relative error that is allowed.
        top1_agreement: Share of images with the same predicted class.
        least_top1: The share that is asked for; None for random images.
    """

    mode: str
    calibration_images: int
    images: int
    are_real: bool
    relative_error: float
    largest_error: float
    top1_agreement: float
    least_top1: float | None


def target_file(
    emitted: bytes,
    target: Target,
    quantisation: str = "static",
    calibration_images: torch.Tensor | None = None,
    fp32_blocks: Sequence[str] = (),
) -> bytes:
    """The file that a target runs, from what was emitted in fp32.

    Args:
        emitted: The serialised fp32 file.
        target: Decides by its precision; fp16 and bf16 are the runtime's own business.
        quantisation: How an int8 file is made, "dynamic" or "static".
        calibration_images: Training images that set the scales of the static way.
        fp32_blocks: Layers, blocks or stages of an int8 target that stay in fp32.

    Raises:
        BadInputError: The static way without images, or with fewer than a batch.
        UnknownNameError: Another way, or a block that the network does not have.
    """
    if quantisation not in MODES:
        raise unknown_name("quantisation", quantisation, MODES)
    if target.precision != "int8":
        return emitted
    if quantisation == "dynamic":
        return quantise(emitted, mode="dynamic", fp32_blocks=fp32_blocks)
    if calibration_images is None:
        raise BadInputError(
            f"{target.name!r} runs static int8, whose scales come from training images: pass "
            "calibration_images=data.train.images[:256], or choose quantisation='dynamic'"
        )
    return quantise(
        emitted,
        mode="static",
        images=calibration_images.numpy(),
        fp32_blocks=fp32_blocks,
        threads=target.threads if target.is_local else 1,
    )


def verify_quantised(
    subnet: Subnet,
    data: bytes,
    images: torch.Tensor | None = None,
    *,
    quantisation: str,
    calibration_images: torch.Tensor | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Quantised:
    """Compares the logits of an int8 file with torch's.

    A file with its preprocessing inside is given the bytes that the images come to, and torch what
    the preprocessing makes of the same bytes.

    Args:
        subnet: The network in eval mode.
        data: Its int8 file.
        images: Real images that set no scale; random ones are compared where there are none.
        quantisation: How the file was made.
        calibration_images: What its scales come from.
        seed: Derives random images.
        threads: Threads inside an operator.

    Raises:
        VerificationError: An error above `LARGEST_ERROR`, or, on real images, fewer of the same
            class than `LEAST_TOP1`.
    """
    session = open_session(data, threads)
    entry = session.get_inputs()[0]
    size = int(entry.shape[0])
    if images is None or len(images) < size:
        generator = torch.Generator().manual_seed(seed)
        shape = (-(-RANDOM_IMAGES // size) * size, *image_shape(subnet))
        compared, are_real = torch.randn(shape, generator=generator), False
    else:
        compared, are_real = images[: len(images) // size * size], True
    inside = preprocessing_of(onnx.load_from_string(data))
    given = compared.numpy()
    if inside is not None:
        given = inside.denormalised(given)
        compared = torch.from_numpy(inside.normalised(given))
    with torch.no_grad():
        ours = subnet(compared).numpy()
    batches = given.reshape(-1, size, *given.shape[1:])
    theirs = np.concatenate([session.run(None, {entry.name: b})[0] for b in batches])
    spread = max(float(ours.std()), 1e-30)
    found = Quantised(
        mode=quantisation,
        calibration_images=0 if calibration_images is None else len(calibration_images),
        images=len(ours),
        are_real=are_real,
        relative_error=float(np.sqrt(np.mean((ours - theirs) ** 2))) / spread,
        largest_error=LARGEST_ERROR,
        top1_agreement=float((ours.argmax(1) == theirs.argmax(1)).mean()),
        least_top1=LEAST_TOP1 if are_real else None,
    )
    is_close = found.relative_error <= LARGEST_ERROR  # NaN is not
    if not is_close or (are_real and found.top1_agreement < LEAST_TOP1):
        raise VerificationError(
            f"the {quantisation} int8 file differs from torch by {found.relative_error:.2g} of "
            f"the logits' deviation (allowed: {LARGEST_ERROR:g}) and agrees on "
            f"{found.top1_agreement:.0%} of {found.images} {'real' if are_real else 'random'} "
            f"images (asked for: {LEAST_TOP1:.0%} of real ones); give more calibration images, "
            "choose the other way to quantise, or a target in fp32"
        )
    return found
