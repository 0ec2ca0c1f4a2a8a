"""Proof that an exported file computes the same function as the torch subnet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch

from deployment.runtime import open_session
from records import BadInputError, HwnasError
from supernet import Subnet

TOLERANCE = 1e-5
"""Largest difference, relative to the largest logit of the comparison, in fp32."""


class VerificationError(HwnasError, RuntimeError):
    """An exported file that does not compute what the subnet computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far a file's logits are from torch's.

    Attributes:
        images: How many images were compared.
        largest_difference: The largest absolute difference of a logit.
        relative_difference: That, divided by the largest absolute logit.
        top1_agreement: Share of images with the same predicted class.
        tolerance: The relative difference that is allowed.
    """

    images: int
    largest_difference: float
    relative_difference: float
    top1_agreement: float
    tolerance: float


def verify(
    subnet: Subnet,
    model: onnx.ModelProto,
    images: torch.Tensor | None = None,
    *,
    seed: int = 0,
    threads: int = 1,
) -> Agreement:
    """Checks the file and compares its logits with torch's.

    Args:
        subnet: The network in eval mode.
        model: What was emitted from it.
        images: Real images, `n x channels x height x width`, compared beside random and extreme
            ones (all zero, and ten times as large).
        seed: Derives the random images.
        threads: Threads inside an operator.

    Raises:
        VerificationError: The file is not valid, or differs by more than `TOLERANCE`.
    """
    try:
        onnx.checker.check_model(model, full_check=not _has_runtime_operators(model))
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError(f"the exported graph is not valid ONNX: {error}") from error
    session = open_session(model.SerializeToString(), threads)
    shape = session.get_inputs()[0].shape
    batches = _batches(shape, images, seed)
    ours, theirs = [], []
    for batch in batches:
        with torch.no_grad():
            ours.append(subnet(torch.from_numpy(batch)).numpy())
        theirs.append(np.asarray(session.run(None, {"images": batch})[0]))
    return _compare(np.concatenate(ours), np.concatenate(theirs))


def _compare(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> Agreement:
    difference = float(np.abs(ours - theirs).max())
    relative = difference / max(float(np.abs(ours).max()), 1e-30)
    if not relative <= TOLERANCE:  # NaN fails too
        raise VerificationError(
            f"the exported file differs from torch by {relative:.2g} of the largest logit, more "
            f"than {TOLERANCE:g}"
        )
    return Agreement(
        images=len(ours),
        largest_difference=difference,
        relative_difference=relative,
        top1_agreement=float((ours.argmax(1) == theirs.argmax(1)).mean()),
        tolerance=TOLERANCE,
    )


def _batches(
    shape: list[int], images: torch.Tensor | None, seed: int
) -> list[npt.NDArray[np.float32]]:
    """Batches of the file's shape: random, zero, large, and real images as they fill one."""
    random = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    batches = [random, np.zeros_like(random), 10 * random]
    if images is not None:
        if list(images.shape[1:]) != shape[1:]:
            raise BadInputError(f"images must be n x {shape[1:]}, got shape {tuple(images.shape)}")
        size = shape[0]
        whole = images[: len(images) // size * size].numpy()
        batches += [np.ascontiguousarray(part) for part in whole.reshape(-1, *shape)]
    return batches


def _has_runtime_operators(model: onnx.ModelProto) -> bool:
    """Whether operators of the runtime are used, whose shapes ONNX cannot infer."""
    return any(entry.domain not in ("", "ai.onnx") for entry in model.opset_import)
