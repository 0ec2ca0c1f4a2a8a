"""An architecture as a short row of blocks, for diagrams: layers grouped as they were declared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from experiments.section_text import describe
from experiments.sections import Section, sections
from latency_models import Part
from search_spaces import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a diagram.

    Attributes:
        name: The group of layers, e.g. `stage1.layer0`.
        kind: `stem`, `conv`, `attention`, `cell`, `transition`, `head` or `other`.
        text: What it is, e.g. `MBConv 5x5`.
        detail: Its sizes, e.g. `16 to 48 to 16 channels`.
        size: Its output, height x width x channels.
        latency_ms: Its share of the predicted latency.
    """

    name: str
    kind: str
    text: str
    detail: str
    size: str
    latency_ms: float


def blocks(graph: Graph, parts: Iterable[Part]) -> list[Block]:
    """The blocks of a graph, in the order in which they run.

    Args:
        graph: The architecture's layers.
        parts: The latency of its kernels, named by the last layer that each covers.
    """
    latency = {part.name: part.latency_ms for part in parts}
    return [
        _block(section, sum(latency.get(layer.name, 0.0) for layer in section.layers))
        for section in sections(graph)
    ]


def _block(section: Section, latency_ms: float) -> Block:
    last = section.layers[-1]
    said = describe(section)
    return Block(
        name=section.name,
        kind=said.kind,
        text=said.text,
        detail=said.detail,
        size=f"{last.height}x{last.width}x{last.channels}",
        latency_ms=latency_ms,
    )
