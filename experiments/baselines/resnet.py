"""ResNet for small images (He et al., Deep Residual Learning, CVPR 2016, arXiv 1512.03385, 4.2).

A 3x3 convolution, three stages of `n` basic blocks with 16, 32 and 64 channels, each stage after
the first halving the size, global mean, classifier; `n = 1` is ResNet-8. The published shortcuts
that change shape pad with zeros; here they are 1x1 convolutions (option B of the paper), which
runtimes fuse.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.baselines.scaled import Scaled
from search_spaces import Dim, NetworkBuilder, Tensor
from search_spaces.blocks import classifier, conv_norm_act
from search_spaces.expression import round_to


@dataclass(frozen=True, kw_only=True)
class ScaledResNet(Scaled):
    """ResNet with `6 n + 2` layers and one choice: the factor of all widths.

    Attributes:
        blocks: Basic blocks a stage, the `n` above.
        stem_stride: Stride of the first convolution, published as 1.
    """

    blocks: int = 1
    stem_stride: int = 1

    @property
    def label(self) -> str:
        return f"ResNet-{6 * self.blocks + 2}"

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        factor = self.multiplier(net)
        with net.scope("stem"):
            x = conv_norm_act(
                net, images, round_to(factor * 16, 8), kernel=3, stride=self.stem_stride
            )
        for stage, base in enumerate((16, 32, 64)):
            for i in range(self.blocks):
                with net.scope(f"stage{stage}.block{i}"):
                    stride = 2 if stage > 0 and i == 0 else 1
                    x = _basic_block(net, x, round_to(factor * base, 8), stride)
        return classifier(net, x, self.num_classes)


def _basic_block(net: NetworkBuilder, x: Tensor, channels: Dim, stride: int) -> Tensor:
    shortcut = x
    if stride > 1:
        with net.scope("shortcut"):
            shortcut = conv_norm_act(net, x, channels, kernel=1, stride=stride, activation=None)
    with net.scope("first"):
        h = conv_norm_act(net, x, channels, kernel=3, stride=stride)
    with net.scope("second"):
        h = conv_norm_act(net, h, channels, kernel=3, activation=None)
    return net.activation(net.add(shortcut, h), "relu")
