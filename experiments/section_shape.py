"""How the layers of a section hang together: a chain with shortcuts, or branches side by side."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.sections import Section

_PROJECTING = frozenset({"avg_pool", "max_pool", "batch_norm", "scale", "activation"})
"""What a shortcut may do to its tensor, beside a 1x1 convolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a section's layers hang together.

    Attributes:
        is_chain: Whether they run one after the other, but for shortcuts and gates.
        has_shortcut: Whether there is a shortcut.
        shortcut: Positions of the layers on shortcuts, such as a projection.
    """

    is_chain: bool
    has_shortcut: bool
    shortcut: frozenset[int]


def shape_of(section: Section) -> Shape:
    """The shape of a section; a `Shape` that is no chain has no shortcuts."""
    ancestors = _ancestors(section)
    last_use: dict[int, int] = {}
    for place in range(len(section.layers)):
        for source in section.inputs(place):
            last_use[source] = place
    shortcut: set[int] = set()
    has_shortcut = False
    for place, layer in enumerate(section.layers):
        if layer.operator in ("concat", "zeros") and (len(section.layers) > 1):
            return Shape(is_chain=False, has_shortcut=False, shortcut=frozenset())
        if layer.operator == "add":
            found = _shortcut_of(section, place, ancestors, last_use)
            if found is None:
                return Shape(is_chain=False, has_shortcut=False, shortcut=frozenset())
            has_shortcut = True
            shortcut |= found
    return Shape(is_chain=True, has_shortcut=has_shortcut, shortcut=frozenset(shortcut))


def gates(section: Section) -> frozenset[int]:
    """Positions of the layers that compute gates: behind a `squeeze`, before its `multiply`."""
    found: set[int] = set()
    for place, layer in enumerate(section.layers):
        behind = any(source in found for source in section.inputs(place))
        if layer.operator == "squeeze" or (behind and layer.operator != "multiply"):
            found.add(place)
    return frozenset(found)


def _shortcut_of(
    section: Section, add: int, ancestors: list[frozenset[int]], last_use: dict[int, int]
) -> set[int] | None:
    """The layers of a sum's shortcut, which may be none; None where it has no shortcut.

    The sum has one if all layers since the two inputs' last common one are on its two branches,
    one of them does no more than project, and nobody behind the sum reads what is before it.
    """
    first, second = section.inputs(add)
    one = ancestors[first] if first >= 0 else frozenset()
    other = ancestors[second] if second >= 0 else frozenset()
    common = max(one & other, default=-1)
    if set(range(common + 1, add)) != one ^ other:
        return None
    if any(last_use.get(place, place) > add for place in range(common, add)):
        return None
    for branch, rest in ((one - other, other - one), (other - one, one - other)):
        if rest and all(_projects(section, place) for place in branch):
            return set(branch)
    return None


def _projects(section: Section, place: int) -> bool:
    layer = section.layers[place]
    is_pointwise = layer.operator == "conv2d" and layer.kernel == 1 and layer.groups == 1
    return is_pointwise or layer.operator in _PROJECTING


def _ancestors(section: Section) -> list[frozenset[int]]:
    """For each layer the positions that it depends on, its own included."""
    found: list[frozenset[int]] = []
    for place in range(len(section.layers)):
        before = (found[source] for source in section.inputs(place) if source >= 0)
        found.append(frozenset({place}).union(*before))
    return found
