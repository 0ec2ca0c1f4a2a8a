"""Channels that stand for the same thing in several layers, found in a space's declaration.

A channel that a convolution writes is read by the layers behind it, and a normalisation in between
keeps it in its place. Whoever moves the channel in one of them must move it in all. The groups of
such channels are the classes of a union-find over what the declared layers read and write:

- normalisation, activation, pooling, resizing, depthwise convolution, gates, sums and whatever
  else works channel by channel tie what they read to what they write;
- dense convolutions, linear maps and attention read one group and write another;
- a layer that is skipped passes on its first input, so who reads it may read that input instead:
  both are tied, wherever the conditions allow it;
- images, logits, concatenations, grouped convolutions, channel shuffles and a user's primitives
  have a fixed order of channels.

Attention has three groups of its own: its heads as units, and within each head the dimensions of
queries and keys, and those of values. Heads and values also order what attention writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from search_spaces import SearchSpace
from supernet.layer_sources import Sources

Kind: TypeAlias = Literal["channels", "heads", "query_key", "value"]

TIED: Final = frozenset({
    "batch_norm", "layer_norm", "activation", "add", "multiply", "scale", "avg_pool", "max_pool",
    "global_pool", "squeeze", "resize", "zeros", "position", "to_tokens", "to_map",
})  # fmt: skip
"""Primitives that write a channel where they read it."""

WRITTEN: Final[Mapping[str, tuple[tuple[str, int], ...]]] = {
    "conv2d": (("weight", 0), ("bias", 0)),
    "linear": (("weight", 0), ("bias", 0)),
    "batch_norm": (("weight", 0), ("bias", 0), ("running_mean", 0), ("running_var", 0)),
    "layer_norm": (("weight", 0), ("bias", 0)),
    "scale": (("factors", 1),),
    "position": (("embedding", 0),),
}
"""The tensors of a primitive that have an axis for what it writes, with that axis."""

READ: Final[Mapping[str, tuple[tuple[str, int], ...]]] = {
    "conv2d": (("weight", 1),),
    "linear": (("weight", 1),),
    "attention": (("query", 2), ("key", 2), ("value", 2)),
}
"""The tensors of a primitive that have an axis for what it reads, with that axis."""

OUT: Final = -1
_Axis: TypeAlias = tuple[int, int]  # a layer, and the number of its input or OUT


class _Widths(TypedDict):
    size: int
    widths: tuple[int, ...]
    bands: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the channels of a group lie in a tensor of an elastic primitive.

    `axes` axes from `axis` on, taken together, are `blocks x size x inner` values, of which the
    group orders the middle ones.

    Attributes:
        layer: The declared layer.
        parameter: The tensor's name in the layer's primitive. The `running_mean` and `running_var`
            of a batch norm are no weights of a supernet; they stand here for statistics.
        axis: The first axis.
        axes: How many axes are taken together.
        inner: How many values move as one.
    """

    layer: str
    parameter: str
    axis: int
    axes: int = 1
    inner: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """Channels, heads or dimensions of heads that are permuted together.

    Attributes:
        name: The first layer that writes them; heads and their dimensions are
            `<layer>.heads`, `<layer>.query_key` and `<layer>.value`.
        kind: What is permuted.
        size: How many there are in the largest.
        blocks: The number of heads where the dimensions of each head are permuted by themselves,
            else 1.
        widths: The sizes that the space offers, in ascending order.
        bands: Sizes whose first channels must stay the first, because some layer, or one of the
            largest networks, holds only these.
        places: Where they lie, in all tensors.
        readers: Those of the places whose weights read them.
        is_residual: Whether they pass through a sum.
        fixed_by: Why they cannot be permuted; empty where they can.
    """

    name: str
    kind: Kind
    size: int
    blocks: int
    widths: tuple[int, ...]
    bands: tuple[int, ...]
    places: tuple[Place, ...]
    readers: tuple[Place, ...]
    is_residual: bool
    fixed_by: str


