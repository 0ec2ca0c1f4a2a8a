"""What is done to images before a network sees them, as a part of its file.

A camera gives bytes, `height x width x channels`. A file with its preprocessing inside takes these
and computes what the dataset's loader computed when the network was trained: a black border,
pixels over 255, minus the mean, over the standard deviation, and another size if need be. Whoever
deploys it cannot get that wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from onnx import ModelProto, TensorProto

from records import BadInputError, unknown_name
from supernet.functions import resize_matrix

Shape: TypeAlias = tuple[int, int, int]

LAYOUTS = ("hwc", "chw")
"""Channels last, as files and cameras have them, or first, as networks do."""

DTYPES = ("uint8", "float32")
"""Bytes, white being 255, or numbers, white being 1."""

METADATA = "preprocessing"
"""The entry of a file's metadata that holds it."""

_ELEMENT_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


class Normalised(Protocol):
    """How the images of a dataset became tensors; an `ImageData` knows it if it was loaded."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel, white being 1."""

    @property
    def deviation(self) -> tuple[float, ...]:
        """Of each channel."""

    @property
    def source_size(self) -> tuple[int, int]:
        """Height and width of the images before."""

    @property
    def border(self) -> tuple[int, int]:
        """Black rows above and below, and as many columns left and right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What a file does to the images that it is given.

    In this order: a border, `(x / white - mean) / std`, and the size that the network takes.

    >>> Preprocessing(mean=(0.5,), std=(0.25,)).normalised(np.full((1, 2, 2, 1), 255, np.uint8))
    array([[[[2., 2.],
             [2., 2.]]]], dtype=float32)

    Attributes:
        mean: Of each channel, white being 1.
        std: Standard deviation of each channel.
        layout: One of `LAYOUTS`.
        dtype: One of `DTYPES`.
        size: Height and width of the images given where they are not the network's; they are
            resized as datasets are, bilinear and antialiased. None for the network's own.
        border: Black rows above and below, and as many columns left and right.

    Raises:
        UnknownNameError: A layout or a type that does not exist.
        BadInputError: Means and deviations that are not as many, deviations that are not
            positive, sizes below 1, a negative border.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: str = "hwc"
    dtype: str = "uint8"
    size: tuple[int, int] | None = None
    border: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for name, allowed in (("layout", LAYOUTS), ("dtype", DTYPES)):
            if getattr(self, name) not in allowed:
                raise unknown_name(f"{name} of images", getattr(self, name), allowed)
        if not self.mean or len(self.mean) != len(self.std):
            raise BadInputError(
                "a mean and a standard deviation for each channel are needed, got "
                f"{len(self.mean)} and {len(self.std)}"
            )
        if not all(np.isfinite(self.mean)) or not all(0 < std < np.inf for std in self.std):
            raise BadInputError(
                f"means must be finite and deviations positive, got {self.mean} and {self.std}"
            )
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise BadInputError(f"size must be a height and a width >= 1, got {self.size}")
        if len(self.border) != 2 or min(self.border) < 0:
            raise BadInputError(f"border must be two widths >= 0, got {self.border}")

    @staticmethod
    def of(normalised: Normalised | None, layout: str = "hwc", dtype: str = "uint8"
           ) -> Preprocessing:  # fmt: skip
        """What the loader of a dataset did (`ImageData.normalisation`).

        Args:
            normalised: How the images became tensors.
            layout: One of `LAYOUTS`.
            dtype: One of `DTYPES`.

        Raises:
            BadInputError: None: the images were given as tensors.
        """
        if normalised is None:
            raise BadInputError(
                "it is not known how these images were normalised; state "
                "Preprocessing(mean=..., std=...)"
            )
        return Preprocessing(
            mean=normalised.mean,
            std=normalised.deviation,
            layout=layout,
            dtype=dtype,
            size=normalised.source_size,
            border=normalised.border,
        )

    @property
    def white(self) -> float:
        """The brightest value of a pixel."""
        return 255.0 if self.dtype == "uint8" else 1.0

    @property
    def element_type(self) -> int:
        """The type of the file's input, of `onnx.TensorProto`."""
        return int(_ELEMENT_TYPES[self.dtype])

    def image_shape(self, network: Shape) -> Shape:
        """The shape of one image for the file, given `channels, height, width` of the network."""
        height, width = self.source_size(network)
        channels = len(self.mean)
        return (height, width, channels) if self.layout == "hwc" else (channels, height, width)

    def source_size(self, network: Shape) -> tuple[int, int]:
        """Height and width of the images given, without the border."""
        if self.size is not None:
            return self.size
        return (network[1] - sum(self.border), network[2] - sum(self.border))

    def check_fits(self, network: Shape) -> None:
        """Raises BadInputError where the network takes other channels, or smaller images."""
        channels, height, width = network
        if len(self.mean) != channels:
            raise BadInputError(
                f"the network takes images of {channels} channels, the preprocessing states "
                f"means of {len(self.mean)}"
            )
        if min(self.source_size(network)) < 1:
            raise BadInputError(
                f"a border of {self.border} leaves nothing of images of {height} x {width}"
            )

    def check_keeps_size(self, network: Shape) -> None:
        """Raises BadInputError where images are resized, which cannot be undone."""
        height, width = (side + sum(self.border) for side in self.source_size(network))
        if (height, width) != network[1:]:
            raise BadInputError(
                f"images of {height} x {width} are resized inside the file to {network[1]} x "
                f"{network[2]}, so the network's images do not tell what the file is to be given: "
                "resize them before, and leave size out"
            )

    def normalised(
        self, images: npt.NDArray[Any], to: tuple[int, int] | None = None
    ) -> npt.NDArray[np.float32]:
        """The same by numpy, `n x channels x height x width`: what the network is to see.

        Args:
            images: As the file takes them, `n` of them.
            to: The network's height and width; None for no change of size.
        """
        return self.normalised_in_double(images, to).astype(np.float32)

    def normalised_in_double(
        self, images: npt.NDArray[Any], to: tuple[int, int] | None = None
    ) -> npt.NDArray[np.float64]:
        """As `normalised`, without rounding to single precision."""
        pixels = images if self.layout == "hwc" else images.transpose(0, 2, 3, 1)
        pixels = np.pad(pixels, ((0, 0), self.border, self.border, (0, 0)))
        values = (pixels / self.white - np.array(self.mean)) / np.array(self.std)
        x = np.ascontiguousarray(values.astype(np.float64).transpose(0, 3, 1, 2))
        if to is None or x.shape[2:] == tuple(to):
            return x
        sides = zip(x.shape[2:], to, strict=True)
        rows, columns = (resize_matrix(a, b).double() for a, b in sides)
        resized: npt.NDArray[np.float64] = (rows @ torch.from_numpy(x) @ columns.T).numpy()
        return resized

    def denormalised(self, images: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """The way back: what the file is to be given for images as the network sees them.

        Bytes are rounded, and what is outside their range is cut off; the border is taken away.

        Args:
            images: `n x channels x height x width`.

        Raises:
            BadInputError: Images of other channels, or images that the file resizes.
        """
        network = (images.shape[1], images.shape[2], images.shape[3])
        self.check_fits(network)
        self.check_keeps_size(network)
        mean, std = (np.array(v, np.float64)[:, None, None] for v in (self.mean, self.std))
        values = self.white * (images * std + mean)
        before, after = self.border
        values = values[:, :, before : network[1] - after, before : network[2] - after]
        if self.dtype == "uint8":
            given = np.clip(np.rint(values), 0, self.white).astype(np.uint8)
        else:
            given = values.astype(np.float32)
        return np.ascontiguousarray(given.transpose(0, 2, 3, 1) if self.layout == "hwc" else given)

    def to_json(self) -> dict[str, Any]:
        """Everything by name."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Preprocessing:
        """What `to_json` gave.

        Raises:
            BadInputError: Other fields, or values that cannot be.
        """
        if not isinstance(value, Mapping):
            raise BadInputError(f"this is no preprocessing: {value!r}")
        fields: dict[str, Any] = {
            name: tuple(entry) if isinstance(entry, list) else entry
            for name, entry in value.items()
        }
        try:
            return Preprocessing(**fields)
        except TypeError as error:
            raise BadInputError(f"this is no preprocessing: {error}") from error

    def to_text(self) -> str:
        """As the metadata of a file hold it."""
        return json.dumps(self.to_json(), sort_keys=True)


def preprocessing_of(model: ModelProto) -> Preprocessing | None:
    """What a file does to its images; None where it takes them normalised.

    Raises:
        BadInputError: Metadata that state something else.
    """
    for entry in model.metadata_props:
        if entry.key == METADATA:
            try:
                value = json.loads(entry.value)
            except ValueError as error:
                raise BadInputError(f"the file's preprocessing is unreadable: {error}") from error
            return Preprocessing.from_json(value)
    return None
