"""`OFAMobileNetV3`: the elastic MobileNetV3 of Once-for-All.

Five stages of 2 to 4 inverted bottlenecks, each block with its own kernel size (3, 5 or 7) and
expansion (3, 4 or 6), on images of a size that is chosen too: more than 10^19 networks for every
resolution. Squeeze-and-excitation stands in the stages 2, 4 and 5, h-swish instead of ReLU from
the third stage on. Batch normalisation does not follow the last convolution, which works on the
means over the map and is a linear layer here.

References:
    Cai et al., Once-for-All, ICLR 2020, arXiv 1908.09791 (mit-han-lab/once-for-all,
    `ofa_mbv3.py`); Howard et al., Searching for MobileNetV3, ICCV 2019, arXiv 1905.02244.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.blocks import conv_norm_act, mbconv
from search_spaces.expression import make_divisible
from search_spaces.genes import Genes
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace
from search_spaces.standard.gene_columns import Column, genes_from_columns, values_of_choice

WIDTHS = (24, 40, 80, 112, 160)
"""Channels of the five stages at width 1."""

STRIDES = (2, 2, 2, 1, 2)
ACTIVATIONS = ("relu", "relu", "hardswish", "hardswish", "hardswish")
SQUEEZE_EXCITE = (False, True, False, True, True)
STEM_WIDTH, EXPAND_WIDTH, MIX_WIDTH = 16, 960, 1280


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OFASettings:
    """Subnets as Once-for-All writes them; a stage has as many places as its largest depth.

    Attributes:
        resolutions: An array of length `n`.
        depths: Blocks of each stage, `n x 5`.
        kernels: Kernel size of each place, `n x (5 * places)`; 0 where there is no block.
        expansions: Expansion of each place, likewise.
    """

    resolutions: npt.NDArray[np.int64]
    depths: npt.NDArray[np.int64]
    kernels: npt.NDArray[np.int64]
    expansions: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class OFAMobileNetV3(SearchSpace):
    """The space of Once-for-All's `ofa_mbv3_d234_e346_k357`.

    Attributes:
        image_size: Size of the images before they are resized, at least the largest resolution.
        width: Factor on all channels, rounded to multiples of 8; published are 1.0 and 1.2.
        resolutions: Sizes to choose from at which the network sees the images.
        depths: Numbers of blocks to choose from, per stage.
        kernels: Sizes to choose from of the depthwise convolution, per block.
        expansions: Ratios to choose from of hidden to input channels, per block.
    """

    image_size: int = 224
    num_classes: int = 1000
    width: float = 1.2
    resolutions: tuple[int, ...] = tuple(range(128, 225, 4))
    depths: tuple[int, ...] = (2, 3, 4)
    kernels: tuple[int, ...] = (3, 5, 7)
    expansions: tuple[int, ...] = (3, 4, 6)

    def __post_init__(self) -> None:
        if min(self.depths, default=0) < 1:
            raise BadInputError(f"a stage has at least one block, got depths {self.depths}")
        super().__post_init__()
        if max(self.resolutions) > self.image_size:
            raise BadInputError(
                f"resolutions go up to image_size {self.image_size}, got {max(self.resolutions)}"
            )

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        resolution = net.choice("resolution", self.resolutions)
        with net.when(resolution < self.image_size):
            x = net.resize(images, resolution)
        with net.scope("stem"):
            stem_width = self._scaled(STEM_WIDTH)
            x = conv_norm_act(net, x, stem_width, kernel=3, stride=2, activation="hardswish")
            with net.scope("block"):
                x = mbconv(net, x, stem_width, kernel=3, expansion=1, expand_by_one=False,
                           shortcut=True)  # fmt: skip
        for s in range(len(WIDTHS)):
            with net.scope(f"stage{s}"):
                x = self._stage(net, x, s)
        with net.scope("head"):
            x = conv_norm_act(net, x, self._scaled(EXPAND_WIDTH), kernel=1, activation="hardswish")
            x = net.linear(net.global_pool(x), self._scaled(MIX_WIDTH), bias=False, name="mix")
            x = net.activation(x, "hardswish", name="mix_activation")
        return net.linear(x, self.num_classes, name="classifier")

    def _stage(self, net: NetworkBuilder, x: Tensor, s: int) -> Tensor:
        depth = net.choice("depth", self.depths)
        channels = self._scaled(WIDTHS[s])
        for i in range(max(self.depths)):
            with net.scope(f"block{i}"), net.when(depth > i):
                stride = STRIDES[s] if i == 0 else 1
                expansion = net.choice("expansion", self.expansions)
                x = mbconv(
                    net,
                    x,
                    channels,
                    kernel=net.choice("kernel", self.kernels),
                    expansion=expansion,
                    hidden=make_divisible(x.channels * expansion, 8),
                    stride=stride,
                    shortcut=stride == 1 and x.channels == channels,
                    activation=ACTIVATIONS[s],
                    se=SQUEEZE_EXCITE[s],
                )
        return x

    def _scaled(self, channels: int) -> int:
        width = make_divisible(channels * self.width, 8)
        assert isinstance(width, int)
        return width

    # ---- Once-for-All's way to write its subnets -----------------------------------------------

    def genes_of(self, settings: OFASettings) -> Genes:
        """The genes of subnets; what is said of places without a block does not matter.

        Raises:
            BadInputError: Arrays of the wrong shape, or a value that this space does not have.
        """
        places = max(self.depths)
        blocks = len(WIDTHS) * places
        shapes = {"resolutions": (), "depths": (len(WIDTHS),), "kernels": (blocks,),
                  "expansions": (blocks,)}  # fmt: skip
        given = {name: np.asarray(getattr(settings, name)) for name in shapes}
        n = given["resolutions"].size
        for name, shape in shapes.items():
            if given[name].shape != (n, *shape):
                raise BadInputError(
                    f"{name} must have shape {(n, *shape)}, got {given[name].shape}"
                )
        columns = {"resolution": Column(values=given["resolutions"], allowed=self.resolutions)}
        for s in range(len(WIDTHS)):
            depths = given["depths"][:, s]
            columns[f"stage{s}.depth"] = Column(values=depths, allowed=self.depths)
            for i in range(places):
                for name in ("kernel", "expansion"):
                    columns[f"stage{s}.block{i}.{name}"] = Column(
                        values=given[f"{name}s"][:, s * places + i],
                        allowed=getattr(self, f"{name}s"),
                        matters=depths > i,
                    )
        return genes_from_columns(self, columns)

    def settings(self, genes: npt.ArrayLike) -> OFASettings:
        """The subnets of `n` rows of genes."""
        rows = self.gene_space.check(genes)
        stages, places = len(WIDTHS), max(self.depths)

        def values(name: str, allowed: tuple[int, ...]) -> npt.NDArray[np.int64]:
            return values_of_choice(self, rows, name, allowed).astype(np.int64)

        depths = np.stack([values(f"stage{s}.depth", self.depths) for s in range(stages)], axis=1)
        there = (np.arange(places) < depths[:, :, None]).reshape(len(rows), -1)
        blocks = {
            name: np.stack(
                [
                    values(f"stage{s}.block{i}.{name}", getattr(self, f"{name}s"))
                    for s in range(stages)
                    for i in range(places)
                ],
                axis=1,
            )
            for name in ("kernel", "expansion")
        }
        return OFASettings(
            resolutions=values("resolution", self.resolutions),
            depths=depths,
            kernels=blocks["kernel"] * there,
            expansions=blocks["expansion"] * there,
        )
