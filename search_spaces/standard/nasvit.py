"""`AttentiveNASSpace` and `NASViTSpace`: mobile stages, the later of which may hold attention.

AttentiveNAS (Wang, Li, Gong, Chandra, CVPR 2021, arXiv 2011.09011) is a space of inverted
bottlenecks. Of every stage the width, depth, kernel and expansion are chosen, one value for all
its blocks, and of the network the resolution of the images. NASViT (Gong et al., ICLR 2022,
OpenReview Qaw16njk6L) keeps the first block of the last four stages and makes their other blocks
transformers, with heads 8 wide, values four times as wide, and two MLPs of ratio 1.

The ranges, the blocks and the AttentiveNAS networks were read in the authors' repositories
(facebookresearch/AttentiveNAS: `configs/eval_attentive_nas_models.yml` and `models/`;
facebookresearch/NASViT: `misc/config.py` and `models/`). The MACs of AttentiveNAS-A0 to A6 come
out as published. The networks of the NASViT paper are not in its repository.

Deviations, both: images are resized by antialiased bilinear, not bicubic, interpolation; the mean
in a shortcut of odd size leaves the padding out.

Deviations, NASViT:

- talking heads (two learned mixes of the heads around the softmax) and the table of
  relative-position biases are left out;
- the depthwise convolution over the values stands behind the attention instead of before it, with
  the same cost; without the table it is what tells positions apart;
- layer normalisation works on every token by itself; the released code normalises over all tokens
  of an image together;
- a branch is scaled by a vector for each width and depth of its stage, as the paper says
  (recalled); the released code takes the number of tokens modulo 8 for the width. The code's
  further constant factor `8 / width` is left to the learned scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

from records import BadInputError, unknown_name
from search_spaces.architecture import Architecture
from search_spaces.blocks import conv_norm_act, mbconv, residual
from search_spaces.expression import Dim, is_equal, negate, where
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace
from search_spaces.standard.named import architecture_from


@dataclass(frozen=True, kw_only=True)
class MobileStage:
    """A stage of inverted bottlenecks, or of one and transformers behind it.

    Attributes:
        widths: Numbers of channels to choose from.
        depths: Numbers of blocks to choose from.
        kernels: Odd kernel sizes, one for all blocks of the stage.
        expansions: Ratios of hidden to input channels, one for all blocks of the stage.
        stride: Of the first block.
        se: Whether the bottlenecks have squeeze-and-excitation.
        attention: Whether the blocks behind the first are transformers.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kernels: tuple[int, ...] = (3, 5)
    expansions: tuple[int, ...] = (4, 5, 6)
    stride: int = 2
    se: bool = False
    attention: bool = False

    def __post_init__(self) -> None:
        if min(self.depths, default=1) < 1:
            raise BadInputError(f"a stage has at least one block, got depths {self.depths}")
        if any(k % 2 == 0 for k in self.kernels):
            raise BadInputError(f"kernels must be odd, got {self.kernels}")
        if self.attention and any(w % HEAD_DIM for w in self.widths):
            raise BadInputError(
                f"a stage with attention has widths that {HEAD_DIM} divides (the width of a "
                f"head), got {self.widths}"
            )


HEAD_DIM: Final = 8
VALUE_RATIO: Final = 4

_EARLY: Final = (
    MobileStage(widths=(16, 24), depths=(1, 2), expansions=(1,), stride=1),
    MobileStage(widths=(24, 32), depths=(3, 4, 5)),
)


