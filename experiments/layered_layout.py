"""Where the nodes of a small directed graph stand: in columns, from left to right.

The steps are those of Sugiyama, Tagawa, Toda: Methods for visual understanding of hierarchical
system structures, IEEE Transactions on Systems, Man, and Cybernetics 11(2), 1981: columns by the
longest path, bends where an edge passes a column, an order in each column by the means of the
neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 8
"""Passes over the columns to order them; more change small graphs no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where everything stands, in the unit of the sizes; `y` goes downwards.

    Attributes:
        centres: The middle of each node.
        paths: For each edge the points that it passes, from the middle of its first node to that
            of its last.
        width: Of the whole.
        height: Of the whole.
    """

    centres: tuple[tuple[float, float], ...]
    paths: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    height: float


def place_nodes(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    *,
    gap: float,
    spacing: float,
) -> Placement:
    """Places the nodes of a graph whose edges go from smaller to larger numbers.

    Args:
        sizes: Width and height of each node.
        edges: Pairs of node numbers.
        gap: Between two columns.
        spacing: Between two nodes of a column.
    """
    column = [0] * len(sizes)
    for first, second in sorted(edges, key=lambda edge: edge[1]):
        column[second] = max(column[second], column[first] + 1)
    graph = _WithBends(column, edges)
    order = graph.ordered()
    all_sizes = [*sizes, *[(0.0, spacing)] * (len(graph.column) - len(sizes))]
    heights = [
        sum(all_sizes[node][1] for node in nodes) + spacing * (len(nodes) - 1) for nodes in order
    ]
    height = max(heights)
    centres = [(0.0, 0.0)] * len(all_sizes)
    x = 0.0
    for nodes, used in zip(order, heights, strict=True):
        width = max(all_sizes[node][0] for node in nodes)
        y = (height - used) / 2
        for node in nodes:
            centres[node] = (x + width / 2, y + all_sizes[node][1] / 2)
            y += all_sizes[node][1] + spacing
        x += width + gap
    return Placement(
        centres=tuple(centres[: len(sizes)]),
        paths=tuple(tuple(centres[node] for node in path) for path in graph.paths),
        width=x - gap,
        height=height,
    )


class _WithBends:
    """The graph with a further node wherever an edge passes a column."""

    def __init__(self, column: Sequence[int], edges: Sequence[tuple[int, int]]) -> None:
        self.column = list(column)
        self.paths: list[list[int]] = []
        for first, second in edges:
            path = [first]
            for between in range(column[first] + 1, column[second]):
                self.column.append(between)
                path.append(len(self.column) - 1)
            self.paths.append([*path, second])
        self.before: list[list[int]] = [[] for _ in self.column]
        self.behind: list[list[int]] = [[] for _ in self.column]
        for path in self.paths:
            for first, second in pairwise(path):
                self.before[second].append(first)
                self.behind[first].append(second)

    def ordered(self) -> list[list[int]]:
        """The nodes of each column from top to bottom."""
        columns: list[list[int]] = [[] for _ in range(max(self.column) + 1)]
        for node, column in enumerate(self.column):
            columns[column].append(node)
        best, fewest = [list(nodes) for nodes in columns], self._crossings(columns)
        for sweep in range(SWEEPS):
            forwards = sweep % 2 == 0
            neighbours = self.before if forwards else self.behind
            for nodes in columns if forwards else reversed(columns):
                place = {
                    node: (row + 0.5) / len(line)
                    for line in columns
                    for row, node in enumerate(line)
                }
                nodes.sort(key=lambda node: self._mean(node, neighbours[node], place))
            crossings = self._crossings(columns)
            if crossings < fewest:
                best, fewest = [list(nodes) for nodes in columns], crossings
        return best

    def _mean(self, node: int, neighbours: Sequence[int], place: dict[int, float]) -> float:
        if not neighbours:
            return place[node]
        return sum(place[other] for other in neighbours) / len(neighbours)

    def _crossings(self, columns: Sequence[Sequence[int]]) -> int:
        row = {node: place for nodes in columns for place, node in enumerate(nodes)}
        total = 0
        for nodes in columns:
            lines = [(row[node], row[other]) for node in nodes for other in self.behind[node]]
            total += sum(
                (a - c) * (b - d) < 0 for i, (a, b) in enumerate(lines) for c, d in lines[i + 1 :]
            )
        return total
