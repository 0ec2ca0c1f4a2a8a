"""Weights of several ONNX files in one file beside them, every tensor stored once.

Subnets of one supernet share weights: a narrower layer's are the first rows and columns of a wider
layer's. Nothing here knows about supernets; what is shared is found by content, so it is exact:

- a tensor that is another one, or the first rows of it, refers to the same bytes;
- a tensor that is a corner of another one, cut along further axes, refers to the whole and is cut
  out by a `Slice`, which onnxruntime computes when it opens the file;
- the packed weights of attention are taken apart into those of queries, keys and values, where
  networks differ in them, and joined again when the file is opened: heads are stacked in each;
- any other tensor is stored.

Tensors are looked for among those of the same name, and among those with the same bytes. The
format is ONNX's own for data outside of the file, so the files open in any runtime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

LEAST_BYTES = 256
"""Smaller constants stay in the file: sizes of reshapings, which shape inference reads there."""

ALIGNMENT = 64
"""Bytes; every stored tensor begins at a multiple."""

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stored:
    """A tensor in the file of weights.

    Attributes:
        array: Its values.
        offset: Where its bytes begin.
    """

    array: Array
    offset: int


@dataclass(slots=True, eq=False)
class WeightFile:
    """The bytes of all tensors, in the order in which they were added.

    Attributes:
        parts: The stored tensors.
        size: Bytes so far.
    """

    parts: list[Stored] = field(default_factory=list)
    size: int = 0
    _by_content: dict[str, Stored] = field(default_factory=dict)
    _by_name: dict[str, list[Stored]] = field(default_factory=dict)

    def place(self, name: str, array: Array) -> Stored:
        """Where a tensor's values are: a stored tensor whose corner it is, or itself, stored."""
        key = f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
        found = self._by_content.get(key)
        if found is None:
            of_name = self._by_name.setdefault(name, [])
            found = next((one for one in of_name if is_corner(array, one.array)), None)
            if found is None:
                found = Stored(array=array, offset=self.size)
                self.parts.append(found)
                self.size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
                of_name.append(found)
            self._by_content[key] = found
        return found

    def data(self) -> bytes:
        """The file."""
        data = bytearray(self.size)
        for part in self.parts:
            data[part.offset : part.offset + part.array.nbytes] = part.array.tobytes()
        return bytes(data)


def is_corner(array: Array, of: Array) -> bool:
    """Whether a tensor is the first rows, columns and so on of another one."""
    if array.dtype != of.dtype or array.ndim != of.ndim:
        return False
    if any(a > b for a, b in zip(array.shape, of.shape, strict=True)):
        return False
    corner = of[tuple(slice(size) for size in array.shape)]
    return bool(np.array_equal(corner, array))


def share_weights(
    models: Sequence[onnx.ModelProto], location: str
) -> tuple[list[onnx.ModelProto], WeightFile]:
    """The models with their weights in one file.

    Args:
        models: Whole models; they stay as they are.
        location: The name of the file of weights, in the folder of the models.

    Returns:
        The changed models, and the file.
    """
    weights = WeightFile()
    models = _with_attention_apart(models)
    tensors = [
        {e.name: np.ascontiguousarray(numpy_helper.to_array(e)) for e in model.graph.initializer}
        for model in models
    ]
    large = [
        (name, array)
        for own in tensors
        for name, array in own.items()
        if array.nbytes >= LEAST_BYTES
    ]
    for name, array in sorted(large, key=lambda pair: -pair[1].nbytes):  # the wider ones first
        weights.place(name, array)
    for model, own in zip(models, tensors, strict=True):
        _refer(model, own, weights, location)
    return models, weights


def _with_attention_apart(models: Sequence[onnx.ModelProto]) -> list[onnx.ModelProto]:
    """Copies of the models; packed weights that differ in size are joins of their parts."""
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for model in models:
        for entry in model.graph.initializer:
            shapes.setdefault(entry.name, set()).add(tuple(entry.dims))
    changed = []
    for model in models:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        own = {entry.name: entry for entry in copy.graph.initializer}
        joins = []
        for node in copy.graph.node:
            sizes = [list(a.ints) for a in node.attribute if a.name == "qkv_hidden_sizes"]
            for name in node.input[1:3]:
                if sizes and name in own and len({s[-1] for s in shapes[name]}) > 1:
                    joins.append(_apart(copy, own[name], sizes[0]))
        for join in reversed(joins):
            copy.graph.node.insert(0, join)
        changed.append(copy)
    return changed


def _apart(model: onnx.ModelProto, entry: TensorProto, sizes: Sequence[int]) -> onnx.NodeProto:
    """Replaces a packed tensor by its parts; returns the node that joins them."""
    name, whole = entry.name, numpy_helper.to_array(entry)
    names = [f"{name}.{part}" for part in ("queries", "keys", "values")]
    parts = np.split(whole, np.cumsum(sizes)[:-1], axis=-1)
    model.graph.initializer.remove(entry)
    for part_name, part in zip(names, parts, strict=True):
        model.graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(part), part_name)
        )
    return helper.make_node("Concat", names, [name], name=f"{name}.joined", axis=-1)


def _refer(
    model: onnx.ModelProto, own: dict[str, Array], weights: WeightFile, location: str
) -> None:
    """Replaces a model's tensors by references to where they are."""
    slices = []
    for entry in list(model.graph.initializer):  # more are added below
        array = own[entry.name]
        if array.nbytes < LEAST_BYTES:
            continue
        stored = weights.place(entry.name, array)
        whole = stored.array
        if array.shape[1:] == whole.shape[1:]:  # first rows are bytes in a row
            _point(entry, array, stored.offset, location)
            continue
        name = entry.name
        entry.name = f"{name}.whole"
        _point(entry, whole, stored.offset, location)
        slices += _slice(model, name, array)
    for node in reversed(slices):
        model.graph.node.insert(0, node)


def _point(entry: TensorProto, array: Array, offset: int, location: str) -> None:
    """Makes a constant refer to bytes of the file."""
    kind, name = entry.data_type, entry.name
    entry.Clear()
    entry.name, entry.data_type = name, kind
    entry.dims.extend(array.shape)
    entry.data_location = TensorProto.EXTERNAL
    facts = {"location": location, "offset": str(offset), "length": str(array.nbytes)}
    for key, value in facts.items():
        entry.external_data.add(key=key, value=value)


def _slice(model: onnx.ModelProto, name: str, array: Array) -> list[onnx.NodeProto]:
    """The node that cuts a tensor out of the whole."""
    axes = np.arange(array.ndim, dtype=np.int64)
    ends = np.asarray(array.shape, np.int64)
    names = [f"{name}.whole"]
    for what, values in (("starts", np.zeros_like(axes)), ("ends", ends), ("axes", axes)):
        model.graph.initializer.append(numpy_helper.from_array(values, f"{name}.{what}"))
        names.append(f"{name}.{what}")
    return [helper.make_node("Slice", names, [name], name=f"{name}.cut")]