def channel_groups(space: SearchSpace) -> tuple[ChannelGroup, ...]:
    """All groups of a space, in the order of the layers that write them first."""
    return tuple(_Analysis(space).groups())


class _Analysis:
    def __init__(self, space: SearchSpace) -> None:
        self.nodes = space.nodes
        self.sizes = _Sizes(space)
        self.above: dict[_Axis, _Axis] = {}
        self.fixed: dict[_Axis, str] = {}
        sources = Sources(space.choices, space.nodes)
        for place, node in enumerate(self.nodes):
            inputs = range(len(node.inputs))
            for k in inputs:
                if self._keeps(place):
                    self._union((place, k), (place, OUT))
                for source in sources.of_input(place, k):
                    self._union((place, k), (source, OUT))
            if not (self._keeps(place) or self._mixes(place)):
                for k in (*inputs, OUT):
                    self.fixed[place, k] = f"layer {node.name!r} has an order of channels"
        self.fixed[0, OUT] = "these are the images' channels"
        for source in sources.of_output():
            self.fixed[source, OUT] = "these are the logits"

    def _keeps(self, place: int) -> bool:
        """Whether a layer writes every channel where it reads it."""
        return self.nodes[place].operator in TIED or self.sizes.is_depthwise(place)

    def _mixes(self, place: int) -> bool:
        """Whether a layer makes each channel from all that it reads."""
        operator = self.nodes[place].operator
        return operator in ("linear", "attention") or self.sizes.is_dense(place)

    def _find(self, axis: _Axis) -> _Axis:
        while (above := self.above.setdefault(axis, axis)) != axis:
            self.above[axis] = self.above[above]
            axis = above
        return axis

    def _union(self, first: _Axis, second: _Axis) -> None:
        self.above[self._find(second)] = self._find(first)

    def groups(self) -> Iterator[ChannelGroup]:
        classes: dict[_Axis, list[_Axis]] = {}
        for place, node in enumerate(self.nodes):
            for k in (*range(len(node.inputs)), OUT):
                classes.setdefault(self._find((place, k)), []).append((place, k))
        for axes in sorted(classes.values(), key=self._writers):
            yield from self._class(axes)

    def _writers(self, axes: Sequence[_Axis]) -> list[int]:
        """The layers that make the channels, in order."""
        return [place for place, k in axes if k == OUT and not self._keeps(place)]

    def _class(self, axes: Sequence[_Axis]) -> Iterator[ChannelGroup]:
        writers = self._writers(axes)
        attention = [p for p in writers if self.nodes[p].operator == "attention"]
        group = ChannelGroup(
            name=self.nodes[writers[0]].name,
            kind="channels",
            blocks=1,
            **self.sizes.of_channels([axis for axis in axes if axis[1] <= 0]),
            places=tuple(place for axis in axes for place in self._places(axis)),
            readers=tuple(place for axis in axes for place in self._readers(axis)),
            is_residual=any(self.nodes[place].operator == "add" for place, _ in axes),
            fixed_by=next((self.fixed[axis] for axis in axes if axis in self.fixed), ""),
        )
        if attention and (len(writers) > 1 or group.is_residual) and not group.fixed_by:
            name = self.nodes[attention[0]].name
            group = replace(group, fixed_by=f"heads of {name!r} meet channels of other layers")
        if not attention or group.fixed_by:
            yield group
        for place in attention:
            yield from self._attention(place, group)

    def _attention(self, place: int, written: ChannelGroup) -> Iterator[ChannelGroup]:
        """Heads, and dimensions within heads, of an attention layer and of what it writes."""
        layer = self.nodes[place].name
        heads, qk, v = (self.sizes.of(place, a) for a in ("heads", "qk_dim", "v_dim"))
        queries, values = (
            tuple(Place(layer=layer, parameter=name, axis=0, axes=2) for name in names)
            for names in (("query", "query_bias", "key", "key_bias"), ("value", "value_bias"))
        )
        if not written.fixed_by:
            values += written.places
            by_head = _units(queries, qk["size"]) + _units(values, v["size"])
            readers = _units(written.readers, v["size"])
            yield replace(written, name=f"{layer}.heads", kind="heads", **heads, places=by_head,
                          readers=readers)  # fmt: skip
            yield replace(written, name=f"{layer}.value", kind="value", **v, places=values,
                          blocks=heads["size"])  # fmt: skip
        yield ChannelGroup(
            name=f"{layer}.query_key", kind="query_key", **qk, places=queries, readers=(),
            blocks=heads["size"], is_residual=False, fixed_by="",
        )  # fmt: skip

    def _places(self, axis: _Axis) -> list[Place]:
        """The weights that lie along an axis of a layer, those of attention's output excepted."""
        place, k = axis
        node = self.nodes[place]
        written = WRITTEN.get(node.operator, ()) if k == OUT else ()
        return [
            Place(layer=node.name, parameter=name, axis=n) for name, n in written
        ] + self._readers(axis)

    def _readers(self, axis: _Axis) -> list[Place]:
        """The weights by which a layer that mixes channels reads them."""
        place, k = axis
        node = self.nodes[place]
        if k == OUT or not self._mixes(place):
            return []
        return [Place(layer=node.name, parameter=name, axis=n) for name, n in READ[node.operator]]


