"""`ViTResNASSpace`: vision transformers in three stages with residual spatial reduction.

Liao, Karaman, Sze: Searching for Efficient Multi-Stage Vision Transformers, arXiv 2109.00642.
Patches are embedded by convolutions; between two stages a strided convolution halves the map, with
a skip around it that is the mean over 2 x 2 positions and zeros in the channels that are new. Per
stage the width is chosen, per block the heads and the hidden width of the MLP, and every second
block may be left out, whichever.

The two spaces and the networks were read in the authors' repository (yilunliao/vit-search:
`supernet_config/sr_tiny_mh.py`, `sr_small_mh.py`, `scripts/vit-sr-nas/searched_net`, `nets/`); the
counts are those of the paper as recalled (41 M, 65 M and 97 M parameters; 1.8, 2.8 and 4.5 G
MACs). The scripts list the blocks that are left; where they do not tell which of the blocks in
their place was dropped, the last is taken, which changes no count. Deviations:

- no class token, the tokens are averaged; with it go a linear map at each reduction, and the
  classifier of patches that only training uses (`left_out_parameters`, 2.5 % of Tiny);
- the strided convolution is two, one for the channels that have a skip and one for those that
  are new: the same product, but the shared weights of both are cut from the front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final, TypeAlias

from records import BadInputError, unknown_name
from search_spaces.architecture import Architecture
from search_spaces.blocks import classifier, conv_norm_act, transformer
from search_spaces.expression import Dim
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace
from search_spaces.standard.named import architecture_from


@dataclass(frozen=True, kw_only=True)
class ViTResNASStage:
    """A stage of transformer blocks; blocks 1, 3, 5 ... may be left out.

    Attributes:
        widths: Widths of the tokens to choose from, larger than those of the stage before.
        blocks: The number of blocks, those included that may be left out.
        heads: Attention heads, chosen per block.
        head_dim: Width of a head.
        hidden: Hidden widths of the MLP, chosen per block.
    """

    widths: tuple[int, ...]
    blocks: int
    heads: tuple[int, ...]
    head_dim: int
    hidden: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise BadInputError(f"a stage has at least one block, got {self.blocks}")


@dataclass(frozen=True, kw_only=True)
class ViTResNASSpace(SearchSpace):
    """Multi-stage vision transformers.

    Attributes:
        patch_size: Side of a patch, even; the first convolution halves the image, the last one
            takes patches of half this size. The map of patches must be divisible by 2 for each
            further stage.
        patch_channels: Channels of the convolutions in front of the patches.
        stages: The stages in order.
    """

    Stage: ClassVar[type[ViTResNASStage]] = ViTResNASStage

    image_size: int = 224
    num_classes: int = 1000
    patch_size: int = 14
    patch_channels: int = 24
    stages: tuple[ViTResNASStage, ...] = (
        ViTResNASStage(widths=(160, 176, 192, 224, 256), blocks=6, heads=(3, 4, 5, 6), head_dim=32,
                       hidden=(384, 448, 512, 576, 640, 704, 768)),
        ViTResNASStage(widths=(320, 352, 384, 448, 512), blocks=6, heads=(6, 8, 10, 12),
                       head_dim=48, hidden=(768, 896, 1024, 1152, 1280, 1408, 1536)),
        ViTResNASStage(widths=(640, 704, 768, 896, 1024), blocks=6, heads=(6, 8, 10, 12),
                       head_dim=64, hidden=(1536, 1792, 2048, 2304, 2560, 2816, 3072)),
    )  # fmt: skip

    @classmethod
    def tiny(
        cls, *, image_size: int = 224, channels: int = 3, num_classes: int = 1000
    ) -> ViTResNASSpace:
        """The space of ViT-ResNAS-Tiny."""
        return cls(image_size=image_size, channels=channels, num_classes=num_classes)

    @classmethod
    def small(
        cls, *, image_size: int = 224, channels: int = 3, num_classes: int = 1000
    ) -> ViTResNASSpace:
        """The space of ViT-ResNAS-Small and -Medium."""
        stages = (
            ViTResNASStage(widths=(200, 220, 240, 280, 320), blocks=7, heads=(5, 6, 7, 8),
                           head_dim=32, hidden=(480, 560, 640, 720, 800, 880, 960)),
            ViTResNASStage(widths=(400, 440, 480, 560, 640), blocks=7, heads=(10, 12, 14, 16),
                           head_dim=48, hidden=(960, 1120, 1280, 1440, 1600, 1760, 1920)),
            ViTResNASStage(widths=(800, 880, 960, 1120, 1280), blocks=7, heads=(10, 12, 14, 16),
                           head_dim=64, hidden=(1920, 2240, 2560, 2880, 3200, 3520, 3840)),
        )  # fmt: skip
        return cls(
            image_size=image_size, channels=channels, num_classes=num_classes, stages=stages
        )

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        if self.patch_size % 2 or self.patch_size < 2:
            raise BadInputError(f"patch_size must be even, got {self.patch_size}")
        for first, second in zip(self.stages, self.stages[1:], strict=False):
            if max(first.widths, default=0) >= min(second.widths, default=1):
                raise BadInputError(
                    f"a stage is wider than the one before it, got {first.widths} and "
                    f"{second.widths}"
                )
        x = images
        for s, stage in enumerate(self.stages):
            with net.scope(f"stage{s}"):
                width = net.choice("width", stage.widths)
                x = self._patches(net, x, width) if s == 0 else _reduction(net, x, width)
                for i in range(stage.blocks):
                    with net.scope(f"layer{i}"):
                        x = _block(net, x, stage, may_be_left_out=i % 2 == 1)
        return classifier(net, net.layer_norm(x), self.num_classes)

    def _patches(self, net: NetworkBuilder, images: Tensor, width: Dim) -> Tensor:
        """Three convolutions with a shortcut around the last two, then the patches."""
        half = self.patch_size // 2
        with net.scope("patches"):
            with net.scope("conv0"):
                x = conv_norm_act(net, images, self.patch_channels, kernel=3, stride=2)
            h = x
            for name in ("conv1", "conv2"):
                with net.scope(name):
                    h = conv_norm_act(net, h, self.patch_channels, kernel=3)
            x = net.add(x, h)
            x = net.conv2d(x, width, kernel=half, stride=half, padding=0, bias=True, name="embed")
            return net.position(net.to_tokens(x))

    def published(self, name: str) -> Architecture:
        """A published network as an architecture of this space.

        Raises:
            BadInputError: There is no such network, or it does not lie in this space.
        """
        if name not in PUBLISHED:
            raise unknown_name("ViT-ResNAS", name, PUBLISHED)
        return architecture_from(self, PUBLISHED[name].choices)


def _reduction(net: NetworkBuilder, x: Tensor, width: Dim) -> Tensor:
    """Residual spatial reduction: half the map and more channels, with a skip around it."""
    with net.scope("reduction"):
        skip = net.avg_pool(net.to_map(x, name="skip"), kernel=2, stride=2)
        h = net.to_map(net.layer_norm(x), name="map")
        old = net.conv2d(h, x.channels, kernel=3, stride=2, bias=True, name="old")
        new = net.conv2d(h, width - x.channels, kernel=3, stride=2, bias=True, name="new")
        x = net.concat(net.add(skip, old), new)
        return net.position(net.to_tokens(x))


def _block(
    net: NetworkBuilder, x: Tensor, stage: ViTResNASStage, *, may_be_left_out: bool
) -> Tensor:
    present = net.choice("present", (0, 1) if may_be_left_out else (1,))
    with net.when(present > 0):
        return transformer(
            net, x, heads=net.choice("heads", stage.heads), head_dim=stage.head_dim, mlp_ratio=1,
            hidden=net.choice("hidden", stage.hidden),
        )  # fmt: skip


Blocks: TypeAlias = tuple[tuple[int, int] | None, ...]
"""For each block its heads and hidden width, None where it is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedViTResNAS:
    """A published network of three stages.

    Attributes:
        widths: Of the stages.
        blocks: The blocks of the stages.
        parameters: As published, class token included.
        macs: As published, for 224 pixels.
    """

    widths: tuple[int, ...]
    blocks: tuple[Blocks, ...]
    parameters: float
    macs: float

    @property
    def choices(self) -> dict[str, int]:
        """The values of the space's choices."""
        values = {}
        for s, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True)):
            values[f"stage{s}.width"] = width
            for i, block in enumerate(blocks):
                values[f"stage{s}.layer{i}.present"] = int(block is not None)
                if block is not None:
                    values[f"stage{s}.layer{i}.heads"] = block[0]
                    values[f"stage{s}.layer{i}.hidden"] = block[1]
        return values

    def left_out_parameters(self, num_classes: int = 1000) -> int:
        """Parameters of the original that the space lacks.

        The class token, its position, its linear map at each reduction; and the classifier of
        single patches, which only training uses (mixing patches of several images).
        """
        steps = zip(self.widths, self.widths[1:], strict=False)
        token = 2 * self.widths[0] + sum((first + 1) * second for first, second in steps)
        return token + (self.widths[-1] + 1) * num_classes


