"""Proof that an exported file computes the same function as the torch subnet.

Both compute in single precision in another order, so they differ by rounding. Where a network
amplifies that (deep ones, on images unlike those that they know), its own rounding error, single
against double precision in torch, says how much difference is rounding.

A file with its preprocessing inside is given pixels, and torch what
`deployment.emission.preprocessing.Preprocessing` makes of the same pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from deployment.emission.emit import image_shape
from deployment.emission.preprocessing import Preprocessing, preprocessing_of
from deployment.runtime import open_session
from records import BadInputError, HwnasError
from supernet import Subnet

TOLERANCE = 1e-5
"""Largest difference, relative to the largest logit of the comparison, in fp32."""

ROUNDING_FACTOR = 10.0
LARGEST_TOLERANCE = 1e-3
"""A larger difference is allowed up to that many times torch's own rounding error; never more
than this."""

ANY_BATCH = 3
"""Images a run where the file takes any number."""

Array = npt.NDArray[Any]


class VerificationError(HwnasError, RuntimeError):
    """An exported file that does not compute what the subnet computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far a file's logits are from torch's.

    Attributes:
        images: How many images were compared.
        largest_difference: The largest absolute difference of a logit.
        relative_difference: That, divided by the largest absolute logit. Images ten times as large
            count by their own largest logit.
        top1_agreement: Share of images with the same predicted class.
        tolerance: The relative difference that is allowed: `TOLERANCE` where it is enough.
    """

    images: int
    largest_difference: float
    relative_difference: float
    top1_agreement: float
    tolerance: float

    @property
    def is_within(self) -> bool:
        """Whether the difference is allowed; NaN is not."""
        return self.relative_difference <= self.tolerance


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
        images: Real images as the network sees them, `n x channels x height x width`, compared
            beside random and extreme ones (all zero, and ten times as large; of pixels all black,
            and those at either end of the range). The largest are left out where torch's own
            rounding error on them is so large that nothing can be told.
        seed: Derives the random images.
        threads: Threads inside an operator.

    Raises:
        VerificationError: The file is not valid, or differs by more than `TOLERANCE` and more
            than rounding explains.
        BadInputError: Images of another shape, a file that takes other numbers than float32 and
            does not say what it does to them, real images for a file that resizes them.
    """
    agreement = compare(subnet, model, images, seed=seed, threads=threads)
    if not agreement.is_within:
        raise VerificationError(
            f"the exported file differs from torch by {agreement.relative_difference:.2g} of the "
            f"largest logit, more than {agreement.tolerance:.2g}"
        )
    return agreement


def compare(
    subnet: Subnet,
    model: onnx.ModelProto,
    images: torch.Tensor | None = None,
    *,
    seed: int = 0,
    threads: int = 1,
) -> Agreement:
    """As `verify`, but a file that differs is no error.

    Raises:
        VerificationError: The file is not valid.
    """
    try:
        onnx.checker.check_model(model, full_check=not _has_runtime_operators(model))
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError(f"the exported graph is not valid ONNX: {error}") from error
    session = open_session(model.SerializeToString(), threads)
    entry = session.get_inputs()[0]
    inside = preprocessing_of(model)
    if entry.type != "tensor(float)" and inside is None:
        raise BadInputError(
            f"the file takes images of {entry.type}, torch takes tensors, and the file's metadata "
            "do not say what it does to them: write it with `emit(..., preprocessing=...)`"
        )
    shape = [size if isinstance(size, int) else ANY_BATCH for size in entry.shape]
    parts = []
    for batches in _batches(subnet, shape, images, seed, inside):
        theirs = [np.asarray(session.run(None, {"images": batch})[0]) for batch in batches]
        parts.append(_compared(subnet, batches, np.concatenate(theirs), inside))
    usual, large = parts
    usual = replace(usual, tolerance=min(usual.tolerance, LARGEST_TOLERANCE))
    return usual if large.tolerance > LARGEST_TOLERANCE else _joined(usual, large)


@torch.no_grad()
def _compared(
    subnet: Subnet, batches: Sequence[Array], theirs: Array, inside: Preprocessing | None
) -> Agreement:
    """Compares logits on some batches; the tolerance is what rounding explains, at any height."""
    _, height, width = image_shape(subnet)
    seen = [
        batch if inside is None else inside.normalised_in_double(batch, (height, width))
        for batch in batches
    ]
    ours = np.concatenate([subnet(torch.from_numpy(s).float()).numpy() for s in seen])
    scale = max(float(np.abs(ours).max()), 1e-30)
    difference = float(np.abs(ours - theirs).max())
    tolerance = TOLERANCE
    if difference > TOLERANCE * scale:
        exact = copy.deepcopy(subnet).double()
        precise = [exact(torch.from_numpy(batch).double()).numpy() for batch in seen]
        rounding = float(np.abs(np.concatenate(precise) - ours).max()) / scale
        tolerance = max(TOLERANCE, ROUNDING_FACTOR * rounding)
    return Agreement(
        images=len(ours),
        largest_difference=difference,
        relative_difference=difference / scale,
        top1_agreement=float((ours.argmax(1) == theirs.argmax(1)).mean()),
        tolerance=tolerance,
    )


def _joined(usual: Agreement, large: Agreement) -> Agreement:
    """Both comparisons as one: the one that fails, or the larger difference."""
    wrong = [one for one in (usual, large) if not one.is_within]
    worst = wrong[0] if wrong else max((usual, large), key=lambda one: one.relative_difference)
    total = usual.images + large.images
    agreeing = usual.top1_agreement * usual.images + large.top1_agreement * large.images
    return Agreement(
        images=total,
        largest_difference=worst.largest_difference,
        relative_difference=worst.relative_difference,
        top1_agreement=agreeing / total,
        tolerance=worst.tolerance,
    )


def _batches(
    subnet: Subnet,
    shape: list[int],
    images: torch.Tensor | None,
    seed: int,
    inside: Preprocessing | None,
) -> tuple[list[Array], list[Array]]:
    """Batches of the file's shape: random, zero and real images as they fill one; and large."""
    random, large = _made_up(shape, np.random.default_rng(seed), inside)
    batches = [random, np.zeros_like(random)]
    if images is not None:
        wanted = list(image_shape(subnet))
        if list(images.shape[1:]) != wanted:
            raise BadInputError(f"images must be n x {wanted}, got shape {tuple(images.shape)}")
        size = shape[0]
        whole: Array = images[: len(images) // size * size].numpy()
        given = whole if inside is None else inside.denormalised(whole)
        batches += [np.ascontiguousarray(part) for part in given.reshape(-1, *shape)]
    return batches, [large]


def _made_up(
    shape: list[int], rng: np.random.Generator, inside: Preprocessing | None
) -> tuple[Array, Array]:
    """Random images as the file takes them, and large ones."""
    if inside is None:
        random = rng.standard_normal(shape).astype(np.float32)
        return random, 10 * random
    ends = inside.white * rng.integers(0, 2, shape)
    if inside.dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8), ends.astype(np.uint8)
    return rng.random(shape, dtype=np.float32), ends.astype(np.float32)


def _has_runtime_operators(model: onnx.ModelProto) -> bool:
    """Whether operators of the runtime are used, whose shapes ONNX cannot infer."""
    return any(entry.domain not in ("", "ai.onnx") for entry in model.opset_import)
