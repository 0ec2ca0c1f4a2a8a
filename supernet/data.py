"""Images with labels in three splits, as tensors: what training and evaluation take."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from records import BadInputError


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images and labels.

    Attributes:
        images: A float32 tensor `n x channels x height x width`.
        labels: An int64 tensor of length `n`.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) != len(self.labels):
            raise BadInputError(
                "a split needs n x channels x height x width images and n labels, got shapes "
                f"{tuple(self.images.shape)} and {tuple(self.labels.shape)}"
            )
        if self.labels.ndim != 1:
            raise BadInputError(f"labels must be of length n, got {tuple(self.labels.shape)}")
        if self.images.dtype != torch.float32 or self.labels.dtype != torch.int64:
            raise BadInputError(
                "a split needs float32 images and int64 labels, got "
                f"{self.images.dtype} and {self.labels.dtype}"
            )
        if len(self.labels) == 0:
            raise BadInputError("a split is empty; every split needs images")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """How pixels became tensors: a border, `(x - mean) / deviation`, and another size.

    Attributes:
        mean: Of each channel over the training images, white being 1.
        deviation: Of each channel, likewise.
        source_size: Height and width of the images before.
        border: Black rows above and below, and as many columns left and right.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    source_size: tuple[int, int]
    border: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageData:
    """A dataset in three splits.

    Weights, batch-norm statistics and quantisation ranges use `train`; a search sees `validation`
    only; `test` is read once, after selection.

    Attributes:
        name: How files and reports name it.
        flip: Whether a mirrored image is of the same class.
        class_names: The names of the classes, their number is the number of classes.
        normalisation: How the images became tensors, where they were loaded; None for tensors
            given as they are.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    flip: bool = False
    normalisation: Normalisation | None = None

    def __post_init__(self) -> None:
        shapes = {tuple(s.images.shape[1:]) for s in (self.train, self.validation, self.test)}
        if len(shapes) != 1:
            raise BadInputError(f"the splits of {self.name!r} differ in shape: {sorted(shapes)}")
        if self.num_classes < 2:
            raise BadInputError(
                f"dataset {self.name!r} has {self.num_classes} class; classification needs two"
            )
        present = len(torch.unique(self.train.labels))
        if present < 2:
            raise BadInputError(
                f"the training images of {self.name!r} are all of one class; there is nothing "
                "to learn"
            )
        for split in (self.train, self.validation, self.test):
            for label in (int(split.labels.min()), int(split.labels.max())):
                if not 0 <= label < self.num_classes:
                    raise BadInputError(
                        f"label {label} in {self.name!r}, but {self.num_classes} classes are "
                        f"named: labels are 0 to {self.num_classes - 1}"
                    )

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return int(self.train.images.shape[-1])
