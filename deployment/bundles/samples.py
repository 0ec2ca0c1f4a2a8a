"""Inputs with torch's logits that a bundle carries, so that any machine can check its file.

Real images, random ones, zeros, and extremes. In fp32 the largest difference of a logit counts,
relative to the largest logit of that kind of input; where a file is not exact (int8, half
precision, an approximated GELU), the root mean square of the differences, relative to the
deviation of torch's logits. What another processor may differ by is allowed for: the tolerances
are wider than what was found here, and are stated.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

from deployment.bundles.file_answers import Images, Logits, answers, torch_answers
from deployment.bundles.input import as_taken
from deployment.emission.preprocessing import Preprocessing
from deployment.proofs.verify import LARGEST_TOLERANCE, VerificationError
from deployment.target_file import LARGEST_ERROR
from records import BadInputError, generator
from supernet import Subnet

REAL_IMAGES = 16
"""Real images that are stored at most."""
LEAST_REAL_IMAGES = 2
LARGEST_BYTES = 4 << 20
"""Of the real images; fewer are stored where they are large."""
RANDOM_IMAGES = 4

OTHER_MACHINE = 1e-4
"""What a file in fp32 may differ by on any machine, relative to the largest logit."""

TITLES = {
    "real": "real images",
    "random": "random images",
    "zeros": "image of zeros",
    "extreme": "extreme images",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """Stored inputs of one kind.

    Attributes:
        images: As the file takes them.
        logits: Torch's, `n x classes`.
        difference: How far the file's were when the bundle was made.
        tolerance: How far they may be; None where nothing can be told.
        note: Why nothing can be told.
    """

    images: Images
    logits: Logits
    difference: float
    tolerance: float | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """The stored inputs.

    Attributes:
        measure: "largest" or "rms", see above.
        kinds: By name, see `TITLES`.
        same_class: How many real images got torch's class; 0 without any.
    """

    measure: str
    kinds: Mapping[str, Kind]
    same_class: int

    def npz(self) -> bytes:
        """The arrays `KIND_images` and `KIND_logits`, as a file that numpy reads."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, kind in self.kinds.items():
            arrays[f"{name}_images"], arrays[f"{name}_logits"] = kind.images, kind.logits
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type, unused-ignore]
        return file.getvalue()

    def to_json(self) -> dict[str, Any]:
        """What `bundle.json` says of them."""
        return {
            "file": "samples.npz",
            "measure": self.measure,
            "same_class": self.same_class,
            "least_same_class": max(0, self.same_class - (self.measure == "rms")),
            "kinds": {
                name: {
                    "title": TITLES[name],
                    "images": len(kind.images),
                    "difference": kind.difference,
                    "tolerance": kind.tolerance,
                    "note": kind.note,
                }
                for name, kind in self.kinds.items()
            },
        }


def make_samples(
    subnet: Subnet,
    session: ort.InferenceSession,
    *,
    real: torch.Tensor | None,
    inside: Preprocessing | None,
    is_exact: bool,
    seed: int,
) -> Samples:
    """Runs a file and torch on the same inputs.

    Args:
        subnet: The network in eval mode.
        session: Its file, opened.
        real: Real images as the network takes them, `n x channels x height x width`.
        inside: The preprocessing that the file does itself, so that it takes pixels.
        is_exact: Whether the file computes what torch does, rounding apart.
        seed: Derives random images.

    Raises:
        VerificationError: Real or random images give other logits than rounding explains, or any
            give logits that are no numbers.
        BadInputError: Real images of another shape.
    """
    first = subnet.graph.layers[0]
    shape = (first.channels, first.height, first.width)
    if real is not None and tuple(real.shape[1:]) != shape:
        raise BadInputError(
            f"images must be n x {' x '.join(map(str, shape))}, got shape {tuple(real.shape)}"
        )
    inputs: dict[str, Images] = {}
    if real is not None and len(real):
        stored = real[: _real_images(shape)].numpy()
        inputs["real"] = as_taken(stored, inside)
    inputs |= (
        _made_up(shape, seed)
        if inside is None
        else _made_up_pixels(inside.image_shape(shape), seed)
    )
    kinds = {
        name: _compared(subnet, session, name, images, inside, is_exact)
        for name, images in inputs.items()
    }
    same = 0
    if "real" in kinds:
        theirs = answers(session, kinds["real"].images).argmax(1)
        same = int((theirs == kinds["real"].logits.argmax(1)).sum())
    return Samples(measure="largest" if is_exact else "rms", kinds=kinds, same_class=same)


def difference(measure: str, ours: Logits, theirs: Logits) -> float:
    """How far logits are from torch's.

    Args:
        measure: "largest" or "rms", see above.
        ours: Of the file; infinitely far where one is no number.
        theirs: Torch's.
    """
    if not np.isfinite(ours).all():
        return float("inf")
    apart = ours.astype(np.float64) - theirs
    if measure == "largest":
        return float(np.abs(apart).max() / max(float(np.abs(theirs).max()), 1e-30))
    return float(np.sqrt(np.mean(apart**2)) / max(float(theirs.std()), 1e-30))


def _real_images(shape: tuple[int, ...]) -> int:
    return max(LEAST_REAL_IMAGES, min(REAL_IMAGES, LARGEST_BYTES // (4 * int(np.prod(shape)))))


def _made_up(shape: tuple[int, ...], seed: int) -> dict[str, Images]:
    rng = generator(seed, "bundle samples")
    random = rng.standard_normal((RANDOM_IMAGES, *shape)).astype(np.float32)
    return {"random": random, "zeros": np.zeros((1, *shape), np.float32), "extreme": 10 * random}


def _made_up_pixels(shape: tuple[int, ...], seed: int) -> dict[str, Images]:
    """Pixels, channels last: any, all black, and every value at either end of the range."""
    rng = generator(seed, "bundle samples")
    size = (RANDOM_IMAGES, *shape)
    return {
        "random": rng.integers(0, 256, size, dtype=np.uint8),
        "zeros": np.zeros((1, *shape), np.uint8),
        "extreme": (255 * rng.integers(0, 2, size)).astype(np.uint8),
    }


def _compared(
    subnet: Subnet,
    session: ort.InferenceSession,
    name: str,
    images: Images,
    inside: Preprocessing | None,
    is_exact: bool,
) -> Kind:
    taken = images if inside is None else inside.normalised(images)
    theirs = torch_answers(subnet, torch.from_numpy(np.asarray(taken, np.float32)))
    found = difference("largest" if is_exact else "rms", answers(session, images), theirs)
    largest = LARGEST_TOLERANCE if is_exact else LARGEST_ERROR
    must_hold = name in ("real", "random") if is_exact else name == "real"
    if not np.isfinite(found) or (must_hold and found > largest):
        raise VerificationError(
            f"on {TITLES[name]} the file's logits differ from torch's by {found:.2g}, more than "
            f"{largest:g}, {'relative to the largest' if is_exact else 'of their deviation'}"
        )
    allowed = max(OTHER_MACHINE, 10 * found) if is_exact else 1.5 * found + 0.02
    is_judged = found <= largest
    return Kind(
        images=images,
        logits=theirs,
        difference=found,
        tolerance=allowed if is_judged else None,
        note=""
        if is_judged
        else (
            "rounding alone explains as much"
            if is_exact
            else "beyond what the file's numbers hold; nothing was calibrated for such inputs"
        ),
    )
