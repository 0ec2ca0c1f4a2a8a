"""Hand-made networks, scaled by one factor: what a search has to beat at the same latency."""

from experiments.baselines.mobilenet import ScaledMobileNetV2, ScaledMobileNetV3Small
from experiments.baselines.named import HAND_MADE, REDUCTIONS, hand_made
from experiments.baselines.resnet import ScaledResNet
from experiments.baselines.scaled import MULTIPLIERS, Scaled, nearest_size, scaled_to
from experiments.baselines.vit import ScaledViT

__all__ = [
    "HAND_MADE",
    "MULTIPLIERS",
    "REDUCTIONS",
    "Scaled",
    "ScaledMobileNetV2",
    "ScaledMobileNetV3Small",
    "ScaledResNet",
    "ScaledViT",
    "hand_made",
    "nearest_size",
    "scaled_to",
]
