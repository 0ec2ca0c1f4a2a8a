"""Tiny spaces with conditions of every kind, and costs that no order of sizes explains."""

from dataclasses import dataclass

import numpy as np

from search_spaces import SearchSpace, layer_values
from search_spaces.blocks import classifier
from search_spaces.expression import either, is_equal, negate


@dataclass(frozen=True, kw_only=True)
class EitherSpace(SearchSpace):
    """A condition that can hold where a choice that it reads is inactive."""

    def build(self, net, images):
        depth = net.choice("depth", (0, 1))
        with net.when(depth > 0):
            kind = net.choice("kind", ("a", "b"))
        with net.when(either(is_equal(depth, 0), is_equal(kind, "a"))):
            kernel = net.choice("kernel", (1, 3, 5))
        with net.when(depth > 0), net.when(is_equal(kind, "a")):
            images = net.conv2d(images, 8, kernel=kernel)
        return classifier(net, images, self.num_classes)


@dataclass(frozen=True, kw_only=True)
class DeepSpace(SearchSpace):
    """Choices under choices, written so that each may be a plain value."""

    def build(self, net, images):
        depth = net.choice("depth", (0, 1, 2))
        x = net.conv2d(images, 8, kernel=3)
        with net.when(depth > 0):
            kind = net.choice("kind", ("plain", "wide", "skip"))
            with net.when(is_equal(kind, "wide")):
                width = net.choice("width", (12, 16))
                with net.when(width > 12), net.scope("wide"):
                    dilation = net.choice("dilation", (1, 2))
                    x = net.conv2d(x, width, kernel=1, dilation=dilation)
            with net.when(negate(is_equal(kind, "skip"))), net.scope("second"):
                x = net.conv2d(x, 8, kernel=net.choice("kernel", (1, 3, 5)))
        net.choice("free", (1, 2, 4), scope="platform")
        return classifier(net, x, self.num_classes)


@dataclass(frozen=True, kw_only=True)
class DeadSpace(SearchSpace):
    """A choice that would need one that is inactive wherever the rest of its condition holds."""

    def build(self, net, images):
        first = net.choice("first", (0, 1))
        with net.when(is_equal(first, 0)):
            second = net.choice("second", (0, 1))
        with net.when(is_equal(first, 1)), net.when(is_equal(second, 1)):
            net.choice("dead", (1, 2, 3))
        return classifier(net, images, self.num_classes)


def made_up(space, seed):
    """A cost that no order of sizes explains, 0 for skipped layers, and the cost of every row."""
    rng = np.random.default_rng(seed)
    _, macs = layer_values(space, "macs")
    layer = rng.normal(size=space.layers.rows)[space.layers.row_of_variant()]
    values = np.sin(1 + macs * layer) * space.layers.columns["active"]
    return values, values[space.layers.codes(space.enumerate())].sum(axis=0)
