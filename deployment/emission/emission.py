"""A subnet's ONNX graph in the making: what the emitters of the primitives write to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from deployment.emission.forms import DEFAULT, Forms
from deployment.emission.graph_writer import INPUT, Array, GraphWriter
from search_spaces import Layer
from supernet import Subnet

ANY = -1
"""Stands for the number of images in a file that takes any, as `Reshape` wants it."""


@dataclass(frozen=True, slots=True)
class Value:
    """The output of a layer in the file.

    Attributes:
        name: The tensor's name.
        is_map: Whether it is a feature map `n x channels x height x width`; else it is a matrix,
            `(n * tokens) x channels` for tokens and `n x channels` for one vector an image.
        is_blocked: Whether onnxruntime keeps it in blocks of channels, the layout of its
            convolutions. It decides between forms of equal result, not the result.
        is_zero: Whether all its values are zero. Such a tensor is written, and then has a name,
            only where something reads it.
        tokens: For a map that was made from tokens, the tensor of these.
        is_sequence: Whether tokens are `n x tokens x channels` instead of a matrix; for a map
            that was made from tokens, whether these are.
    """

    name: str
    is_map: bool
    is_blocked: bool = False
    is_zero: bool = False
    tokens: str = ""
    is_sequence: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What the weights of the convolution that reads the images take in.

    Attributes:
        factors: What each channel of the images is multiplied by before.
        offsets: What is added to each channel after that; None for nothing.
    """

    factors: Array
    offsets: Array | None


@dataclass(slots=True, kw_only=True)
class Emission(GraphWriter):
    """A subnet's ONNX graph in the making.

    Attributes:
        subnet: The network, in eval mode.
        batch_size: Images a run; `ANY`, which is -1, in a file for any number of them.
        forms: In which forms the layers are written.
        scaling: What the first convolution takes in, if anything.
        values: For each layer of the subnet's graph its output, as far as it was emitted.
        nodes: The nodes so far.
        initializers: The constants so far.
    """

    subnet: Subnet
    batch_size: int
    forms: Forms = DEFAULT
    scaling: Scaling | None = None
    values: list[Value] = field(default_factory=list)
    _matrices: dict[int, Value] = field(default_factory=dict)

    @property
    def is_dynamic(self) -> bool:
        """Whether the file takes any number of images."""
        return self.batch_size == ANY

    @property
    def has_sequences(self) -> bool:
        """Whether tokens are written as `n x tokens x channels`."""
        return self.forms.linear == "matmul"

    def rows(self, per_image: int) -> int:
        """The size of an axis with so many entries an image, for `Reshape`."""
        return ANY if self.is_dynamic else self.batch_size * per_image

    def input(self, layer: Layer, place: int = 0) -> Value:
        """The tensor that a layer reads, the first unless told; zeros become a constant.

        Tokens are a matrix `(n * tokens) x channels`, in whatever form they were written.
        """
        index = layer.inputs[place]
        value = self.written(index)
        if value.is_map or not value.is_sequence:
            return value
        if index not in self._matrices:
            source = self.subnet.graph.layers[index]
            name = self.reshape(value.name, [-1, source.channels], f"{source.name}.matrix")
            self._matrices[index] = Value(name, is_map=False)
        return self._matrices[index]

    def source(self, layer: Layer, place: int = 0) -> Value:
        """As `input`, but tokens in the form in which they were written."""
        return self.written(layer.inputs[place])

    def written(self, index: int) -> Value:
        """The output of the layer at an index; zeros become a constant."""
        value = self.values[index]
        if not value.name:
            self.values[index] = value = self._written_zeros(index, value)
        return value

    def peek(self, layer: Layer) -> list[Value]:
        """All that a layer reads, zeros as they are."""
        return [self.values[index] for index in layer.inputs]

    def weights(self, layer: Layer) -> dict[str, Array]:
        """The weights and statistics of a layer, named as in its static module."""
        return self.subnet.arrays(layer)

    def _written_zeros(self, index: int, value: Value) -> Value:
        layer = self.subnet.graph.layers[index]
        n = 1 if self.is_dynamic else self.batch_size
        if value.is_map:
            shape = [n, layer.channels, layer.height, layer.width]
        elif value.is_sequence or self.is_dynamic:
            shape = [n, layer.tokens, layer.channels]
        else:
            shape = [n * layer.tokens, layer.channels]
        name = self.constant(f"{layer.name}.zeros", np.zeros(shape))
        if self.is_dynamic:
            name = self._repeated(name, shape[1:], f"{layer.name}.of_batch")
            if not value.is_map and not value.is_sequence:
                name = self.reshape(name, [-1, layer.channels], f"{layer.name}.matrix")
        return replace(value, name=name)

    def _repeated(self, x: str, shape: list[int], name: str) -> str:
        """A constant of one image for as many images as there are in a run."""
        images = self.node("Shape", [INPUT], f"{name}.images", start=0, end=1)
        rest = self.constant(f"{name}.image", shape, np.int64)
        sizes = self.node("Concat", [images, rest], f"{name}.sizes", axis=0)
        return self.node("Expand", [x, sizes], name)


Emitter: TypeAlias = Callable[[Emission, Layer], Value]
"""Writes a layer's nodes and says what comes out."""
