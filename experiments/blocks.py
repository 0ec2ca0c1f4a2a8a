"""An architecture as a short row of blocks, for diagrams: layers grouped as they were declared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from latency_models import Part
from search_spaces import Graph, Layer

TRANSITIONS = ("to_tokens", "to_map", "position")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a diagram.

    Attributes:
        name: The group of layers, e.g. `stage1.layer0`.
        kind: `stem`, `conv`, `attention`, `transition` or `head`.
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
    groups: list[tuple[str, list[Layer]]] = []
    for layer in graph.layers[1:]:
        key = _group(layer)
        if groups and groups[-1][0] == key:
            groups[-1][1].append(layer)
        else:
            groups.append((key, [layer]))
    return [
        _block(key, layers, sum(latency.get(layer.name, 0.0) for layer in layers))
        for key, layers in groups
    ]


def _group(layer: Layer) -> str:
    parts = layer.name.split(".")
    if layer.operator in TRANSITIONS and not parts[0].startswith("patch"):
        return ".".join((*parts[:-1], "layout"))
    if len(parts) == 1:
        return "head"
    return ".".join(parts[:2]) if parts[0].startswith("stage") else parts[0]


def _block(name: str, layers: list[Layer], latency_ms: float) -> Block:
    last = layers[-1]
    kind, text, detail = _describe(name, layers)
    return Block(
        name=name,
        kind=kind,
        text=text,
        detail=detail,
        size=f"{last.height}x{last.width}x{last.channels}",
        latency_ms=latency_ms,
    )


def _describe(name: str, layers: list[Layer]) -> tuple[str, str, str]:
    by_operator = {layer.operator: layer for layer in layers}
    if name == "head":
        return "head", "mean, linear", f"{layers[-1].in_channels} to {layers[-1].channels}"
    if "attention" in by_operator:
        layer = by_operator["attention"]
        hidden = max(x.channels for x in layers if x.operator == "linear")
        plural = "s" if layer.heads > 1 else ""
        return (
            "attention",
            f"attention, {layer.heads} head{plural}",
            f"{layer.tokens} tokens, MLP {layer.in_channels} to {hidden}",
        )
    convolutions = [x for x in layers if x.operator == "conv2d"]
    if not convolutions:
        to = "map to tokens" if "to_tokens" in by_operator else "tokens to map"
        return "transition", to, ""
    first = convolutions[0]
    depthwise = [x for x in convolutions if x.groups > 1]
    step = (
        f" /{max(x.stride for x in convolutions)}"
        if any(x.stride > 1 for x in convolutions)
        else ""
    )
    if depthwise:
        k, hidden = depthwise[0].kernel, depthwise[0].channels
        return (
            "conv",
            f"MBConv {k}x{k}{step}",
            f"{first.in_channels} to {hidden} to {layers[-1].channels}",
        )
    kind = "stem" if name.startswith(("stem", "patch")) else "conv"
    what = f"{len(convolutions)} convs" if len(convolutions) > 1 else "conv"
    if first.kernel == first.stride and first.padding == 0:
        what = "patches"
    return (
        kind,
        f"{what} {first.kernel}x{first.kernel}{step}",
        f"{first.in_channels} to {layers[-1].channels}",
    )
