"""`ViTSpace`: vision transformers with elastic depth, embedding, heads, MLP ratio and patches."""

from __future__ import annotations

from dataclasses import dataclass

from records import BadInputError
from search_spaces.blocks import at_resolution, classifier, residual_slot, transformer
from search_spaces.expression import is_equal, where
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class ViTSpace(SearchSpace):
    """Plain vision transformers, as in AutoFormer (Chen et al., ICCV 2021, arXiv 2107.00651).

    Deviations: the tokens are averaged instead of carrying a class token, and the patch size is a
    choice too. Kernels of smaller patches are the largest patch's kernel resized.

    Attributes:
        patch_sizes: Sides of the patches, each a divisor of the image size.
        embed_dims: Widths of the tokens.
        depths: Numbers of transformer blocks.
        heads: Attention heads, chosen per block.
        mlp_ratios: Ratios of the MLP's hidden width to the embedding, chosen per block.
        head_dim: Width of a head.
        windows: Sides of the windows in which attention works, 0 for all positions, chosen per
            block; each must divide the side of the token grid for every patch size.
        mixings: `softmax`, `linear` or both to choose from per block; linear attention works on
            all positions.
        resolutions: Sides to which the images may be reduced inside the network; none for theirs.
        scaling: Of residual branches, see `blocks.residual_slot`.
    """

    patch_sizes: tuple[int, ...] = (4, 8)
    embed_dims: tuple[int, ...] = (48, 64, 96)
    depths: tuple[int, ...] = (2, 3, 4, 5, 6)
    heads: tuple[int, ...] = (2, 3, 4)
    mlp_ratios: tuple[float, ...] = (1, 2, 3)
    head_dim: int = 16
    windows: tuple[int, ...] = (0,)
    mixings: tuple[str, ...] = ("softmax",)
    resolutions: tuple[int, ...] = ()
    scaling: str = "none"

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        if min(self.depths, default=0) < 1:
            raise BadInputError(f"a network has at least one block, got depths {self.depths}")
        images = at_resolution(net, images, self.resolutions)
        patch = net.choice("patch_size", self.patch_sizes)
        embed = net.choice("embed_dim", self.embed_dims)
        depth = net.choice("depth", self.depths)
        with net.scope("patches"):
            x = net.conv2d(images, embed, kernel=patch, stride=patch, padding=0, bias=True)
            x = net.position(net.to_tokens(x))
        sizes = ((embed, self.embed_dims), (depth, self.depths))
        slot = residual_slot(self.scaling, sizes)
        for i in range(max(self.depths)):
            with net.scope(f"layer{i}"), net.when(depth > i):
                mixing = net.choice("mixing", self.mixings)
                with net.when(is_equal(mixing, "softmax")):
                    window = net.choice("window", self.windows)
                x = transformer(
                    net,
                    x,
                    heads=net.choice("heads", self.heads),
                    head_dim=self.head_dim,
                    mlp_ratio=net.choice("mlp_ratio", self.mlp_ratios),
                    mixing=mixing,
                    window=where(is_equal(mixing, "softmax"), window, 0),
                    scale_slot=slot,
                )
        return classifier(net, net.layer_norm(x), self.num_classes)
