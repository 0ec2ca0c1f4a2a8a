"""Hand-made networks by name, sized for a dataset of small images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from experiments.baselines.mobilenet import ScaledMobileNetV2, ScaledMobileNetV3Small
from experiments.baselines.resnet import ScaledResNet
from experiments.baselines.scaled import Scaled
from experiments.baselines.vit import ScaledViT
from records import BadInputError, unknown_name
from supernet import ImageData

REDUCTIONS = (1, 2)


def hand_made(
    name: str,
    data: ImageData,
    *,
    reduction: int = 1,
    multipliers: tuple[float, ...] | None = None,
) -> Scaled:
    """The hand-made network of that name for the dataset's image size, channels and classes.

    MobileNetV2 gets ReLU instead of ReLU6, with which it is faster.

    Args:
        name: See `HAND_MADE`.
        data: The dataset.
        reduction: 1 for maps of the usual size for images of 32 pixels; 2 for half of that from
            the start: a stem of stride 2, patches of 8 pixels. Faster, and wider at equal latency.
        multipliers: The factors to choose from, if not those of the network.

    Raises:
        UnknownNameError: No such network; lists those there are.
        BadInputError: Another reduction, or images that it does not fit.
    """
    if name not in _NETWORKS:
        raise unknown_name("hand-made network", name, HAND_MADE)
    if reduction not in REDUCTIONS:
        raise BadInputError(f"reduction must be one of {REDUCTIONS}, got {reduction}")
    options: dict[str, Any] = {} if multipliers is None else {"multipliers": multipliers}
    return _NETWORKS[name](
        reduction,
        {
            "image_size": data.image_size,
            "channels": data.channels,
            "num_classes": data.num_classes,
            **options,
        },
    )


_NETWORKS: dict[str, Callable[[int, dict[str, Any]], Scaled]] = {
    "resnet-8": lambda reduction, sizes: ScaledResNet(blocks=1, stem_stride=reduction, **sizes),
    "resnet-14": lambda reduction, sizes: ScaledResNet(blocks=2, stem_stride=reduction, **sizes),
    "mobilenet-v2": lambda reduction, sizes: ScaledMobileNetV2(
        unit_strides=3 - reduction, activation="relu", **sizes
    ),
    "mobilenet-v3-small": lambda reduction, sizes: ScaledMobileNetV3Small(
        unit_strides=3 - reduction, **sizes
    ),
    "vit-tiny": lambda reduction, sizes: ScaledViT(patch_size=4 * reduction, **sizes),
}

HAND_MADE = tuple(_NETWORKS)
"""The names that `hand_made` knows."""
