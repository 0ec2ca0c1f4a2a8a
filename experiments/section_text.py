"""What a section of a network is, in a few words: its kind, a name for it, its sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from experiments.section_shape import gates, shape_of
from experiments.sections import Section
from search_spaces import Layer
from search_spaces.block_names import TRANSITIONS

QUIET = frozenset(
    {
        "input", "batch_norm", "layer_norm", "activation", "add", "multiply", "scale", "squeeze",
        "concat", "channel_shuffle", *TRANSITIONS,
    }
)  # fmt: skip
"""Primitives that a short description leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A section in words.

    Attributes:
        kind: `stem`, `conv`, `attention`, `cell`, `transition`, `head` or `other`.
        text: What it is, e.g. `MBConv 5x5 + SE`.
        detail: Its sizes, e.g. `16 to 48 to 16`.
        has_shortcut: Whether its input, or a projection of it, is added to what it computes.
    """

    kind: str
    text: str
    detail: str = ""
    has_shortcut: bool = False


def describe(section: Section) -> Description:
    """A section in words; one whose layers form no chain is a `cell`."""
    if section.name == "head":
        return _head(section)
    shape = shape_of(section)
    if not shape.is_chain:
        return Description(kind="cell", text="branches" if section.branches else "cell",
                           detail=_counted(_main(section, frozenset())))  # fmt: skip
    main = _main(section, shape.shortcut)
    operators = [layer.operator for layer in main]
    if "attention" in operators:
        kind, text, detail = _attention(main)
    elif "conv2d" in operators:
        kind, text, detail = _convolutions(section, main)
    else:
        kind, text, detail = _other(section, main)
    starts = any(part.startswith(("stem", "patch")) for part in section.name.split("."))
    if starts and kind == "conv":
        kind = "stem"
    return Description(kind=kind, text=text, detail=detail, has_shortcut=shape.has_shortcut)


def operation(layer: Layer) -> str:
    """A layer in two words, e.g. `conv 3x3 /2`."""
    step = f" /{layer.stride}" if layer.stride > 1 else ""
    size = f" {layer.kernel}x{layer.kernel}{step}"
    if layer.operator == "conv2d":
        what = "depthwise" if layer.is_depthwise else "conv"
        dilated = f" dilated {layer.dilation}" if layer.dilation > 1 else ""
        in_groups = "" if layer.groups == 1 or layer.is_depthwise else f" in {layer.groups} groups"
        return f"{what}{size}{dilated}{in_groups}"
    if layer.operator in ("avg_pool", "max_pool"):
        return ("mean" if layer.operator == "avg_pool" else "maximum") + size
    if layer.operator == "activation":
        return layer.activation_name
    return {"global_pool": "mean"}.get(layer.operator, layer.operator.replace("_", " "))


def _main(section: Section, shortcut: frozenset[int]) -> list[Layer]:
    """The layers that make the section what it is: no gates, no shortcuts, nothing quiet."""
    left_out = shortcut | gates(section)
    return [
        layer
        for place, layer in enumerate(section.layers)
        if place not in left_out and layer.operator not in QUIET
    ]


def _head(section: Section) -> Description:
    main = _main(section, frozenset())
    return Description(kind="head", text=_listed(main), detail=_channels(main))


def _attention(main: Sequence[Layer]) -> tuple[str, str, str]:
    layer = next(layer for layer in main if layer.operator == "attention")
    what = "linear attention" if layer.mixing_name == "linear" else "attention"
    details = [f"{layer.tokens} tokens"]
    if layer.window:
        details = [f"windows {layer.window}x{layer.window}"]
    linear = [x for x in main if x.operator == "linear"]
    count = (len(linear) - 1) // 2
    if count > 0:
        hidden = max(x.channels for x in linear)
        several = f"{count} MLPs" if count > 1 else "MLP"
        details.append(f"{several} {layer.in_channels} to {hidden}")
    plural = "s" if layer.heads > 1 else ""
    return "attention", f"{what}, {layer.heads} head{plural}", ", ".join(details)


def _convolutions(section: Section, main: Sequence[Layer]) -> tuple[str, str, str]:
    convolutions = [layer for layer in main if layer.operator == "conv2d"]
    deep = [layer for layer in convolutions if layer.is_depthwise]
    rest = [layer for layer in convolutions if not layer.is_depthwise]
    stride = max(layer.stride for layer in convolutions)
    step = f" /{stride}" if stride > 1 else ""
    gate = " + SE" if gates(section) else ""
    first, last = convolutions[0], convolutions[-1]
    if len(convolutions) < len(main):
        return "conv", _listed(main), _channels(main)
    if len(deep) == 1 and rest and all(layer.kernel == 1 for layer in rest):
        size, hidden = deep[0].kernel, deep[0].channels
        groups = max(layer.groups for layer in rest)
        in_groups = f" in {groups} groups" if groups > 1 else ""
        channels = f"{first.in_channels} to {hidden} to {last.channels}"
        return "conv", f"MBConv {size}x{size}{step}{in_groups}{gate}", channels
    if len(rest) == 2 and not deep and first.kernel > last.kernel == 1:
        channels = f"{first.in_channels} to {first.channels} to {last.channels}"
        return "conv", f"fused MBConv {first.kernel}x{first.kernel}{step}{gate}", channels
    if len(main) == 1 and first.kernel == first.stride > 1 and first.padding == 0:
        patches = f"patches {first.kernel}x{first.kernel}{step}"
        return "conv", patches, f"{first.in_channels} to {last.channels}"
    if len({(x.kernel, x.groups == 1) for x in convolutions}) == 1 and not deep:
        what = operation(first).removesuffix(f" /{first.stride}")
        channels = f"{first.in_channels} to {last.channels}"
        return "conv", f"{_several(what, len(rest))}{step}{gate}", channels
    return "conv", _listed(main) + gate, _channels(main)


def _other(section: Section, main: Sequence[Layer]) -> tuple[str, str, str]:
    operators = [layer.operator for layer in section.layers]
    if main:
        first, last = main[0], main[-1]
        sizes = f"{first.in_height}x{first.in_width} to {last.height}x{last.width}"
        resized = set(operators) == {"resize"}
        return ("transition" if resized else "other"), _listed(main), (
            sizes if resized else _channels(main)
        )  # fmt: skip
    if set(operators) <= set(TRANSITIONS):
        to = {"to_tokens": "map to tokens", "to_map": "tokens to map"}
        words = [to[operator] for operator in operators if operator in to]
        return "transition", words[0] if words else "positions", ""
    return "other", ", ".join(dict.fromkeys(operation(layer) for layer in section.layers)), ""


def _listed(main: Sequence[Layer]) -> str:
    """The operations one after the other, those in a row that are alike as one."""
    runs = ((words, len(list(alike))) for words, alike in groupby(main, operation))
    return ", ".join(_several(words, count) for words, count in runs)


def _counted(main: Sequence[Layer]) -> str:
    counts = Counter(operation(layer) for layer in main)
    return ", ".join(_several(words, count) for words, count in counts.items())


def _several(words: str, count: int) -> str:
    return words if count == 1 else f"{count} {words.replace('conv', 'convs', 1)}"


def _channels(main: Sequence[Layer]) -> str:
    """The channels on the way, e.g. `16 to 64 to 10`."""
    weighted = [layer for layer in main if layer.parameters or layer.operator == "conv2d"]
    if not weighted:
        return ""
    chain = [weighted[0].in_channels, *(layer.channels for layer in weighted)]
    distinct = [channels for channels, _ in groupby(chain)]
    return " to ".join(map(str, distinct if len(distinct) > 1 else distinct * 2))
