"""Tiny spaces, of which every architecture can be looked at, and a second way to read a space."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from search_spaces import CNNSpace, ConvStage, HybridSpace, HybridStage, SearchSpace, ViTSpace
from search_spaces.blocks import classifier
from search_spaces.network import NetworkBuilder
from search_spaces.tabulate import all_genes


@dataclass(frozen=True)
class Wing:
    widths: tuple[int, ...] = (12, 16)
    ratio: float = 1.5


@dataclass(frozen=True, kw_only=True)
class NestedSpace(SearchSpace):
    """A user's own space: a choice under a choice under a choice, and a stage class of its own."""

    Stage: ClassVar[type[Wing]] = Wing

    wings: tuple[Wing, ...] = (Wing(),)
    deepest: tuple[int, ...] = (1, 2)

    def build(self, net, images):
        depth = net.choice("depth", (0, 1, 2))
        x = net.conv2d(images, 8, kernel=3)
        with net.when(depth > 0):
            kind = net.choice("kind", ("plain", "wide", "skip"))
            with net.when(kind.equals("wide")):
                width = net.choice("width", self.wings[0].widths)
                with net.when(width > self.wings[0].widths[0]), net.scope("wide"):
                    dilation = net.choice("dilation", self.deepest)
                    x = net.conv2d(x, width, kernel=1, dilation=dilation)
            with net.when(~kind.equals("skip")), net.scope("second"):
                kernel = net.choice("kernel", (1, 3, 5))
                x = net.conv2d(x, 8, kernel=kernel)
        net.choice("free", (1, 2, 4), scope="platform")
        return classifier(net, x, self.num_classes)


TINY = [
    HybridSpace(
        image_size=8,
        channels=1,
        stages=(HybridStage(depths=(0, 1, 2), widths=(16, 32), kernels=(3,), heads=(1, 2),
                            expansions=(1, 2), mlp_ratios=(1,)),),
    ),
    CNNSpace(
        image_size=8,
        channels=1,
        stages=(
            ConvStage(depths=(1, 2), widths=(8,), kernels=(3, 5), expansions=(2,)),
            ConvStage(depths=(1, 3), widths=(8, 16), kernels=(3,), expansions=(1, 2), stride=2),
        ),
    ),
    ViTSpace(image_size=8, patch_sizes=(2, 4), embed_dims=(8, 16), depths=(1, 2), heads=(1, 2),
             mlp_ratios=(1, 2), head_dim=8),
    NestedSpace(image_size=8),
]  # fmt: skip


class ChosenBuilder(NetworkBuilder):
    """Builds one architecture: `choice` returns the chosen value, so every size is a number.

    What is read from it depends on neither expressions nor tables.
    """

    def __init__(self, values):
        super().__init__()
        self.values = values
        self.reached = {}

    def choice(self, name, values, *, scope="architecture"):
        path = ".".join((*self._scope, name))
        if len(values) == 1:
            return values[0]
        value = self.values[path] if self._condition else self.values.get(path, values[0])
        if self._condition:
            self.reached[path] = value
        return Name(value) if isinstance(value, str) else value


class Name(str):
    def equals(self, other):
        return Truth(self == other)


class Truth(int):
    """A bool that can be negated with `~`."""

    def __invert__(self):
        return Truth(not self)


def build_chosen(space, row):
    """The builder after declaring the network of one full row of genes."""
    frozen = {name: values[0] for name, values in getattr(space, "allowed", ())}
    chosen = {c.name: c.values[g] for c, g in zip(space.choices, row, strict=True)}
    net = ChosenBuilder(frozen | chosen)
    space.build(net, net.input(space.channels, space.image_size, space.image_size))
    return net


def all_rows(space):
    """Every combination of genes, canonical or not."""
    return all_genes([int(s) for s in space.gene_space.sizes])


def any_genes(space, n, seed):
    """Uniform genes, inactive ones not cleared."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, space.gene_space.sizes, (n, len(space.choices))).astype(np.int16)
