"""A network as a chain of segments: where all paths meet, the next segment begins.

Cells, residual blocks and stems follow one another, and what crosses from one to the next is a
single tensor. So a network falls into *segments* at the layers that every path from input to
output passes. Between two of them there are few layers, few choices and few paths, which makes
questions about paths cheap: a whole network of 15 cells has 4^15 paths, each of its cells 4.

The chain is that of the space, with all its layers; single architectures skip some of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from search_spaces import SearchSpace

MOST_PATHS = 64
"""A segment with more paths is known by its layers alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Layers between two that every path passes.

    Attributes:
        start: The layer whose output the segment reads.
        layers: Its layers in the order in which they run; the last is its output.
        genes: The genes that its layers read.
        paths: Its paths, each the layers passed after `start` to the last; none where there are
            more than `MOST_PATHS`.
    """

    start: int
    layers: tuple[int, ...]
    genes: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]

    @property
    def is_chain(self) -> bool:
        """Whether there is one path, over all layers."""
        return len(self.paths) == 1


def segments(space: SearchSpace) -> tuple[Segment, ...]:
    """The segments of a space's networks, from the input to the output.

    Layers in a row that read the same genes are one segment.

    >>> from search_spaces.standard import NASBench201
    >>> cells = [s for s in segments(NASBench201()) if s.genes]
    >>> len(cells), len(cells[0].paths)
    (15, 4)
    """
    inputs = [node.inputs for node in space.nodes]
    strides = space.layers.strides
    from_input, to_output = _paths_through(inputs)
    total = from_input[-1]
    used = [v for v in range(len(inputs)) if from_input[v] and to_output[v]]
    found: list[Segment] = []
    start, inside = used[0], list[int]()
    for v in used[1:]:
        inside.append(v)
        if from_input[v] * to_output[v] != total:
            continue
        genes = tuple(int(g) for g in np.flatnonzero(strides[inside].any(axis=0)))
        made = Segment(start=start, layers=tuple(inside), genes=genes, paths=())
        found.append(replace(made, paths=_paths(made, inputs)))
        start, inside = v, []
    return tuple(_merged(found))


def _paths_through(inputs: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """For each layer the numbers of paths that lead to it from the input, and on to the output."""
    from_input, to_output = [0] * len(inputs), [0] * len(inputs)
    from_input[0], to_output[-1] = 1, 1
    for v, sources in enumerate(inputs):
        from_input[v] += sum(from_input[s] for s in sources)
    for v in range(len(inputs) - 1, -1, -1):
        for s in inputs[v]:
            to_output[s] += to_output[v]
    return from_input, to_output


def _paths(segment: Segment, inputs: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    paths: dict[int, list[tuple[int, ...]]] = {segment.start: [()]}
    for v in segment.layers:
        paths[v] = [(*path, v) for s in inputs[v] for path in paths.get(s, ())]
        if len(paths[v]) > MOST_PATHS:
            return ()
    return tuple(paths[segment.layers[-1]])


def _merged(found: Sequence[Segment]) -> list[Segment]:
    """Joins single-path segments in a row that read the same genes."""
    merged: list[Segment] = []
    for segment in found:
        last = merged[-1] if merged else None
        if last and last.is_chain and segment.is_chain and last.genes == segment.genes:
            merged[-1] = Segment(
                start=last.start,
                layers=last.layers + segment.layers,
                genes=last.genes,
                paths=((*last.paths[0], *segment.paths[0]),),
            )
        else:
            merged.append(segment)
    return merged
