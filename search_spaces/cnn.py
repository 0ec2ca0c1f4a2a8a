"""`CNNSpace`: stages of inverted bottlenecks with elastic depth, width, kernel and expansion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from records import BadInputError
from search_spaces.blocks import classifier, conv_norm_act, mbconv
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class ConvStage:
    """A stage of a `CNNSpace`.

    Attributes:
        depths: Numbers of blocks to choose from, each at least 1.
        widths: Numbers of channels to choose from.
        kernels: Odd kernel sizes of the depthwise convolution, chosen per block.
        expansions: Ratios of hidden to input channels, chosen per block.
        stride: Stride of the first block.
    """

    depths: tuple[int, ...] = (1, 2, 3)
    widths: tuple[int, ...] = (16, 24, 32)
    kernels: tuple[int, ...] = (3, 5)
    expansions: tuple[float, ...] = (2, 3, 4)
    stride: int = 1

    def __post_init__(self) -> None:
        if min(self.depths, default=0) < 1:
            raise BadInputError(f"a stage has at least one block, got depths {self.depths}")
        if any(k % 2 == 0 for k in self.kernels):
            raise BadInputError(f"kernels must be odd, got {self.kernels}")


@dataclass(frozen=True, kw_only=True)
class CNNSpace(SearchSpace):
    """Convolutional networks of MBConv blocks, as in Once-for-All (Cai et al., ICLR 2020).

    Attributes:
        stem_widths: Channels of the first convolution.
        stem_stride: Stride of the first convolution; 1 suits images of 16 pixels and less.
        stages: The stages in order.
    """

    Stage: ClassVar[type[ConvStage]] = ConvStage

    stem_widths: tuple[int, ...] = (8, 16)
    stem_stride: int = 2
    stages: tuple[ConvStage, ...] = (
        ConvStage(widths=(16, 24), stride=1),
        ConvStage(widths=(24, 32, 48), stride=2),
        ConvStage(widths=(48, 64, 96), stride=2),
    )

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        with net.scope("stem"):
            width = net.choice("width", self.stem_widths)
            x = conv_norm_act(net, images, width, kernel=3, stride=self.stem_stride)
        for s, stage in enumerate(self.stages):
            with net.scope(f"stage{s}"):
                depth = net.choice("depth", stage.depths)
                width = net.choice("width", stage.widths)
                for i in range(max(stage.depths)):
                    with net.scope(f"layer{i}"), net.when(depth > i):
                        x = mbconv(
                            net,
                            x,
                            width,
                            kernel=net.choice("kernel", stage.kernels),
                            expansion=net.choice("expansion", stage.expansions),
                            stride=stage.stride if i == 0 else 1,
                            shortcut=i > 0,
                        )
        return classifier(net, x, self.num_classes)
