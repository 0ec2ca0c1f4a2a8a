"""`EfficientFormerSpace`: convolutional blocks first, attention blocks behind them.

Li et al., EfficientFormer: Vision Transformers at MobileNet Speed, NeurIPS 2022, arXiv
2206.01191. There are four stages. In the early ones every position is a block on feature maps
(MB4D) or nothing; in the late ones it may also be an attention block on tokens (MB3D), and behind
an MB3D only MB3Ds follow: once tokens, always tokens. What can be told apart is therefore the
number of MB4Ds and of MB3Ds of each stage, and those are the choices; a stage behind one with
MB3Ds has no MB4Ds.

Blocks and the networks L1, L3, L7 were read in the authors' repository (snap-research/
EfficientFormer, `models/efficientformer.py`), which ships no supernet; the paper gives the kinds
of blocks of a stage and that widths are multiples of 16, and the ranges here are chosen around the
three networks. Weights are shared as everywhere in this package: the first blocks run, and MB4Ds
and MB3Ds share nothing.

Deviations:

- the pooling mixer adds `scale * pool(x)` to `x`, the original `scale * (pool(x) - x)`: they
  differ by a factor at `x` that starts at 1 - 1e-5;
- learned scales start at 1e-4 instead of 1e-5;
- convolutions in front of a normalisation have no bias, and attention no table of biases;
- one classifier: at deployment the original averages two, which are one linear map.

The mixer `conv`, a depthwise convolution in place of the pool, is in the line of EfficientFormerV2
(Li et al., ICCV 2023, arXiv 2212.08059, as recalled); it is not offered by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

from records import BadInputError, unknown_name
from search_spaces.architecture import Architecture
from search_spaces.blocks import classifier, conv_norm_act, residual, transformer
from search_spaces.expression import Condition, Dim, either, is_equal, negate, round_to
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace
from search_spaces.standard.named import architecture_from

MIXERS: Final = ("pool", "conv")


@dataclass(frozen=True, kw_only=True)
class MetaStage:
    """A stage: a number of blocks on maps, then a number of blocks on tokens.

    Attributes:
        widths: Numbers of channels to choose from.
        maps: Numbers of blocks on feature maps (MB4D) to choose from.
        tokens: Numbers of attention blocks behind them (MB3D) to choose from.
    """

    widths: tuple[int, ...]
    maps: tuple[int, ...]
    tokens: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for name in ("maps", "tokens"):
            if min(getattr(self, name), default=0) < 0:
                raise BadInputError(f"{name} are 0 or more blocks, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class EfficientFormerSpace(SearchSpace):
    """MetaBlocks on maps and on tokens in four stages.

    Attributes:
        stages: The stages in order; between two stands a strided convolution.
        stem_stride: Stride of the two convolutions in front together: 4, 2 or 1.
        mixers: How blocks on maps mix positions, chosen per block: `pool` or `conv`.
        mlp_ratios: Ratios of hidden to input width, chosen per block.
        heads: Attention heads of blocks on tokens.
        qk_dim: Width of queries and keys of a head.
        v_dim: Width of the values of a head.
    """

    Stage: ClassVar[type[MetaStage]] = MetaStage

    image_size: int = 224
    num_classes: int = 1000
    stages: tuple[MetaStage, ...] = (
        MetaStage(widths=(32, 48, 64, 80, 96), maps=(1, 2, 3, 4, 5, 6)),
        MetaStage(widths=(64, 96, 128, 160, 192), maps=(1, 2, 3, 4, 5, 6)),
        MetaStage(widths=(144, 176, 224, 256, 320, 384), maps=(2, 4, 6, 8, 10, 12, 14, 16, 18),
                  tokens=(0, 1, 2, 3, 4)),
        MetaStage(widths=(288, 384, 448, 512, 640, 768), maps=(0, 1, 2, 3, 4),
                  tokens=(0, 1, 2, 3, 4, 5, 6, 7, 8)),
    )  # fmt: skip
    stem_stride: int = 4
    mixers: tuple[str, ...] = ("pool",)
    mlp_ratios: tuple[float, ...] = (4,)
    heads: int = 8
    qk_dim: int = 32
    v_dim: int = 128

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        for mixer in self.mixers:
            if mixer not in MIXERS:
                raise unknown_name("mixer", mixer, MIXERS)
        if self.stem_stride not in (1, 2, 4):
            raise BadInputError(f"stem_stride must be 1, 2 or 4, got {self.stem_stride}")
        x = images
        as_tokens: Condition = False
        attended: Condition = False
        for s, stage in enumerate(self.stages):
            with net.scope(f"stage{s}"):
                width = net.choice("width", stage.widths)
                x = self._begin(net, x, width, as_tokens) if s else self._stem(net, x, width)
                x, as_tokens = self._stage(net, x, stage, attended)
                attended = either(attended, as_tokens)
        with net.scope("head"), net.when(negate(as_tokens)):
            x = net.to_tokens(x)
        return classifier(net, net.layer_norm(x), self.num_classes)

    def _stem(self, net: NetworkBuilder, images: Tensor, width: Dim) -> Tensor:
        with net.scope("stem0"):
            stride = 1 if self.stem_stride == 1 else 2
            x = conv_norm_act(net, images, width // 2, kernel=3, stride=stride)
        with net.scope("stem1"):
            stride = 2 if self.stem_stride == 4 else 1
            return conv_norm_act(net, x, width, kernel=3, stride=stride)

    def _begin(self, net: NetworkBuilder, x: Tensor, width: Dim, as_tokens: Condition) -> Tensor:
        with net.scope("begin"):
            with net.when(as_tokens):
                x = net.to_map(x)
            return conv_norm_act(net, x, width, kernel=3, stride=2, activation=None)

    def _stage(
        self, net: NetworkBuilder, x: Tensor, stage: MetaStage, attended: Condition
    ) -> tuple[Tensor, Condition]:
        """The stage's blocks, and whether they end with tokens."""
        with net.when(negate(attended)):
            maps = net.choice("maps", stage.maps)
            for i in range(max(stage.maps)):
                with net.scope(f"map{i}"), net.when(maps > i):
                    x = self._map_block(net, x)
        tokens = net.choice("tokens", stage.tokens)
        ends: Condition = tokens > 0
        with net.when(ends):
            x = net.to_tokens(x)
        for i in range(max(stage.tokens)):
            with net.scope(f"token{i}"), net.when(tokens > i):
                x = transformer(
                    net, x, heads=self.heads, head_dim=self.qk_dim, v_dim=self.v_dim,
                    mlp_ratio=net.choice("mlp_ratio", self.mlp_ratios), scale_slot=0,
                )  # fmt: skip
        return x, ends

    def _map_block(self, net: NetworkBuilder, x: Tensor) -> Tensor:
        """MB4D: a mixer of positions and an MLP of 1x1 convolutions, each with a shortcut."""
        mixer = net.choice("mixer", self.mixers)
        width = x.channels
        h = x
        with net.scope("mixer"):
            with net.when(is_equal(mixer, "pool")):
                h = net.avg_pool(h, kernel=3, padding=1)
            with net.when(is_equal(mixer, "conv")):
                h = net.batch_norm(net.depthwise(h, kernel=3))
            x = residual(net, x, h, scale_slot=0)
        ratio = net.choice("mlp_ratio", self.mlp_ratios)
        with net.scope("expand"):
            h = conv_norm_act(net, x, round_to(width * ratio, 8), kernel=1, activation="gelu")
        with net.scope("project"):
            h = conv_norm_act(net, h, width, kernel=1, activation=None)
            return residual(net, x, h, scale_slot=0)

    def published(self, name: str) -> Architecture:
        """A published network as an architecture of this space.

        Raises:
            BadInputError: There is no such network, or it does not lie in this space.
        """
        if name not in PUBLISHED:
            raise unknown_name("EfficientFormer", name, PUBLISHED)
        return architecture_from(self, PUBLISHED[name].choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedEfficientFormer:
    """A published network of four stages, attention in the last alone.

    Attributes:
        widths: Of the stages.
        maps: Blocks on feature maps, of the stages.
        tokens: Attention blocks of the last stage.
        parameters: As published, two classifiers and tables of attention biases included.
        macs: As published, for 224 pixels.
    """

    widths: tuple[int, ...]
    maps: tuple[int, ...]
    tokens: int
    parameters: float
    macs: float

    @property
    def choices(self) -> dict[str, int]:
        """The values of the space's choices."""
        values: dict[str, int] = {}
        for s, (width, maps) in enumerate(zip(self.widths, self.maps, strict=True)):
            tokens = self.tokens if s == len(self.maps) - 1 else 0
            values |= {f"stage{s}.width": width, f"stage{s}.maps": maps}
            values[f"stage{s}.tokens"] = tokens
        return values

    def left_out_parameters(self, num_classes: int = 1000) -> int:
        """Parameters of the original that the space lacks.

        Biases of the convolutions, one table of 49 biases for each of 8 heads of an attention
        block (7 x 7 positions have 49 distances), and the second classifier.
        """
        biases = sum(w * (5 * m + 1) for w, m in zip(self.widths, self.maps, strict=True))
        biases += self.widths[0] // 2
        second = (self.widths[-1] + 1) * num_classes
        return biases + 8 * 49 * self.tokens + second


PUBLISHED: Final[Mapping[str, PublishedEfficientFormer]] = MappingProxyType({
    "EfficientFormer-L1": PublishedEfficientFormer(
        widths=(48, 96, 224, 448), maps=(3, 2, 6, 3), tokens=1, parameters=12.3e6, macs=1.3e9
    ),
    "EfficientFormer-L3": PublishedEfficientFormer(
        widths=(64, 128, 320, 512), maps=(4, 4, 12, 2), tokens=4, parameters=31.3e6, macs=3.9e9
    ),
    "EfficientFormer-L7": PublishedEfficientFormer(
        widths=(96, 192, 384, 768), maps=(6, 6, 18, 0), tokens=8, parameters=82.1e6, macs=10.2e9
    ),
})  # fmt: skip
"""The networks of the paper, by name."""
