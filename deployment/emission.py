"""An ONNX graph in the making: what the emitters of the primitives write to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from search_spaces import Layer
from supernet import Subnet

MICROSOFT = "com.microsoft"
"""The domain of onnxruntime's own operators."""

INPUT, OUTPUT = "images", "logits"

Array = npt.NDArray[np.float32]


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
    """

    name: str
    is_map: bool
    is_blocked: bool = False
    is_zero: bool = False
    tokens: str = ""


@dataclass(slots=True)
class Emission:
    """An ONNX graph in the making.

    Attributes:
        subnet: The network, in eval mode.
        batch_size: Images a run.
        values: For each layer of the subnet's graph its output, as far as it was emitted.
        nodes: The nodes so far.
        initializers: The constants so far.
    """

    subnet: Subnet
    batch_size: int
    values: list[Value] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def input(self, layer: Layer, place: int = 0) -> Value:
        """The tensor that a layer reads, the first unless told; zeros become a constant."""
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

    def constant(self, name: str, value: npt.ArrayLike, dtype: type = np.float32) -> str:
        """Adds an initializer and returns its name."""
        array: npt.NDArray[np.generic] = np.ascontiguousarray(np.asarray(value, dtype))
        if not np.ndim(value):
            array = array.reshape(())
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(
        self, operator: str, inputs: Sequence[str], name: str, domain: str = "", **attributes: Any
    ) -> str:
        """Adds a node with one output, named as the node; returns that name."""
        return self._add(operator, inputs, name, [name], domain, attributes)[0]

    def split(self, x: str, sizes: Sequence[int], axis: int, names: Sequence[str]) -> list[str]:
        """Adds a `Split` into parts of these sizes, named; returns the names."""
        first = names[0]
        lengths = self.constant(f"{first}.sizes", sizes, np.int64)
        return self._add("Split", [x, lengths], f"{first}.split", names, "", {"axis": axis})

    def _add(
        self,
        operator: str,
        inputs: Sequence[str],
        name: str,
        outputs: Sequence[str],
        domain: str,
        attributes: Mapping[str, Any],
    ) -> list[str]:
        names = [f"{n}.output" if n in (INPUT, OUTPUT) else n for n in outputs]
        self.nodes.append(
            helper.make_node(operator, inputs, names, name=name, domain=domain, **attributes)
        )
        return names

    def reshape(self, x: str, sizes: Sequence[int], name: str) -> str:
        """Adds a `Reshape`; -1 stands for what is left."""
        return self.node("Reshape", [x, self.constant(f"{name}.sizes", sizes, np.int64)], name)

    def transpose(self, x: str, order: Sequence[int], name: str) -> str:
        """Adds a `Transpose`."""
        return self.node("Transpose", [x], name, perm=list(order))

    def weights(self, layer: Layer) -> dict[str, Array]:
        """The weights and statistics of a layer, named as in its static module."""
        return self.subnet.arrays(layer)

    def prune(self, wanted: Sequence[str]) -> None:
        """Removes nodes and constants that the wanted tensors do not depend on."""
        needed = set(wanted)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]
        self.initializers = [entry for entry in self.initializers if entry.name in needed]

    def _written_zeros(self, index: int, value: Value) -> Value:
        layer = self.subnet.graph.layers[index]
        if value.is_map:
            shape = [self.batch_size, layer.channels, layer.height, layer.width]
        else:
            shape = [self.batch_size * layer.tokens, layer.channels]
        name = self.constant(f"{layer.name}.zeros", np.zeros(shape))
        return Value(name, value.is_map, is_zero=True)


Emitter: TypeAlias = Callable[[Emission, Layer], Value]
"""Writes a layer's nodes and says what comes out."""