PUBLISHED: Final[Mapping[str, PublishedViTResNAS]] = MappingProxyType({
    "ViT-ResNAS-Tiny": PublishedViTResNAS(
        widths=(176, 352, 704),
        blocks=(
            ((3, 704), (3, 576), (3, 640), (4, 576), (4, 704), None),
            ((10, 1408), (8, 1408), (8, 1280), (8, 1408), (10, 1280), (10, 1024)),
            ((10, 2560), (10, 1792), (10, 2816), (8, 2816), (8, 2560), None),
        ),
        parameters=41e6,
        macs=1.8e9,
    ),
    "ViT-ResNAS-Small": PublishedViTResNAS(
        widths=(220, 440, 880),
        blocks=(
            ((5, 880), (5, 880), (7, 800), None, (5, 720), (5, 720), (5, 720)),
            ((10, 1760), (10, 1440), (10, 1920), (10, 1600), (12, 1600), None, (12, 1440)),
            ((16, 3200), (12, 3200), (16, 2880), None, (12, 2240), None, (14, 2560)),
        ),
        parameters=65e6,
        macs=2.8e9,
    ),
    "ViT-ResNAS-Medium": PublishedViTResNAS(
        widths=(240, 640, 880),
        blocks=(
            ((7, 960), (6, 960), (7, 800), (8, 960), (7, 880), (8, 880), (6, 800)),
            ((10, 1120), (14, 1760), (14, 1920), (16, 1760), (14, 1440), (16, 1760), (16, 1920)),
            ((16, 3200), (10, 3840), (16, 3840), None, (12, 3200), (16, 3520), (14, 3520)),
        ),
        parameters=97e6,
        macs=4.5e9,
    ),
})  # fmt: skip
"""The networks that were found, by name."""
