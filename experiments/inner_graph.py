"""What happens inside a cell, as a small graph: operations, sums, concatenations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from experiments.section_shape import gates
from experiments.section_text import QUIET, describe, operation
from experiments.sections import Section

JOINS = {"add": "+", "multiply": "×", "concat": "concat"}
"""Primitives that bring branches together, and how they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerGraph:
    """The inside of a cell.

    Attributes:
        texts: What each node is; the first is the cell's input and the last its output, both
            without text. Sums and products are written `+` and `×`.
        edges: From node to node.
    """

    texts: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]


def inner_graph(section: Section) -> InnerGraph:
    """The nodes of a section: its operations, or its branches where it has several side by side.

    Normalisation, activation and changes of layout are left out, squeeze-and-excitation is one
    node, and sums of sums are one sum.
    """
    return _of_branches(section) if section.branches else _of_operations(section)


class _Nodes:
    """Nodes and edges as they are found; node 0 is the input."""

    def __init__(self) -> None:
        self.texts: list[str] = [""]
        self.inputs: list[list[int]] = [[]]

    def add(self, text: str, inputs: list[int]) -> int:
        self.texts.append(text)
        self.inputs.append(inputs)
        return len(self.texts) - 1

    def finish(self, last: int) -> InnerGraph:
        """With the output behind the last node, sums of sums made one, and no loose ends."""
        self.add("", [last])
        self._merge_sums()
        needed: set[int] = {len(self.texts) - 1}
        for node in reversed(range(len(self.texts))):
            if node in needed:
                needed.update(self.inputs[node])
        kept = sorted(needed | {0})
        place = {node: i for i, node in enumerate(kept)}
        return InnerGraph(
            texts=tuple(self.texts[node] for node in kept),
            edges=tuple((place[s], place[node]) for node in kept for s in self.inputs[node]),
        )

    def _merge_sums(self) -> None:
        for node, text in enumerate(self.texts):
            if text != "+":
                continue
            merged: list[int] = []
            for source in self.inputs[node]:
                readers = sum(inputs.count(source) for inputs in self.inputs)
                is_inner = self.texts[source] == "+" and readers == 1
                merged += self.inputs[source] if is_inner else [source]
            self.inputs[node] = merged


def _of_operations(section: Section) -> InnerGraph:
    nodes = _Nodes()
    gated = gates(section)
    stands_for = {-1: 0}
    for place, layer in enumerate(section.layers):
        if place in gated:
            continue
        sources = section.inputs(place)
        if layer.operator == "multiply" and any(source in gated for source in sources):
            free = [source for source in sources if source not in gated]
            stands_for[place] = nodes.add("SE", [stands_for[source] for source in free])
        elif layer.operator in QUIET and layer.operator not in JOINS:
            stands_for[place] = stands_for[sources[0]]
        else:
            text = JOINS.get(layer.operator) or operation(layer)
            stands_for[place] = nodes.add(text, [stands_for[source] for source in sources])
    return nodes.finish(stands_for[len(section.layers) - 1])


def _of_branches(section: Section) -> InnerGraph:
    nodes = _Nodes()
    stands_for = {-1: 0}
    ends = [start for start, _ in section.branches[1:]] + [len(section.layers)]
    for (start, name), end in zip(section.branches, ends, strict=True):
        part = replace(
            section,
            name=name,
            start=section.start + start,
            layers=section.layers[start:end],
            branches=(),
        )
        sources = [
            source
            for place in range(start, end)
            for source in section.inputs(place)
            if source < start
        ]
        alone = part.layers[0].operator if len(part.layers) == 1 else ""
        text = JOINS.get(alone) or f"{name}: {_words(part)}"
        node = nodes.add(text, [stands_for[source] for source in dict.fromkeys(sources)])
        stands_for.update(dict.fromkeys(range(start, end), node))
    return nodes.finish(stands_for[len(section.layers) - 1])


def _words(part: Section) -> str:
    said = describe(part)
    return said.detail if said.kind == "cell" else said.text
