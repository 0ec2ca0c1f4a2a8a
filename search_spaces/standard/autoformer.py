"""`AutoFormerSpace`: the three spaces of AutoFormer, and the networks that were found in them.

Chen, Peng, Fu, Ling: AutoFormer, Searching Transformers for Visual Recognition, ICCV 2021, arXiv
2107.00651. One embedding width and one depth for the network; in every block the number of heads
and the ratio of the MLP. A head is 64 wide whatever the embedding is, so queries, keys and values
have `64 * heads` channels.

The ranges and the subnets were read in the authors' configuration files (`experiments/supernet`,
`experiments/subnet`) in a public copy of their repository. Deviations:

- no class token: the tokens are averaged, which the authors' recipe does too (`--gp`), but theirs
  passes a class token along;
- no relative-position tables. The original has four tables of 30 x 64 numbers a block, and two
  vectors of the embedding's width for the class token and its position:
  `7680 * depth + 2 * embed_dim` parameters that are missing here, 1.7 % of AutoFormer-T and 0.2 %
  of AutoFormer-B (`left_out_parameters`);
- `tiny` offers the MLP ratio 3 beside 3.5 and 4: the published range begins at 3.5, but the
  published AutoFormer-T has three blocks with 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from records import BadInputError, unknown_name
from search_spaces.architecture import Architecture
from search_spaces.blocks import classifier, transformer
from search_spaces.expression import round_to
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace
from search_spaces.standard.named import architecture_from


@dataclass(frozen=True, kw_only=True)
class AutoFormerSpace(SearchSpace):
    """Vision transformers of one width, with heads and MLP ratio chosen per block.

    Attributes:
        patch_size: Side of the patches, a divisor of the image size.
        embed_dims: Widths of the tokens.
        depths: Numbers of blocks.
        heads: Attention heads, chosen per block; `heads * head_dim` need not equal the embedding.
        mlp_ratios: Ratios of the MLP's hidden width to the embedding, chosen per block.
        head_dim: Width of a head.
    """

    image_size: int = 224
    num_classes: int = 1000
    patch_size: int = 16
    embed_dims: tuple[int, ...] = (192, 216, 240)
    depths: tuple[int, ...] = (12, 13, 14)
    heads: tuple[int, ...] = (3, 4)
    mlp_ratios: tuple[float, ...] = (3, 3.5, 4)
    head_dim: int = 64

    @classmethod
    def tiny(
        cls, *, image_size: int = 224, channels: int = 3, num_classes: int = 1000
    ) -> AutoFormerSpace:
        """Supernet-T, in which AutoFormer-T (5.8 M parameters) was found."""
        return cls(image_size=image_size, channels=channels, num_classes=num_classes)

    @classmethod
    def small(
        cls, *, image_size: int = 224, channels: int = 3, num_classes: int = 1000
    ) -> AutoFormerSpace:
        """Supernet-S, in which AutoFormer-S (22.9 M parameters) was found."""
        return cls(
            image_size=image_size,
            channels=channels,
            num_classes=num_classes,
            embed_dims=(320, 384, 448),
            heads=(5, 6, 7),
        )

    @classmethod
    def base(
        cls, *, image_size: int = 224, channels: int = 3, num_classes: int = 1000
    ) -> AutoFormerSpace:
        """Supernet-B, in which AutoFormer-B (53.7 M parameters) was found."""
        return cls(
            image_size=image_size,
            channels=channels,
            num_classes=num_classes,
            embed_dims=(528, 576, 624),
            depths=(14, 15, 16),
            heads=(9, 10),
        )

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        if min(self.depths, default=0) < 1:
            raise BadInputError(f"a network has at least one block, got depths {self.depths}")
        embed = net.choice("embed_dim", self.embed_dims)
        depth = net.choice("depth", self.depths)
        with net.scope("patches"):
            patch = self.patch_size
            x = net.conv2d(images, embed, kernel=patch, stride=patch, padding=0, bias=True)
            x = net.position(net.to_tokens(x))
        for i in range(max(self.depths)):
            with net.scope(f"layer{i}"), net.when(depth > i):
                ratio = net.choice("mlp_ratio", self.mlp_ratios)
                x = transformer(
                    net,
                    x,
                    heads=net.choice("heads", self.heads),
                    head_dim=self.head_dim,
                    mlp_ratio=ratio,
                    hidden=round_to(embed * ratio, 1),
                )
        return classifier(net, net.layer_norm(x), self.num_classes)

    def published(self, name: str) -> Architecture:
        """A published network as an architecture of this space.

        Raises:
            BadInputError: There is no such network, or it does not lie in this space.
        """
        if name not in PUBLISHED:
            raise unknown_name("AutoFormer", name, PUBLISHED)
        return architecture_from(self, PUBLISHED[name].choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedAutoFormer:
    """A published network.

    Attributes:
        embed_dim: The width of the tokens.
        heads: The heads of each block.
        mlp_ratios: The MLP ratio of each block.
        parameters: As published, for 1000 classes and 224 pixels.
    """

    embed_dim: int
    heads: tuple[int, ...]
    mlp_ratios: tuple[float, ...]
    parameters: float

    @property
    def choices(self) -> dict[str, float]:
        """The values of the space's choices."""
        values: dict[str, float] = {"embed_dim": self.embed_dim, "depth": len(self.heads)}
        for i, (heads, ratio) in enumerate(zip(self.heads, self.mlp_ratios, strict=True)):
            values |= {f"layer{i}.mlp_ratio": ratio, f"layer{i}.heads": heads}
        return values

    @property
    def left_out_parameters(self) -> int:
        """Those of the relative-position tables and the class token, which the space lacks."""
        return 4 * 30 * 64 * len(self.heads) + 2 * self.embed_dim


PUBLISHED: Final[Mapping[str, PublishedAutoFormer]] = MappingProxyType({
    "AutoFormer-T": PublishedAutoFormer(
        embed_dim=192,
        heads=(3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3),
        mlp_ratios=(3.5, 3.5, 3, 3.5, 3, 3, 4, 4, 3.5, 4, 3.5, 4, 3.5),
        parameters=5.8e6,
    ),
    "AutoFormer-S": PublishedAutoFormer(
        embed_dim=384,
        heads=(6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7),
        mlp_ratios=(3, 3.5, 3, 3.5, 4, 4, 4, 4, 4, 4, 4, 3.5, 4),
        parameters=22.9e6,
    ),
    "AutoFormer-B": PublishedAutoFormer(
        embed_dim=576,
        heads=(9, 9, 9, 9, 9, 10, 9, 9, 10, 9, 10, 9, 9, 10),
        mlp_ratios=(3.5, 3.5, 4, 3.5, 4, 3.5, 3.5, 3, 4, 4, 3, 4, 3, 3.5),
        parameters=53.7e6,
    ),
})  # fmt: skip
"""The networks that the authors found and trained, by name."""
