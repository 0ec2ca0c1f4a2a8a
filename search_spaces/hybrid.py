"""`HybridSpace`: stages that choose between convolution and attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from records import BadInputError, unknown_name
from search_spaces.blocks import (
    at_resolution,
    classifier,
    conv_norm_act,
    mbconv,
    residual_slot,
    transformer,
)
from search_spaces.expression import is_equal
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace

BLOCKS = ("conv", "attention")


@dataclass(frozen=True, kw_only=True)
class HybridStage:
    """A stage of a `HybridSpace`: a convolution that sets width and size, then a chain of blocks.

    Attributes:
        depths: Numbers of blocks to choose from; 0 is allowed.
        widths: Numbers of channels to choose from.
        blocks: What the stage's blocks may be: `conv` (MBConv), `attention` (transformer), or
            both.
        kernels: Odd kernel sizes of convolutional blocks, chosen per block.
        expansions: Ratios of hidden to input channels of convolutional blocks, chosen per block.
        heads: Heads of attention blocks, chosen per block.
        mlp_ratios: Ratios of hidden to input width of attention blocks, chosen per block.
        stride: Stride of the convolution at the start.
    """

    depths: tuple[int, ...] = (0, 1, 2)
    widths: tuple[int, ...] = (16, 32)
    blocks: tuple[str, ...] = BLOCKS
    kernels: tuple[int, ...] = (3, 5)
    expansions: tuple[float, ...] = (1, 2, 3)
    heads: tuple[int, ...] = (1, 2, 3)
    mlp_ratios: tuple[float, ...] = (1, 2, 3)
    stride: int = 2

    def __post_init__(self) -> None:
        if min(self.depths, default=0) < 0:
            raise BadInputError(f"a stage has 0 or more blocks, got depths {self.depths}")
        for block in self.blocks:
            if block not in BLOCKS:
                raise unknown_name("block", block, BLOCKS)
        if any(k % 2 == 0 for k in self.kernels):
            raise BadInputError(f"kernels must be odd, got {self.kernels}")


@dataclass(frozen=True, kw_only=True)
class HybridSpace(SearchSpace):
    """Networks whose stages are convolutional or attentional, by choice.

    In the line of NASViT (Gong et al., ICLR 2022) and EfficientFormer (Li et al., NeurIPS 2022,
    arXiv 2206.01191); there the order is fixed or one-way, here every stage chooses freely.

    Attributes:
        stem_widths: Channels of the first convolution.
        stem_stride: Stride of the first convolution; 1 suits images of 16 pixels and less.
        stages: The stages in order.
        head_dim: Width of an attention head.
        resolutions: Sides to which the images may be reduced inside the network; none for theirs.
        scaling: Of residual branches, see `blocks.residual_slot`.
    """

    Stage: ClassVar[type[HybridStage]] = HybridStage

    stem_widths: tuple[int, ...] = (8, 16)
    stem_stride: int = 2
    stages: tuple[HybridStage, ...] = (
        HybridStage(widths=(16, 24, 32)),
        HybridStage(widths=(32, 48, 64), depths=(0, 1, 2, 3)),
    )
    head_dim: int = 16
    resolutions: tuple[int, ...] = ()
    scaling: str = "none"

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        images = at_resolution(net, images, self.resolutions)
        with net.scope("stem"):
            width = net.choice("width", self.stem_widths)
            x = conv_norm_act(net, images, width, kernel=3, stride=self.stem_stride)
        for s, stage in enumerate(self.stages):
            with net.scope(f"stage{s}"):
                x = self._stage(net, x, stage)
        return classifier(net, x, self.num_classes)

    def _stage(self, net: NetworkBuilder, x: Tensor, stage: HybridStage) -> Tensor:
        width = net.choice("width", stage.widths)
        with net.scope("begin"):
            x = conv_norm_act(net, x, width, kernel=3, stride=stage.stride)
        depth = net.choice("depth", stage.depths)
        if max(stage.depths) == 0:
            return x
        sizes = ((width, stage.widths), (depth, stage.depths))
        slot = residual_slot(self.scaling, sizes)
        with net.when(depth > 0):
            block = net.choice("block", stage.blocks)
        for i in range(max(stage.depths)):
            with net.scope(f"layer{i}"), net.when(depth > i), net.when(is_equal(block, "conv")):
                x = mbconv(
                    net,
                    x,
                    width,
                    kernel=net.choice("kernel", stage.kernels),
                    expansion=net.choice("expansion", stage.expansions),
                    shortcut=True,
                    scale_slot=slot,
                )
        with net.when(depth > 0), net.when(is_equal(block, "attention")):
            x = net.position(net.to_tokens(x))
        for i in range(max(stage.depths)):
            with (
                net.scope(f"layer{i}"),
                net.when(depth > i),
                net.when(is_equal(block, "attention")),
            ):
                x = transformer(
                    net,
                    x,
                    heads=net.choice("heads", stage.heads),
                    head_dim=self.head_dim,
                    mlp_ratio=net.choice("mlp_ratio", stage.mlp_ratios),
                    scale_slot=slot,
                )
        with net.when(depth > 0), net.when(is_equal(block, "attention")):
            return net.to_map(x)