def _units(places: Sequence[Place], inner: int) -> tuple[Place, ...]:
    return tuple(replace(place, inner=inner) for place in places)


class _Sizes:
    """What sizes the layers of a space have, over all variants and in the largest networks."""

    def __init__(self, space: SearchSpace) -> None:
        self._columns = space.layers.columns
        self._ends = [*space.layers.offsets.tolist(), space.layers.variants]
        largest = space.layer_table(space.extremes("largest"))
        names = ("active", "channels", "in_channels", "heads", "qk_dim", "v_dim")
        self._largest = {name: largest.column(name) for name in names}
        self._nodes = space.nodes

    def _variants(self, place: int, name: str) -> npt.NDArray[np.int64]:
        """A column of a layer's variants."""
        mine = slice(self._ends[place], self._ends[place + 1])
        return np.asarray(self._columns[name][mine][self._columns["active"][mine] > 0])

    def is_depthwise(self, place: int) -> bool:
        """Whether a layer is a convolution of every channel by itself, in all its variants."""
        sizes = [self._variants(place, name) for name in ("groups", "in_channels", "channels")]
        is_conv = self._nodes[place].operator == "conv2d"
        return is_conv and bool((sizes[0] == sizes[1]).all() and (sizes[0] == sizes[2]).all())

    def is_dense(self, place: int) -> bool:
        """Whether a layer is a convolution in which every output reads every input."""
        is_conv = self._nodes[place].operator == "conv2d"
        return is_conv and bool((self._variants(place, "groups") == 1).all())

    def of(self, place: int, name: str) -> _Widths:
        """An attribute of one layer."""
        return self._widths([(place, name)])

    def of_channels(self, axes: Sequence[_Axis]) -> _Widths:
        """The channels of all that lies along a group."""
        return self._widths([(p, "channels" if k == OUT else "in_channels") for p, k in axes])

    def _widths(self, attributes: Sequence[tuple[int, str]]) -> _Widths:
        offered: set[int] = set()
        bands: set[int] = set()
        for place, name in attributes:
            values = self._variants(place, name)
            there = self._largest["active"][:, place] > 0
            offered |= set(values.tolist())
            bands |= {int(values.max()), *self._largest[name][there, place].tolist()}
        size = max(offered)
        return {
            "size": size,
            "widths": tuple(sorted(offered)),
            "bands": tuple(sorted(bands - {size})),
        }
