"""What goes into a bundle's file and what comes out: pixels or tensors, one batch or any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deployment.emission.graph_writer import INPUT, OUTPUT
from deployment.emission.preprocessing import Preprocessing
from records import BadInputError
from supernet.data import Normalisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """How a file is to be fed and read.

    Attributes:
        class_names: What the logits stand for, in their order; empty where not known.
        normalisation: How the images that the network was trained on became tensors
            (`ImageData.normalisation`); None where it is not known.
        takes_pixels: Whether the file does that itself and takes bytes, `n x height x width x
            channels`.
        any_batch: Whether the file takes any number of images at once.

    Raises:
        BadInputError: Pixels are to be taken and the normalisation is not known.
    """

    class_names: tuple[str, ...] = ()
    normalisation: Normalisation | None = None
    takes_pixels: bool = False
    any_batch: bool = False

    def __post_init__(self) -> None:
        if self.takes_pixels and self.normalisation is None:
            raise BadInputError(
                "a file with its preprocessing inside needs to know how the images were "
                "normalised, and these were given as tensors: pass the normalisation, "
                "supernet.data.Normalisation(mean=..., deviation=..., source_size=...)"
            )

    def inside(self, shape: tuple[int, int, int]) -> Preprocessing | None:
        """The preprocessing that the file does; None where it takes tensors.

        The file takes images of the network's size, or without the border that was added to them;
        images of any other size are resized before, as the card says.

        Args:
            shape: Channels, height and width of the images that the network takes.
        """
        if not self.takes_pixels or self.normalisation is None:
            return None
        known = self.normalisation
        found = Preprocessing(
            mean=known.mean,
            std=known.deviation,
            border=known.border if shape[1:] == _size_after(known) else (0, 0),
        )
        found.check_fits(shape)
        return found

    def record(self, shape: tuple[int, int, int], batch_size: int) -> dict[str, Any]:
        """What `bundle.json` says of the input, JSON-ready.

        Args:
            shape: Channels, height and width of the images that the network takes.
            batch_size: Images a run, where it is fixed.
        """
        inside, known = self.inside(shape), self.normalisation
        images = shape if inside is None else inside.image_shape(shape)
        is_resized = known is not None and shape[1:] != _size_after(known)
        return {
            "name": INPUT,
            "shape": [None if self.any_batch else batch_size, *images],
            "type": "tensor(float)" if inside is None else "tensor(uint8)",
            "layout": "n x channels x height x width"
            if inside is None
            else "n x height x width x channels",
            "preprocessing": None if inside is None else inside.to_json(),
            "normalisation": None
            if known is None
            else {
                "mean": list(known.mean),
                "deviation": list(known.deviation),
                "border": list(known.border),
                "resized_to": list(shape[1:]) if is_resized else None,
            },
        }

    def output(self) -> dict[str, Any]:
        """What `bundle.json` says of the output, JSON-ready."""
        return {"name": OUTPUT, "classes": list(self.class_names) or None}


def as_taken(
    images: npt.NDArray[np.float32], inside: Preprocessing | None
) -> npt.NDArray[np.float32] | npt.NDArray[np.uint8]:
    """Tensors as a file takes them: as they are, or as pixels."""
    return images if inside is None else inside.denormalised(images)


def _size_after(known: Normalisation) -> tuple[int, int]:
    """The size of the images with their border, before any resizing."""
    height, width = known.source_size
    return height + sum(known.border), width + sum(known.border)