@dataclass(frozen=True, kw_only=True)
class AttentiveNASSpace(SearchSpace):
    """Inverted bottlenecks in seven stages, at four resolutions.

    Attributes:
        resolutions: Sides of the images to choose from, at most `image_size`; images are resized.
        stem_widths: Channels of the first convolution.
        stages: The stages in order.
        last_widths: Channels of the layer in front of the classifier.
    """

    Stage: ClassVar[type[MobileStage]] = MobileStage

    image_size: int = 288
    num_classes: int = 1000
    resolutions: tuple[int, ...] = (192, 224, 256, 288)
    stem_widths: tuple[int, ...] = (16, 24)
    stages: tuple[MobileStage, ...] = (
        *_EARLY,
        MobileStage(widths=(32, 40), depths=(3, 4, 5, 6), se=True),
        MobileStage(widths=(64, 72), depths=(3, 4, 5, 6)),
        MobileStage(widths=(112, 120, 128), depths=(3, 4, 5, 6, 7, 8), stride=1, se=True),
        MobileStage(
            widths=(192, 200, 208, 216), depths=(3, 4, 5, 6, 7, 8), expansions=(6,), se=True
        ),
        MobileStage(widths=(216, 224), depths=(1, 2), expansions=(6,), stride=1, se=True),
    )
    last_widths: tuple[int, ...] = (1792, 1984)

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        if max(self.resolutions, default=0) > self.image_size:
            raise BadInputError(
                f"resolutions {self.resolutions} go beyond image_size {self.image_size}: set "
                "image_size to the largest"
            )
        resolution = net.choice("resolution", self.resolutions)
        with net.when(resolution < self.image_size):
            x = net.resize(images, resolution)
        with net.scope("stem"):
            width = net.choice("width", self.stem_widths)
            x = conv_norm_act(net, x, width, kernel=3, stride=2, activation="silu")
        for s, stage in enumerate(self.stages):
            with net.scope(f"stage{s}"):
                x = _stage(net, x, stage)
        with net.scope("last"):
            width = net.choice("width", self.last_widths)
            x = conv_norm_act(net, x, x.channels * 6, kernel=1, activation="silu")
            x = net.linear(net.global_pool(x), width, bias=False, name="mix")
            x = net.activation(x, "silu", name="mix_activation")
        return net.linear(x, self.num_classes, name="classifier")

    def published(self, name: str) -> Architecture:
        """A network of the AttentiveNAS paper as an architecture of this space.

        Raises:
            BadInputError: There is no such network, or it does not lie in this space.
        """
        if name not in PUBLISHED:
            raise unknown_name("AttentiveNAS network", name, PUBLISHED)
        return architecture_from(self, PUBLISHED[name].choices)


@dataclass(frozen=True, kw_only=True)
class NASViTSpace(AttentiveNASSpace):
    """AttentiveNAS with transformers behind the first block of the last four stages.

    The map is divided by 64 at the end, not by 32; attention always sees all positions. None of
    AttentiveNAS's networks, which `published` knows, lies in this space.
    """

    stages: tuple[MobileStage, ...] = (
        *_EARLY,
        MobileStage(widths=(32, 40), depths=(3, 4, 5, 6), kernels=(3,), se=True),
        MobileStage(widths=(64, 72), depths=(3, 4, 5, 6), kernels=(3,), attention=True),
        MobileStage(widths=(112, 120, 128), depths=(3, 4, 5, 6, 7, 8, 9), kernels=(3,), se=True,
                    attention=True),
        MobileStage(widths=(160, 168, 176, 184), depths=(3, 4, 5, 6, 7, 8), kernels=(3,),
                    expansions=(6,), stride=1, se=True, attention=True),
        MobileStage(widths=(208, 216, 224), depths=(3, 4, 5, 6), kernels=(3,), expansions=(6,),
                    se=True, attention=True),
    )  # fmt: skip


def _stage(net: NetworkBuilder, x: Tensor, stage: MobileStage) -> Tensor:
    width = net.choice("width", stage.widths)
    depth = net.choice("depth", stage.depths)
    kernel = net.choice("kernel", stage.kernels)
    expansion = net.choice("expansion", stage.expansions)
    convolutions = 1 if stage.attention else max(stage.depths)
    for i in range(convolutions):
        with net.scope(f"layer{i}"), net.when(depth > i):
            stride = stage.stride if i == 0 else 1
            h = mbconv(
                net, x, width, kernel=kernel, expansion=expansion, stride=stride, shortcut=False,
                activation="silu", se=stage.se, expand_by_one=False,
            )  # fmt: skip
            x = net.add(_shortcut(net, x, width, stride), h)
    if not stage.attention or max(stage.depths) == 1:
        return x
    slot = _place(width, stage.widths) * len(stage.depths) + _place(depth, stage.depths)
    with net.when(depth > 1):
        x = net.to_tokens(x)
    for i in range(1, max(stage.depths)):
        with net.scope(f"layer{i}"), net.when(depth > i):
            x = _transformer(net, x, slot)
    with net.when(depth > 1):
        return net.to_map(x)


