"""From the images of a dataset as published to the three splits that training and search take.

Published divisions are kept. Where there is no search-validation split, it is cut from the
training images; where there is no test split either, the images are divided into 60 / 20 / 20 %.
Both are stratified by class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from experiments.dataset_files import Labelled
from records import BadInputError, CorruptFileError, generator
from supernet import ImageData, Split
from supernet.data import Normalisation

Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Published:
    """A dataset as its files have it.

    Attributes:
        name: How files and reports name it.
        stream: Names the random stream of its division.
        train: The training images, or all there are.
        validation: Those for the search, where published.
        test: Those for the last word, where published.
        class_names: The names of the classes.
        flip: Whether a mirrored image is of the same class.
        border: Black rows that were added above and below, and as many columns left and right.
    """

    name: str
    stream: str
    train: Labelled
    validation: Labelled | None = None
    test: Labelled | None = None
    class_names: tuple[str, ...]
    flip: bool = False
    border: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            labelled = getattr(self, part)
            if labelled is None:
                continue
            what = "training" if part == "train" else part
            if len(labelled.images) != len(labelled.labels):
                raise CorruptFileError(
                    f"{self.name} has {len(labelled.images)} {what} images, but "
                    f"{len(labelled.labels)} labels"
                )
            if len(labelled.images) == 0:
                raise BadInputError(f"dataset {self.name!r} has no {what} images")

    def padded(self, *, from_side: int, to_side: int) -> Published:
        """With a black border where images have the one side, to have the other; else as it is."""
        if self.train.images.shape[1:3] != (from_side, from_side):
            return self
        before = (to_side - from_side) // 2
        around = (before, to_side - from_side - before)
        return replace(
            self,
            train=_bordered(self.train, around),
            validation=self.validation and _bordered(self.validation, around),
            test=self.test and _bordered(self.test, around),
            border=around,
        )


def to_splits(
    published: Published, *, image_size: int | None, train_images: int | None, seed: int
) -> ImageData:
    """Divides, cuts down and resizes, and normalises by the training images alone.

    Args:
        published: The images.
        image_size: Side to which they are resized; None keeps theirs.
        train_images: Uses only that many training images, stratified by class.
        seed: Derives the divisions.

    Raises:
        BadInputError: More training images than there are, images that are not square.
    """
    train, validation, test = _divided(published, seed)
    if train_images is not None:
        n = len(train.labels)
        if not 2 <= train_images <= n:
            raise BadInputError(f"train_images must be 2 to {n}, got {train_images}")
        rng = generator(seed, published.name, "fewer")
        train = _rows(train, stratified(train.labels, train_images / n, rng)[1])
    if len(train.images) == 0:
        raise BadInputError(f"dataset {published.name!r} has no training images")
    height, width = train.images.shape[1:3]
    if image_size is None and height != width:
        raise BadInputError(
            f"the images of {published.name!r} are {height} x {width}, not square: give an "
            "image_size to resize them to"
        )
    mean, deviation = _statistics(train.images)
    splits = [
        Split(
            torch.cat([_normalised(part, mean, deviation, image_size) for part in _parts(images)]),
            torch.from_numpy(labels),
        )
        for images, labels in (train, validation, test)
    ]
    return ImageData(
        name=published.name,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        class_names=published.class_names,
        flip=published.flip,
        normalisation=Normalisation(
            mean=tuple(mean.tolist()),
            deviation=tuple(deviation.tolist()),
            source_size=(height - sum(published.border), width - sum(published.border)),
            border=published.border,
        ),
    )


def _divided(published: Published, seed: int) -> tuple[Labelled, Labelled, Labelled]:
    train, validation, test = published.train, published.validation, published.test
    rng = generator(seed, published.stream)
    share = 0.1  # of published training images
    if test is None:
        rest, cut = stratified(train.labels, 0.2, rng)
        train, test = _rows(train, rest), _rows(train, cut)
        share = 0.25
    if validation is None:
        rest, cut = stratified(train.labels, share, rng)
        train, validation = _rows(train, rest), _rows(train, cut)
    return train, validation, test


def _statistics(images: Pixels) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and deviation of each channel, white being 1; exact, from the counts of each level."""
    levels = np.arange(256) / 255
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for part in _parts(images):
        for channel in range(images.shape[-1]):
            counts[channel] += np.bincount(part[..., channel].ravel(), minlength=256)
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]) ** 2).sum(1)
    return mean, np.maximum(np.sqrt(variance), 1e-3)


def _normalised(
    images: Pixels,
    mean: npt.NDArray[np.float64],
    deviation: npt.NDArray[np.float64],
    image_size: int | None,
) -> torch.Tensor:
    tensor = torch.from_numpy(((images / 255 - mean) / deviation).astype(np.float32))
    tensor = tensor.permute(0, 3, 1, 2).contiguous()
    if image_size is None or tuple(tensor.shape[-2:]) == (image_size, image_size):
        return tensor
    return F.interpolate(tensor, size=(image_size, image_size), mode="bilinear", antialias=True)


def _parts(images: Pixels) -> Iterator[Pixels]:
    """A thousand images at a time: the numbers on the way take eight times their space."""
    for start in range(0, len(images), 1024):
        yield images[start : start + 1024]


def _bordered(labelled: Labelled, around: tuple[int, int]) -> Labelled:
    images = np.pad(labelled.images, ((0, 0), around, around, (0, 0)))
    return Labelled(images, labelled.labels)


def _rows(labelled: Labelled, rows: npt.NDArray[np.intp]) -> Labelled:
    return Labelled(labelled.images[rows], labelled.labels[rows])


def stratified(
    labels: npt.NDArray[np.int64], share: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Divides rows into (rest, cut) with the same share of every class in `cut`, at least one."""
    cut: list[npt.NDArray[np.intp]] = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cut.append(rows[: max(1, round(share * len(rows)))])
    chosen = rng.permutation(np.concatenate(cut))
    rest = rng.permutation(np.setdiff1d(np.arange(len(labels)), chosen))
    return rest, chosen
