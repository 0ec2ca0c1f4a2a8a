"""Which sections of two architectures of a space differ, and in what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from experiments.sections import Section
from search_spaces import Layer
from search_spaces.primitives import ATTRIBUTES

Pair: TypeAlias = tuple[Section | None, Section | None]

MOST_NOTES = 2
"""Lines that say what is different inside of a section."""


def compare(
    first: Sequence[Section], second: Sequence[Section], order: Mapping[str, int]
) -> list[tuple[str, Pair]]:
    """Sections of the same name side by side, None where one has none, in the space's order.

    Args:
        first: The sections of one architecture.
        second: Those of the other.
        order: For each layer of the space by name its position.
    """
    mine, theirs = _by_name(first), _by_name(second)
    pairs: dict[tuple[str, int], Pair] = {
        key: (mine.get(key), theirs.get(key)) for key in {**mine, **theirs}
    }

    def place(key: tuple[str, int]) -> int:
        return min(order[s.layers[0].name] for s in pairs[key] if s is not None)

    return [(key[0], pairs[key]) for key in sorted(pairs, key=place)]


def is_same(first: Section, second: Section) -> bool:
    """Whether every layer is the same, but for where the section stands."""
    return _signature(first) == _signature(second)


def notes_on(section: Section, other: Section) -> tuple[str, ...]:
    """What a section has otherwise than the other, in a few short lines, most frequent first."""
    mine = {layer.name for layer in section.layers}
    theirs = {layer.name: layer for layer in other.layers}
    found: Counter[str] = Counter()
    for layer in section.layers:
        if layer.name not in theirs:
            found[f"with {layer.operator.replace('_', ' ')}"] += 1
            continue
        for name in ATTRIBUTES:
            if getattr(layer, name) != getattr(theirs[layer.name], name):
                found[f"{name.replace('_', ' ')} {_value(layer, name)}"] += 1
    for layer in other.layers:
        if layer.name not in mine:
            found[f"without {layer.operator.replace('_', ' ')}"] += 1
    return tuple(words for words, _ in found.most_common(MOST_NOTES))


def _value(layer: Layer, name: str) -> str:
    words = {"activation": layer.activation_name, "mixing": layer.mixing_name}
    return words.get(name) or str(getattr(layer, name))


def _by_name(found: Sequence[Section]) -> dict[tuple[str, int], Section]:
    """By name and by how many of that name came before."""
    counts: Counter[str] = Counter()
    named = {}
    for section in found:
        named[section.name, counts[section.name]] = section
        counts[section.name] += 1
    return named


def _signature(section: Section) -> list[tuple[object, ...]]:
    return [
        (
            layer.name,
            layer.operator,
            section.inputs(place),
            *(getattr(layer, name) for name in ATTRIBUTES),
        )
        for place, layer in enumerate(section.layers)
    ]
