"""DeiT-Ti, the smallest of the known vision transformers, for small images.

Touvron et al., Training data-efficient image transformers, ICML 2021, arXiv 2012.12877, table 1:
embedding 192, 12 layers, 3 heads, MLP ratio 4, patches of 16 pixels on images of 224. On images of
32 pixels patches of 4 pixels give 64 tokens.

As DeiT's own sizes (Ti, S and B) it is scaled by width: the depth stays 12, heads stay 64 wide,
and their number grows with the embedding, 3 at factor 1 and 6 at factor 2 (DeiT-S). Between these
it is `3 * factor` rounded, at least 1, so that queries, keys and values together are up to half a
head wider or narrower than the embedding. A single head is no wider than the embedding.

Deviations: tokens are averaged instead of carrying a class token; no distillation.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.baselines.scaled import Scaled
from records import BadInputError
from search_spaces import NetworkBuilder, Tensor
from search_spaces.blocks import classifier, transformer
from search_spaces.expression import round_to, where

EMBEDDING, DEPTH, HEADS, HEAD_DIM, MLP_RATIO = 192, 12, 3, 64, 4


@dataclass(frozen=True, kw_only=True)
class ScaledViT(Scaled):
    """DeiT-Ti and one choice: the factor of the embedding, with it of heads and MLP.

    Attributes:
        patch_size: Side of a patch, a divisor of the image size.
    """

    multipliers: tuple[float, ...] = (
        0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 1.75, 2.0
    )  # fmt: skip
    patch_size: int = 4

    @property
    def label(self) -> str:
        return "ViT-Tiny"

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        if self.patch_size < 1 or self.image_size % self.patch_size:
            raise BadInputError(
                f"patch_size must divide the image size of {self.image_size}, got "
                f"{self.patch_size}"
            )
        factor = self.multiplier(net)
        embedding = round_to(factor * EMBEDDING, 8)
        heads = round_to(factor * HEADS, 1)
        head_dim = where(embedding >= HEAD_DIM, HEAD_DIM, embedding)
        with net.scope("patches"):
            x = net.conv2d(images, embedding, kernel=self.patch_size, stride=self.patch_size,
                           padding=0, bias=True)  # fmt: skip
            x = net.position(net.to_tokens(x))
        for i in range(DEPTH):
            with net.scope(f"layer{i}"):
                x = transformer(net, x, heads=heads, head_dim=head_dim, mlp_ratio=MLP_RATIO)
        return classifier(net, net.layer_norm(x), self.num_classes)