def _shortcut(net: NetworkBuilder, x: Tensor, width: Dim, stride: int) -> Tensor:
    """The input in the shape of the output: pooled and projected where it differs."""
    with net.scope("shortcut"):
        if stride > 1:
            odd = x.height - (x.height // 2) * 2
            x = net.avg_pool(x, kernel=stride, stride=stride, padding=odd)
        with net.when(negate(is_equal(x.channels, width))):
            return net.conv2d(x, width, kernel=1)


def _transformer(net: NetworkBuilder, x: Tensor, slot: Dim) -> Tensor:
    """NASViT's block: attention with wide values and a convolution over them, then two MLPs."""
    width = x.channels
    with net.scope("attention"):
        h = net.attention(
            net.layer_norm(x), heads=width // HEAD_DIM, qk_dim=HEAD_DIM,
            v_dim=HEAD_DIM * VALUE_RATIO,
        )  # fmt: skip
        h = net.to_tokens(net.depthwise(net.to_map(h), kernel=3, name="values"))
        h = net.linear(net.activation(h, "silu"), width, name="project")
        x = residual(net, x, h, scale_slot=slot)
    for name in ("mlp0", "mlp1"):
        with net.scope(name):
            h = net.linear(net.layer_norm(x), width, name="expand")
            h = net.linear(net.activation(h, "silu"), width, name="project")
            x = residual(net, x, h, scale_slot=slot)
    return x


def _place(value: Dim, values: Sequence[int]) -> Dim:
    """The position of a choice's value among its values."""
    place: Dim = 0
    for position, candidate in enumerate(values):
        place = where(is_equal(value, candidate), position, place)
    return place


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedAttentiveNAS:
    """A published network; tuples hold a value for each stage, widths also those around them.

    Attributes:
        resolution: Side of the images.
        widths: Of the stem, the stages, and the layer in front of the classifier.
        kernels: Of the stages.
        expansions: Of the stages.
        depths: Of the stages.
        macs: As published, in 1e6 rounded to integers.
    """

    resolution: int
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    depths: tuple[int, ...]
    macs: float

    @property
    def choices(self) -> dict[str, int]:
        """The values of the space's choices."""
        stem, *stages, last = self.widths
        values = {"resolution": self.resolution, "stem.width": stem, "last.width": last}
        columns = zip(stages, self.depths, self.kernels, self.expansions, strict=True)
        for s, column in enumerate(columns):
            for name, value in zip(("width", "depth", "kernel", "expansion"), column, strict=True):
                values[f"stage{s}.{name}"] = value
        return values


def _published(
    resolution: int,
    wide: tuple[int, ...],
    kernels: tuple[int, ...],
    expansions: tuple[int, ...],
    depths: tuple[int, ...],
    macs: float,
) -> PublishedAttentiveNAS:
    return PublishedAttentiveNAS(
        resolution=resolution,
        widths=(16, 16, 24, 32, *wide),
        kernels=kernels,
        expansions=(1, 4, *expansions, 4, 6, 6),
        depths=depths,
        macs=macs,
    )


PUBLISHED: Final[Mapping[str, PublishedAttentiveNAS]] = MappingProxyType({
    "AttentiveNAS-A0": _published(192, (64, 112, 192, 216, 1792), (3, 3, 3, 3, 3, 3, 3), (4, 4),
                                  (1, 3, 3, 3, 3, 3, 1), 203e6),
    "AttentiveNAS-A1": _published(224, (64, 112, 192, 216, 1984), (3, 3, 3, 5, 3, 5, 3), (4, 4),
                                  (1, 3, 3, 3, 3, 3, 1), 279e6),
    "AttentiveNAS-A2": _published(224, (64, 112, 200, 224, 1984), (3, 3, 3, 3, 3, 5, 3), (5, 4),
                                  (1, 3, 3, 3, 3, 4, 1), 317e6),
    "AttentiveNAS-A3": _published(224, (64, 112, 208, 224, 1984), (3, 3, 3, 5, 3, 3, 3), (4, 4),
                                  (2, 3, 3, 4, 3, 5, 1), 357e6),
    "AttentiveNAS-A4": _published(256, (64, 112, 192, 216, 1984), (3, 3, 3, 5, 3, 5, 3), (4, 5),
                                  (1, 3, 3, 4, 3, 5, 1), 444e6),
    "AttentiveNAS-A5": _published(256, (72, 112, 192, 216, 1792), (3, 3, 3, 5, 3, 3, 3), (5, 4),
                                  (1, 3, 3, 3, 4, 6, 1), 491e6),
    "AttentiveNAS-A6": _published(288, (64, 112, 216, 224, 1984), (3, 3, 3, 3, 3, 5, 3), (6, 5),
                                  (1, 3, 3, 4, 4, 6, 1), 709e6),
})  # fmt: skip
"""The networks that AttentiveNAS found, by name."""
