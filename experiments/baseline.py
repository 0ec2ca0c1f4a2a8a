"""The honest baseline: a known hand-made network, scaled uniformly to the same latency.

ResNet for small images (He et al., Deep Residual Learning, CVPR 2016, arXiv 1512.03385, sec. 4.2):
a 3x3 convolution, three stages of `n` basic blocks with 16, 32 and 64 channels, each stage after
the first halving the size, global mean, classifier; `n = 1` is ResNet-8. All widths are multiplied
by one factor. The published shortcuts that change shape pad with zeros; here they are 1x1
convolutions (option B of the paper), which runtimes fuse.

As a space with one choice, the factor, it is costed, exported and measured like anything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latency_models import MeasuredCostModel
from search_spaces import Dim, Genes, NetworkBuilder, SearchSpace, Tensor
from search_spaces.blocks import classifier, conv_norm_act
from search_spaces.expression import round_to

MULTIPLIERS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0)


@dataclass(frozen=True, kw_only=True)
class ScaledResNet(SearchSpace):
    """ResNet with `6 n + 2` layers and one choice: the factor of all widths.

    Attributes:
        blocks: Basic blocks a stage, the `n` above.
        stem_stride: Stride of the first convolution.
        multipliers: The factors to choose from.
    """

    blocks: int = 1
    stem_stride: int = 1
    multipliers: tuple[float, ...] = MULTIPLIERS

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        factor = net.choice("multiplier", self.multipliers)
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

    def title(self, row: Genes) -> str:
        """How reports name one of them, e.g. `ResNet-8 x0.5`."""
        return f"ResNet-{6 * self.blocks + 2} x{self.multipliers[int(row[0])]:g}"


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


def scaled_to(costs: MeasuredCostModel, latency_ms: float) -> Genes:
    """The genes of the baseline whose measured latency is nearest, as a ratio.

    Args:
        costs: A cost model of a `ScaledResNet`, calibrated on all its sizes.
        latency_ms: The latency to match.
    """
    distance = np.abs(np.log(costs.measured_ms / latency_ms))
    return np.asarray(costs.genes[int(distance.argmin())])
