"""`AsCANSpace`: a convolutional or a transformer block at every position of four stages.

Kag et al., AsCAN: Asymmetric Convolution-Attention Networks for Efficient Recognition and
Generation, NeurIPS 2024, arXiv 2411.04967. A stem, four stages of convolutional blocks (C) and
transformer blocks (T), pooling and a classifier. The blocks are distributed asymmetrically: more C
in the early stages, more T in the late ones, mixed within a stage. The paper compares a handful
of such patterns by hand; here every pattern is an architecture, and `pattern` writes it as the
paper does.

Only the abstract and the caption of the figure of the architecture were read; there is no code.
What a C and a T are made of (fused inverted bottlenecks or plain ones with expansion 4; pre-norm
attention over all positions with heads 32 wide and an MLP of ratio 4), the widths and the depths
are therefore choices of this module, and no published count is compared. Relative positions and
squeeze-and-excitation are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

import numpy.typing as npt

from records import BadInputError, unknown_name
from search_spaces.architecture import Architecture
from search_spaces.blocks import classifier, conv_norm_act, fused_mbconv, mbconv, transformer
from search_spaces.expression import Dim, Expression, is_equal
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace
from search_spaces.standard.named import architecture_from

LETTERS: Final[Mapping[str, str]] = MappingProxyType(
    {"fused_mbconv": "F", "mbconv": "M", "transformer": "T"}
)
"""The blocks and the letters that stand for them in a pattern."""


@dataclass(frozen=True, kw_only=True)
class AsCANStage:
    """A stage: a strided convolution that sets the width, then a chain of blocks.

    Attributes:
        widths: Numbers of channels to choose from.
        depths: Numbers of blocks to choose from.
        blocks: What each block may be: `fused_mbconv`, `mbconv`, `transformer`.
        stride: Of the convolution.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    blocks: tuple[str, ...] = ("fused_mbconv", "mbconv", "transformer")
    stride: int = 2

    def __post_init__(self) -> None:
        if min(self.depths, default=0) < 0:
            raise BadInputError(f"a stage has 0 or more blocks, got depths {self.depths}")
        for block in self.blocks:
            if block not in LETTERS:
                raise unknown_name("block", block, LETTERS)


