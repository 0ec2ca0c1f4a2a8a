"""`CNNSpace`: stages of inverted bottlenecks with elastic depth, width, kernel and expansion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from records import BadInputError
from search_spaces.blocks import (
    at_resolution,
    classifier,
    conv_norm_act,
    mbconv,
    residual_slot,
)
from search_spaces.expression import is_equal
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
        se: Whether a block has squeeze-and-excitation, 0 or 1, chosen per block.
        activations: Names of activation functions, chosen per stage.
        stride: Stride of the first block.
    """

    depths: tuple[int, ...] = (1, 2, 3)
    widths: tuple[int, ...] = (16, 24, 32)
    kernels: tuple[int, ...] = (3, 5)
    expansions: tuple[float, ...] = (2, 3, 4)
    se: tuple[int, ...] = (0,)
    activations: tuple[str, ...] = ("relu",)
    stride: int = 1

    def __post_init__(self) -> None:
        if min(self.depths, default=0) < 1:
            raise BadInputError(f"a stage has at least one block, got depths {self.depths}")
        if any(k % 2 == 0 for k in self.kernels):
            raise BadInputError(f"kernels must be odd, got {self.kernels}")
        if not set(self.se) <= {0, 1}:
            raise BadInputError(f"se is 0, 1 or both to choose from, got {self.se}")


@dataclass(frozen=True, kw_only=True)
class CNNSpace(SearchSpace):
    """Convolutional networks of MBConv blocks, as in Once-for-All (Cai et al., ICLR 2020).

    Attributes:
        stem_widths: Channels of the first convolution.
        stem_stride: Stride of the first convolution; 1 suits images of 16 pixels and less.
        stages: The stages in order.
        resolutions: Sides to which the images may be reduced inside the network; none for theirs.
        scaling: Of residual branches, see `blocks.residual_slot`.
    """

    Stage: ClassVar[type[ConvStage]] = ConvStage

    stem_widths: tuple[int, ...] = (8, 16)
    stem_stride: int = 2
    stages: tuple[ConvStage, ...] = (
        ConvStage(widths=(16, 24), stride=1),
        ConvStage(widths=(24, 32, 48), stride=2),
        ConvStage(widths=(48, 64, 96), stride=2),
    )
    resolutions: tuple[int, ...] = ()
    scaling: str = "none"

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        images = at_resolution(net, images, self.resolutions)
        with net.scope("stem"):
            width = net.choice("width", self.stem_widths)
            x = conv_norm_act(net, images, width, kernel=3, stride=self.stem_stride)
        for s, stage in enumerate(self.stages):
            with net.scope(f"stage{s}"):
                depth = net.choice("depth", stage.depths)
                width = net.choice("width", stage.widths)
                activation = net.choice("activation", stage.activations)
                sizes = ((width, stage.widths), (depth, stage.depths))
                slot = residual_slot(self.scaling, sizes)
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
                            activation=activation,
                            se=is_equal(net.choice("se", stage.se), 1),
                            scale_slot=slot,
                        )
        return classifier(net, x, self.num_classes)
