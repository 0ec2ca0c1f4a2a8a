"""`MnasNetSpace`: seven stages of inverted bottlenecks, the space of Accel-NASBench.

Each stage chooses the expansion, the kernel size, the number of layers and whether its layers have
squeeze-and-excitation; all layers of a stage are alike. EfficientNet-B0 is one of its 10^11
networks.

What is followed was read in the code of Accel-NASBench and of its data collection: the options,
widths and strides, the hidden width of squeeze-and-excitation (a quarter of the block's input),
the last convolution (four times the last stage's width), SiLU on GPUs and TPUs and ReLU on FPGAs.
Accel-NASBench calls it the MnasNet search space. The space of the MnasNet paper, recalled and not
read, is larger: it also chooses the kind of convolution, the kind of shortcut and the width of a
stage.

References:
    Ahmad et al., Accel-NASBench, DAC 2024, arXiv 2404.08005 (afzalxo/Accel-NASBench,
    `configuration_space_writer.py`; afzalxo/ANB-DatasetCollection, `models/accelbenchnet.py`);
    Tan et al., MnasNet, CVPR 2019, arXiv 1807.11626; Tan & Le, EfficientNet, ICML 2019,
    arXiv 1905.11946.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy.typing as npt

from records import BadInputError, unknown_name
from search_spaces.blocks import classifier, conv_norm_act, mbconv
from search_spaces.expression import is_equal, make_divisible, negate
from search_spaces.genes import Genes
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace
from search_spaces.standard.gene_columns import Column, genes_from_columns, values_of_choice

STAGES = 7
WIDTHS = (16, 24, 40, 80, 112, 192, 320)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
STEM_WIDTH = 32
EXPANSIONS = (1, 4, 6)
KERNELS = (3, 5)
DEPTHS = ((1, 2, 3),) * 5 + ((1, 2, 3, 4), (1, 2, 3))
SQUEEZE_EXCITE = (0, 1)

_KEYS = {"e": "expansion", "k": "kernel", "l": "depth", "se": "se"}
"""Accel-NASBench's names of a stage's choices: `block0_e` is our `stage0.expansion`."""


@dataclass(frozen=True, kw_only=True)
class MnasNetSpace(SearchSpace):
    """The space of Accel-NASBench.

    Attributes:
        width: Factor on all channels, rounded to multiples of 8.
        activation: `silu`, or `relu` as for FPGAs.
    """

    image_size: int = 224
    num_classes: int = 1000
    width: float = 1.0
    activation: str = "silu"

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        with net.scope("stem"):
            x = conv_norm_act(net, images, self._scaled(STEM_WIDTH), kernel=3, stride=2,
                              activation=self.activation)  # fmt: skip
        for s in range(STAGES):
            with net.scope(f"stage{s}"):
                x = self._stage(net, x, s)
        with net.scope("head"):
            last = 4 * self._scaled(WIDTHS[-1])
            x = conv_norm_act(net, x, last, kernel=1, activation=self.activation)
        return classifier(net, x, self.num_classes)

    def _stage(self, net: NetworkBuilder, x: Tensor, s: int) -> Tensor:
        options = _options(s)
        depth, expansion, kernel, se = (
            net.choice(name, options[name]) for name in ("depth", "expansion", "kernel", "se")
        )
        channels = self._scaled(WIDTHS[s])
        for i in range(max(options["depth"])):
            stride = STRIDES[s] if i == 0 else 1
            with net.scope(f"layer{i}"), net.when(depth > i):
                x = mbconv(
                    net,
                    x,
                    channels,
                    kernel=kernel,
                    expansion=expansion,
                    expand_by_one=False,
                    stride=stride,
                    shortcut=stride == 1 and x.channels == channels,
                    activation=self.activation,
                    se=negate(is_equal(se, 0)),
                    se_hidden=x.channels // 4,
                    se_activation=self.activation,
                    se_gate="sigmoid",
                )
        return x

    def _scaled(self, channels: int) -> int:
        width = make_divisible(channels * self.width, 8)
        assert isinstance(width, int)
        return width

    # ---- Accel-NASBench's way to write its networks --------------------------------------------

    def genes_of(self, configurations: Sequence[Mapping[str, int | bool]]) -> Genes:
        """The genes of configurations such as `{"block0_e": 1, "block0_k": 3, ...}`.

        Each has the expansion `e`, the kernel `k`, the number of layers `l` and the flag `se` of
        `block0` to `block6`.

        Raises:
            BadInputError: A key that is missing or unknown, a value that is no option.
        """
        keys = {f"block{s}_{key}" for s in range(STAGES) for key in _KEYS}
        for row, configuration in enumerate(configurations):
            for key in configuration:
                if key not in keys:
                    raise unknown_name("key", key, keys)
            missing = sorted(keys - configuration.keys())
            if missing:
                raise BadInputError(f"row {row} lacks {', '.join(missing)}")
        columns = {
            f"stage{s}.{name}": Column(
                values=[int(c[f"block{s}_{key}"]) for c in configurations],
                allowed=_options(s)[name],
            )
            for s in range(STAGES)
            for key, name in _KEYS.items()
        }
        return genes_from_columns(self, columns)

    def configurations(self, genes: npt.ArrayLike) -> list[dict[str, int | bool]]:
        """Accel-NASBench's configurations of `n` rows of genes."""
        rows = self.gene_space.check(genes)
        found: list[dict[str, int | bool]] = [{} for _ in rows]
        for s in range(STAGES):
            for key, name in _KEYS.items():
                values = values_of_choice(self, rows, f"stage{s}.{name}", _options(s)[name])
                for configuration, value in zip(found, values.tolist(), strict=True):
                    configuration[f"block{s}_{key}"] = bool(value) if key == "se" else value
        return found


def _options(stage: int) -> Mapping[str, tuple[int, ...]]:
    return {
        "depth": DEPTHS[stage],
        "expansion": EXPANSIONS,
        "kernel": KERNELS,
        "se": SQUEEZE_EXCITE,
    }
