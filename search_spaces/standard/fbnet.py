"""`FBNetSpace`: the layer-wise space of FBNet, 22 layers of nine kinds.

The first layer of each stage may halve the map and change the width; there the kind `skip` is a
1x1 convolution with batch normalisation and ReLU, elsewhere it is nothing at all. Kinds whose
name ends in `g2` split their 1x1 convolutions into two groups and shuffle the channels between.

The parameters of the CIFAR-100 variant equal the published ones, and FBNet-C has the 5,572,200
parameters of its reimplementations. The published "FLOPs" were counted with the package flopth:
they are our multiply-accumulates plus 2 for each value behind a batch normalisation, 1 for each
behind a ReLU (except a block's first, a module that runs twice and is counted once) and 1 for each
that the last pooling reads. That is 3 to 7 % more, with a rank correlation of 0.9996.

The kinds share weights as in Once-for-All: smaller kernels and widths are parts of the largest,
only the grouped convolutions are apart. The publication kept the weights of all nine apart.

References:
    Wu et al., FBNet, CVPR 2019, arXiv 1812.03443, table 1; strides for 32x32 images as in
    Li et al., HW-NAS-Bench, ICLR 2021, arXiv 2103.10584 (read in the copy of its network in
    abdelfattah-lab/nasflat_latency, `fbnet_zcp/fbnet_model_initializer.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from records import BadInputError
from search_spaces.blocks import classifier, conv_norm_act, residual
from search_spaces.expression import (
    Condition,
    Dim,
    Expression,
    either,
    is_equal,
    negate,
    same,
    where,
)
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace

BLOCKS = (
    "k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip",
)  # fmt: skip
"""The kinds of layer: depthwise kernel, expansion, groups; a gene is the position."""


@dataclass(frozen=True, kw_only=True)
class FBNetSpace(SearchSpace):
    """The space of FBNet, by default for ImageNet; `FBNetSpace.cifar100()` for small images.

    A row of genes holds the kinds of the searched layers, as positions in `BLOCKS`.

    Attributes:
        stem_width: Channels of the first convolution.
        stem_stride: Its stride.
        depths: Searched layers of each stage.
        widths: Channels of each stage.
        strides: Stride of the first layer of each stage.
        head_width: Channels of the last convolution.
    """

    image_size: int = 224
    num_classes: int = 1000
    stem_width: int = 16
    stem_stride: int = 2
    depths: tuple[int, ...] = (1, 4, 4, 4, 4, 4, 1)
    widths: tuple[int, ...] = (16, 24, 32, 64, 112, 184, 352)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    head_width: int = 1984

    @classmethod
    def cifar100(cls) -> FBNetSpace:
        """The variant of HW-NAS-Bench for 32x32 images and 100 classes."""
        return cls(
            image_size=32,
            num_classes=100,
            stem_stride=1,
            strides=(1, 1, 2, 2, 1, 2, 1),
            head_width=1504,
        )

    def __post_init__(self) -> None:
        stages = {len(self.depths), len(self.widths), len(self.strides)}
        if len(stages) != 1 or min(self.depths, default=0) < 1:
            raise BadInputError(
                "depths, widths and strides need one entry for each stage, depths of 1 or more; "
                f"got {self.depths}, {self.widths} and {self.strides}"
            )
        super().__post_init__()

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        with net.scope("stem"):
            x = conv_norm_act(net, images, self.stem_width, kernel=3, stride=self.stem_stride)
        stages = zip(self.depths, self.widths, self.strides, strict=True)
        for stage, (depth, width, stride) in enumerate(stages):
            for i in range(depth):
                with net.scope(f"stage{stage}.layer{i}"):
                    x = _layer(net, x, width, stride if i == 0 else 1)
        with net.scope("head"):
            x = conv_norm_act(net, x, self.head_width, kernel=1)
        return classifier(net, x, self.num_classes)


def _layer(net: NetworkBuilder, x: Tensor, channels: int, stride: int) -> Tensor:
    block = net.choice("block", BLOCKS)
    is_skipped = is_equal(block, "skip")
    keeps_shape = stride == 1 and same(x.channels, channels)
    with net.when(negate(is_skipped)):
        y = _bottleneck(net, x, channels, stride, block, shortcut=keeps_shape)
    if keeps_shape:
        return y
    with net.scope("shrink"), net.when(is_skipped):
        return conv_norm_act(net, y, channels, kernel=1, stride=stride)


def _bottleneck(
    net: NetworkBuilder,
    x: Tensor,
    channels: int,
    stride: int,
    block: Expression | str,
    *,
    shortcut: bool,
) -> Tensor:
    kernel = where(_is_any(block, [b for b in BLOCKS if b.startswith("k5")]), 5, 3)
    expansion = where(_is_any(block, [b for b in BLOCKS if "_e3" in b]), 3, 1)
    expansion = where(_is_any(block, [b for b in BLOCKS if "_e6" in b]), 6, expansion)
    grouped = _is_any(block, [b for b in BLOCKS if b.endswith("g2")])
    with net.scope("expand"):
        h = _pointwise(net, x, x.channels * expansion, grouped)
        h = net.activation(h, "relu")
        with net.when(grouped):
            h = net.channel_shuffle(h, 2)
    with net.scope("depthwise"):
        h = net.batch_norm(net.depthwise(h, kernel=kernel, stride=stride, name="conv"))
        h = net.activation(h, "relu")
    with net.scope("project"):
        h = _pointwise(net, h, channels, grouped)
    return residual(net, x, h, where=shortcut)


def _pointwise(net: NetworkBuilder, x: Tensor, channels: Dim, grouped: Condition) -> Tensor:
    """A 1x1 convolution with batch normalisation, in two groups where the condition holds."""
    with net.when(negate(grouped)):
        y = net.conv2d(x, channels, kernel=1)
    with net.when(grouped):
        y = net.conv2d(y, channels, kernel=1, groups=2, name="grouped_conv")
    return net.batch_norm(y)


def _is_any(block: Expression | str, names: list[str]) -> Condition:
    holds: Condition = False
    for name in names:
        holds = either(holds, is_equal(block, name))
    return holds