@dataclass(frozen=True, kw_only=True)
class AsCANSpace(SearchSpace):
    """Hybrid networks whose every block is chosen among convolution and attention.

    Attributes:
        stem_widths: Channels of the two convolutions in front.
        stages: The stages in order.
        expansions: Ratios of hidden to input channels, chosen per block, of a convolutional block
            and of a transformer's MLP alike.
        head_dim: Width of an attention head, a divisor of the widths of stages with transformers.
        activation: Of all blocks.
    """

    Stage: ClassVar[type[AsCANStage]] = AsCANStage

    image_size: int = 224
    num_classes: int = 1000
    stem_widths: tuple[int, ...] = (32, 64)
    stages: tuple[AsCANStage, ...] = (
        AsCANStage(widths=(64, 96, 128), depths=(1, 2, 3), blocks=("fused_mbconv", "mbconv")),
        AsCANStage(widths=(128, 192, 256), depths=(2, 3, 4, 5)),
        AsCANStage(widths=(256, 384, 512), depths=(4, 5, 6, 7, 8, 9, 10)),
        AsCANStage(widths=(512, 768, 1024), depths=(1, 2, 3, 4)),
    )
    expansions: tuple[float, ...] = (4,)
    head_dim: int = 32
    activation: str = "gelu"

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        with net.scope("stem"):
            width = net.choice("width", self.stem_widths)
            x = images
            for i, stride in enumerate((2, 1)):
                with net.scope(f"conv{i}"):
                    x = conv_norm_act(net, x, width, kernel=3, stride=stride,
                                      activation=self.activation)  # fmt: skip
        for s, stage in enumerate(self.stages):
            if "transformer" in stage.blocks and any(w % self.head_dim for w in stage.widths):
                raise BadInputError(
                    f"stage {s} has widths {stage.widths} that head_dim {self.head_dim} does not "
                    "divide"
                )
            with net.scope(f"stage{s}"):
                x = self._stage(net, x, stage)
        return classifier(net, x, self.num_classes)

    def _stage(self, net: NetworkBuilder, x: Tensor, stage: AsCANStage) -> Tensor:
        width = net.choice("width", stage.widths)
        with net.scope("begin"):
            x = conv_norm_act(net, x, width, kernel=3, stride=stage.stride, activation=None)
        depth = net.choice("depth", stage.depths)
        for i in range(max(stage.depths)):
            with net.scope(f"layer{i}"), net.when(depth > i):
                x = self._block(net, x, width, net.choice("block", stage.blocks))
        return x

    def _block(
        self, net: NetworkBuilder, x: Tensor, width: Dim, block: Expression | str
    ) -> Tensor:
        expansion = net.choice("expansion", self.expansions)
        with net.scope("fused"), net.when(is_equal(block, "fused_mbconv")):
            x = fused_mbconv(net, x, width, kernel=3, expansion=expansion, shortcut=True,
                             activation=self.activation)  # fmt: skip
        with net.scope("mbconv"), net.when(is_equal(block, "mbconv")):
            x = mbconv(net, x, width, kernel=3, expansion=expansion, shortcut=True,
                       activation=self.activation)  # fmt: skip
        with net.scope("transformer"), net.when(is_equal(block, "transformer")):
            x = transformer(
                net, net.to_tokens(x), heads=width // self.head_dim, head_dim=self.head_dim,
                mlp_ratio=expansion, activation=self.activation,
            )  # fmt: skip
            return net.to_map(x)

    def pattern(self, architecture: Architecture | npt.ArrayLike) -> str:
        """The blocks of an architecture (or of one row of genes), a word a stage.

        F is a fused inverted bottleneck, M a plain one, T a transformer block: the asymmetry
        can be seen at a glance, as in `FF FFT MTTT TT`.
        """
        if not isinstance(architecture, Architecture):
            (architecture,) = self.decode(architecture)
        chosen = dict(architecture.items)
        words = []
        for s, stage in enumerate(self.stages):
            depth = int(chosen.get(f"stage{s}.depth", stage.depths[0]))
            names = (chosen.get(f"stage{s}.layer{i}.block", stage.blocks[0]) for i in range(depth))
            words.append("".join(LETTERS[str(name)] for name in names))
        return " ".join(words)

    def patterned(self, text: str, widths: tuple[int, ...] | None = None) -> Architecture:
        """The architecture with the given pattern, of one expansion.

        Args:
            text: A word a stage, as `pattern` writes it.
            widths: Of the stem and the stages; the smallest of each unless given. The expansion is
                the smallest.

        Raises:
            BadInputError: A pattern or widths that the space does not have.
        """
        words = text.split(" ")
        if len(words) != len(self.stages):
            raise BadInputError(
                f"a pattern has {len(self.stages)} words, one a stage, got {text!r}"
            )
        letters = {letter: block for block, letter in LETTERS.items()}
        offered = (self.stem_widths, *(stage.widths for stage in self.stages))
        least = tuple(min(values) for values in offered)
        stem, *others = least if widths is None else widths
        if len(others) != len(self.stages):
            raise BadInputError(f"widths are of the stem and every stage, got {widths}")
        values: dict[str, int | float | str] = {"stem.width": stem}
        for s, (word, width) in enumerate(zip(words, others, strict=True)):
            values |= {f"stage{s}.width": width, f"stage{s}.depth": len(word)}
            for i, letter in enumerate(word):
                if letter not in letters:
                    raise unknown_name("block letter", letter, letters)
                values[f"stage{s}.layer{i}.block"] = letters[letter]
                values[f"stage{s}.layer{i}.expansion"] = self.expansions[0]
        return architecture_from(self, values)
