"""MobileNetV2 and MobileNetV3-Small, row by row as published, for small images.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, arXiv
1801.04381, sec. 4 and table 2; Howard et al., Searching for MobileNetV3, ICCV 2019, arXiv
1905.02244, table 2.

Both are published for images of 224 pixels, which they reduce five times. For images of 32 pixels
the first two strides of 2, those of the stem and of the next stage that has one, are set to 1: all
stages and layers remain, and the last maps are 4x4 instead of 7x7. With `unit_strides=0` the
networks are the published ones.

Deviations: *all* widths take the factor, also that of the last convolution, which MobileNetV2
leaves alone for factors below 1; widths are rounded to the nearest multiple of 8. Table 2 of
MobileNetV3 marks squeeze-and-excitation at the last convolution of V3-Small; the authors' code has
none there, and the published 2.5 M parameters are those without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from experiments.baselines.scaled import Scaled
from records import BadInputError
from search_spaces import NetworkBuilder, Tensor
from search_spaces.blocks import classifier, conv_norm_act, mbconv
from search_spaces.expression import round_to

V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""The bottlenecks of MobileNetV2: expansion t, channels c, repeats n, stride s of the first."""

V3_SMALL_LAYERS = (
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hardswish", 2),
    (5, 240, 40, True, "hardswish", 1),
    (5, 240, 40, True, "hardswish", 1),
    (5, 120, 48, True, "hardswish", 1),
    (5, 144, 48, True, "hardswish", 1),
    (5, 288, 96, True, "hardswish", 2),
    (5, 576, 96, True, "hardswish", 1),
    (5, 576, 96, True, "hardswish", 1),
)
"""Those of V3-Small: kernel, hidden width, channels, whether squeezed, activation, stride."""


@dataclass(frozen=True, kw_only=True)
class _MobileNet(Scaled):
    """What both have in common.

    Attributes:
        unit_strides: How many of the five strides of 2, from the first, are set to 1.
    """

    unit_strides: int = 2

    def _strides(self, published: list[int]) -> Iterator[int]:
        """The strides of all layers with the first ones of 2 set to 1."""
        if not 0 <= self.unit_strides <= published.count(2):
            raise BadInputError(
                f"unit_strides must be 0 to {published.count(2)}, got {self.unit_strides}"
            )
        left = self.unit_strides
        for stride in published:
            if stride == 2 and left:
                left -= 1
                yield 1
            else:
                yield stride


@dataclass(frozen=True, kw_only=True)
class ScaledMobileNetV2(_MobileNet):
    """MobileNetV2: 17 inverted bottlenecks of seven stages between two convolutions.

    Attributes:
        activation: Published as ReLU6, which bounds values for low precision. ReLU does as well in
            fp32, and onnxruntime folds it into the convolution: 9 to 22 % less time.
    """

    activation: str = "relu6"

    @property
    def label(self) -> str:
        return "MobileNetV2"

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        factor = self.multiplier(net)
        rows = [(t, c, s if i == 0 else 1, i) for t, c, n, s in V2_STAGES for i in range(n)]
        strides = self._strides([2, *(stride for *_, stride, _ in rows)])
        with net.scope("stem"):
            x = conv_norm_act(net, images, round_to(factor * 32, 8), kernel=3,
                              stride=next(strides), activation=self.activation)  # fmt: skip
        for place, (expansion, channels, _, repeat) in enumerate(rows):
            with net.scope(f"block{place}"):
                x = mbconv(
                    net, x, round_to(factor * channels, 8), kernel=3, expansion=expansion,
                    stride=next(strides), shortcut=repeat > 0, activation=self.activation,
                    expand_by_one=False,
                )  # fmt: skip
        with net.scope("last"):
            x = conv_norm_act(
                net, x, round_to(factor * 1280, 8), kernel=1, activation=self.activation
            )
        return classifier(net, x, self.num_classes)


@dataclass(frozen=True, kw_only=True)
class ScaledMobileNetV3Small(_MobileNet):
    """MobileNetV3-Small: 11 inverted bottlenecks, most with squeeze-and-excitation and h-swish."""

    @property
    def label(self) -> str:
        return "MobileNetV3-Small"

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        factor = self.multiplier(net)
        strides = self._strides([2, *(stride for *_, stride in V3_SMALL_LAYERS)])
        before = 16
        with net.scope("stem"):
            x = conv_norm_act(net, images, round_to(factor * before, 8), kernel=3,
                              stride=next(strides), activation="hardswish")  # fmt: skip
        for place, (kernel, hidden, channels, se, activation, stride) in enumerate(
            V3_SMALL_LAYERS
        ):
            with net.scope(f"block{place}"):
                x = mbconv(
                    net, x, round_to(factor * channels, 8), kernel=kernel,
                    expansion=hidden / before, hidden=round_to(factor * hidden, 8),
                    stride=next(strides), shortcut=stride == 1 and channels == before,
                    activation=activation, se=se, expand_by_one=False,
                )  # fmt: skip
            before = channels
        with net.scope("last"):
            x = conv_norm_act(net, x, round_to(factor * 576, 8), kernel=1, activation="hardswish")
        with net.scope("head"):
            x = net.linear(net.global_pool(x), round_to(factor * 1024, 8), name="linear")
            x = net.activation(x, "hardswish")
        return net.linear(x, self.num_classes, name="classifier")
