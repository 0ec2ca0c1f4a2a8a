"""`NASBenchMacro`: the 6,561 MobileNet-like networks of NAS-Bench-Macro.

Eight layers in stages of 2, 3 and 3, each of them an identity or one of two inverted bottlenecks
of MobileNetV2. The first layer of a stage halves the map and doubles the channels, where an
identity is a strided 1x1 convolution with batch normalisation. Multiply-accumulates ("FLOPs") and
parameters equal those of the benchmark.

The two kinds of bottleneck share their weights as in Once-for-All: the smaller kernel and width
are parts of the larger. The publication kept weights apart.

References:
    Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree Search, CVPR 2021,
    arXiv 2103.11922 (xiusu/NAS-Bench-Macro, `train/model.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.blocks import classifier, conv_norm_act, mbconv
from search_spaces.expression import is_equal, negate, where
from search_spaces.genes import Genes
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace

BLOCKS = ("identity", "k3_e3", "k5_e6")
"""The kinds of layer; a gene, and a digit of the benchmark's names, is the position."""

STAGES = (2, 3, 3)
"""Layers of each stage."""


@dataclass(frozen=True, kw_only=True)
class NASBenchMacro(SearchSpace):
    """The space of NAS-Bench-Macro.

    A row of genes holds the kinds of the eight layers, as positions in `BLOCKS`.

    >>> NASBenchMacro().genes_of(["01220120"])
    array([[0, 1, 2, 2, 0, 1, 2, 0]], dtype=int16)

    Attributes:
        stem_width: Channels of the first convolution; each stage has twice as many as before it.
        head_width: Channels of the last convolution.
    """

    stem_width: int = 32
    head_width: int = 1280

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        with net.scope("stem"):
            x = conv_norm_act(net, images, self.stem_width, kernel=3)
        width = self.stem_width
        for stage, layers in enumerate(STAGES):
            width *= 2
            for i in range(layers):
                with net.scope(f"stage{stage}.layer{i}"):
                    x = _layer(net, x, width, is_first=i == 0)
        with net.scope("head"):
            x = conv_norm_act(net, x, self.head_width, kernel=1)
        return classifier(net, x, self.num_classes)

    # ---- the benchmark's names of its networks -------------------------------------------------

    def names(self, genes: npt.ArrayLike) -> list[str]:
        """The benchmark's name of each row of genes: eight digits, one a layer."""
        return ["".join(map(str, row)) for row in self.gene_space.check(genes)]

    def genes_of(self, names: Iterable[str]) -> Genes:
        """The genes of the benchmark's names, an `n x 8` array.

        Raises:
            BadInputError: A name that is not eight of the digits 0, 1 and 2.
        """
        digits = "".join(map(str, range(len(BLOCKS))))
        rows = []
        for name in names:
            if len(name) != sum(STAGES) or not set(name) <= set(digits):
                raise BadInputError(
                    f"{name!r} is no network of NAS-Bench-Macro; expected {sum(STAGES)} of the "
                    f"digits {digits} ({', '.join(BLOCKS)})"
                )
            rows.append([int(digit) for digit in name])
        return np.array(rows, np.int16).reshape(-1, sum(STAGES))


def _layer(net: NetworkBuilder, x: Tensor, channels: int, *, is_first: bool) -> Tensor:
    block = net.choice("block", BLOCKS)
    is_identity, is_small = is_equal(block, "identity"), is_equal(block, "k3_e3")
    with net.when(negate(is_identity)):
        y = mbconv(
            net,
            x,
            channels,
            kernel=where(is_small, 3, 5),
            expansion=where(is_small, 3, 6),
            stride=2 if is_first else 1,
            shortcut=not is_first,
        )
    if not is_first:
        return y
    with net.scope("shrink"), net.when(is_identity):
        return conv_norm_act(net, y, channels, kernel=1, stride=2, activation=None)
