"""A network in sections: the largest parts that are worth a box of their own in a picture.

A section is what was declared in one scope, such as an inverted bottleneck, a transformer block or
a cell. Between two sections a single tensor passes on, so sections always form a chain; parallel
branches are inside of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from search_spaces import Graph, Layer
from search_spaces.block_names import PARTS_OF_BLOCKS, TRANSITIONS, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Layers between two places where a single tensor passes on.

    Attributes:
        name: The scope, e.g. `stage1.layer0`; for branches side by side the names of all, e.g.
            `stage1.a, b`.
        start: Position of its first layer in the graph.
        layers: Its layers, in the order in which they run.
        branches: Where it holds several scopes side by side, the first layer of each and its
            name, positions counted from `start`; empty otherwise.
    """

    name: str
    start: int
    layers: tuple[Layer, ...]
    branches: tuple[tuple[int, str], ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(layer.macs for layer in self.layers)

    def inputs(self, position: int) -> tuple[int, ...]:
        """The inputs of a layer as positions in this section; -1 is the section's input."""
        return tuple(max(-1, i - self.start) for i in self.layers[position].inputs)


def sections(graph: Graph) -> list[Section]:
    """The sections of a graph, in the order in which they run; the input belongs to none."""
    divider = _Divider(graph)
    names = [layer.name for layer in graph.layers]
    tail = len(names)
    while tail > 1 and "." not in names[tail - 1]:
        tail -= 1
    while tail > 1 and names[tail - 1].startswith("head."):
        tail -= 1
    found = divider.divide(1, tail, "")
    return [*found, divider.section("head", tail, len(names))] if tail < len(names) else found


class _Divider:
    """Divides ranges of a graph's layers along their scopes."""

    def __init__(self, graph: Graph) -> None:
        self.layers = graph.layers
        self.last_use = list(range(len(self.layers)))
        for place, layer in enumerate(self.layers):
            for source in layer.inputs:
                self.last_use[source] = place

    def divide(self, start: int, stop: int, scope: str) -> list[Section]:
        """The sections of the layers from `start` to `stop`, all of them inside the scope."""
        if start >= stop:
            return []
        runs = self._runs(start, stop, scope)
        names = [name for name, _, _ in runs]
        if scope and (set(map(plain, names)) & PARTS_OF_BLOCKS or names == [""]):
            return [self.section(scope, start, stop)]
        groups: list[list[tuple[str, int, int]]] = [[]]
        for run in runs:
            if groups[-1] and self._is_cut(run[1]):
                groups.append([])
            groups[-1].append(run)
        if scope and len(groups) == 1 and len(runs) > 1:
            return [self.section(scope, start, stop)]
        found: list[Section] = []
        for group in groups:
            (name, first, last), end = group[0], group[-1][2]
            if len(group) > 1:
                found.append(self._side_by_side(group, scope))
            elif name and self._is_scope(first, scope):
                found += self.divide(first, last, _join(scope, name))
            else:
                found.append(self.section(_join(scope, name), first, end))
        return found

    def section(self, name: str, start: int, stop: int) -> Section:
        return Section(name=name, start=start, layers=self.layers[start:stop])

    def _side_by_side(self, group: Sequence[tuple[str, int, int]], scope: str) -> Section:
        start, stop = group[0][1], group[-1][2]
        named = [name or self.layers[first].operator for name, first, _ in group]
        return Section(
            name=_join(scope, ", ".join(name for name, _, _ in group if name)),
            start=start,
            layers=self.layers[start:stop],
            branches=tuple(
                (first - start, name) for name, (_, first, _) in zip(named, group, strict=True)
            ),
        )

    def _runs(self, start: int, stop: int, scope: str) -> list[tuple[str, int, int]]:
        """Layers of the same scope, one after the other: its name, the first, the one behind.

        Layers that are in the outer scope itself are a run without a name; in the outermost scope
        and where they change the layout they have one.
        """
        depth = scope.count(".") + 1 if scope else 0
        has_scopes = any(self._is_scope(place, scope) for place in range(start, stop))

        def key(place: int) -> str:
            layer = self.layers[place]
            if self._is_scope(place, scope):
                return layer.name.split(".")[depth]
            if layer.operator in TRANSITIONS and has_scopes:
                return "layout"
            return "" if scope else layer.name

        runs = []
        for name, places in groupby(range(start, stop), key):
            run = list(places)
            runs.append((name, run[0], run[-1] + 1))
        return runs

    def _is_scope(self, place: int, scope: str) -> bool:
        """Whether the layer lies in a scope inside the given one."""
        depth = scope.count(".") + 1 if scope else 0
        return self.layers[place].name.count(".") > depth

    def _is_cut(self, place: int) -> bool:
        """Whether a single tensor passes on to the layers from here."""
        return sum(last >= place for last in self.last_use[:place]) == 1


def _join(scope: str, name: str) -> str:
    return ".".join(part for part in (scope, name) if part)
