"""Search spaces by name, sized for a dataset: what the command line offers.

Sizes follow from the images' side. A demonstration is sized by its step time: small images keep
their resolution, larger ones are reduced by the stem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from experiments.baselines import ScaledResNet
from records import BadInputError, unknown_name
from search_spaces import (
    CNNSpace,
    ConvStage,
    HybridSpace,
    HybridStage,
    SearchSpace,
    ViTSpace,
)


class ImageFacts(Protocol):
    """What a space must know of images; an `ImageData` knows it."""

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""

    @property
    def channels(self) -> int:
        """Channels of the images."""

    @property
    def num_classes(self) -> int:
        """Classes to tell apart."""


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """What a space must know of images, where there are none."""

    image_size: int = 32
    channels: int = 3
    num_classes: int = 10


def make_space(name: str, data: ImageFacts) -> SearchSpace:
    """The space of that name for the dataset's image size, channels and classes.

    Raises:
        UnknownNameError: No such space; lists those there are.
        BadInputError: Images too small for it.
    """
    if name not in _SPACES:
        raise unknown_name("search space", name, _SPACES)
    if data.image_size < 8:
        raise BadInputError(
            f"the spaces by name need images of at least 8 x 8 pixels, got {data.image_size}; "
            "load the dataset with a larger image_size, or define a space of your own"
        )
    return _SPACES[name](data)


def baseline_space(data: ImageFacts) -> ScaledResNet:
    """The baseline's space for a dataset."""
    return ScaledResNet(
        image_size=data.image_size,
        channels=data.channels,
        num_classes=data.num_classes,
        stem_stride=_stem_stride(data),
    )


def _stem_stride(data: ImageFacts) -> int:
    return 1 if data.image_size <= 16 else 2


def _cnn(data: ImageFacts) -> SearchSpace:
    stages: tuple[ConvStage, ...] = (
        ConvStage(widths=(16, 24, 32), depths=(1, 2), stride=1),
        ConvStage(widths=(24, 32, 48), depths=(1, 2, 3), stride=2),
    )
    if data.image_size > 16:
        stages = (*stages, ConvStage(widths=(48, 64, 96), depths=(1, 2, 3), stride=2))
    return CNNSpace(
        image_size=data.image_size,
        channels=data.channels,
        num_classes=data.num_classes,
        stem_stride=_stem_stride(data),
        stages=stages,
    )


def _vit(data: ImageFacts) -> SearchSpace:
    patches = tuple(p for p in _patch_sizes(data.image_size) if data.image_size % p == 0)
    if not patches:
        raise BadInputError(
            f"no patch size ({', '.join(map(str, _patch_sizes(data.image_size)))}) divides images "
            f"of {data.image_size} pixels; load the dataset with an image_size that one of them "
            "divides"
        )
    return ViTSpace(
        image_size=data.image_size,
        channels=data.channels,
        num_classes=data.num_classes,
        patch_sizes=patches,
        embed_dims=(32, 48, 64) if data.image_size <= 16 else (48, 64, 96),
        depths=(1, 2, 3, 4),
        heads=(1, 2, 3),
    )


def _patch_sizes(image_size: int) -> tuple[int, ...]:
    if image_size <= 16:
        return (2, 4)
    return (4, 7, 8) if image_size <= 32 else (8, 16)


def _hybrid(data: ImageFacts) -> SearchSpace:
    stages: tuple[HybridStage, ...] = (
        HybridStage(
            widths=(16, 24, 32), depths=(0, 1, 2), stride=1 if data.image_size < 12 else 2
        ),
        HybridStage(widths=(32, 48, 64), depths=(0, 1, 2, 3), stride=2),
    )
    if data.image_size > 16:
        stages = (*stages, HybridStage(widths=(64, 96, 128), depths=(0, 1, 2), stride=2))
    return HybridSpace(
        image_size=data.image_size,
        channels=data.channels,
        num_classes=data.num_classes,
        stem_stride=_stem_stride(data),
        stages=stages,
    )


_SPACES: dict[str, Callable[[ImageFacts], SearchSpace]] = {
    "cnn": _cnn,
    "vit": _vit,
    "hybrid": _hybrid,
}

SPACES = tuple(_SPACES)
"""The names that `make_space` knows."""
