"""Nodes and constants of an ONNX graph in the making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

MICROSOFT = "com.microsoft"
"""The domain of onnxruntime's own operators."""

INPUT, OUTPUT = "images", "logits"

Array: TypeAlias = npt.NDArray[np.float32]


@dataclass(slots=True, kw_only=True)
class GraphWriter:
    """An ONNX graph in the making.

    Attributes:
        nodes: The nodes so far.
        initializers: The constants so far.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

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

    def reshape(self, x: str, sizes: Sequence[int], name: str) -> str:
        """Adds a `Reshape`; -1 stands for what is left."""
        return self.node("Reshape", [x, self.constant(f"{name}.sizes", sizes, np.int64)], name)

    def transpose(self, x: str, order: Sequence[int], name: str) -> str:
        """Adds a `Transpose`."""
        return self.node("Transpose", [x], name, perm=list(order))

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
