"""An architecture from the values of its choices, for networks that are known by name."""

from __future__ import annotations

from collections.abc import Mapping

from records import unknown_name
from search_spaces.architecture import Architecture
from search_spaces.choice import Value
from search_spaces.network import NetworkBuilder
from search_spaces.space import SearchSpace


def architecture_from(space: SearchSpace, values: Mapping[str, Value]) -> Architecture:
    """The architecture of a space in which every choice has the given value.

    Choices of a single value may be given too, and are checked like the others; they are no genes
    of the space, and an architecture does not list them.

    The network is declared once more with these values, which takes milliseconds; so the space's
    `build` must take plain values for choices, as choices of a single value are (`is_equal(a, b)`
    for `a == b`).

    Args:
        space: The space.
        values: For each choice by name its value.

    Raises:
        BadInputError: A name that the space does not know, a value that a choice does not offer, a
            choice that is missing or means nothing beside the others.
    """
    net = NetworkBuilder({name: (value,) for name, value in values.items()})
    space.build(net, net.input(space.channels, space.image_size, space.image_size))
    for name in values:
        if name not in net.declared:
            raise unknown_name("choice", name, net.declared)
    genes = tuple((c.name, values[c.name]) for c in space.choices if c.name in values)
    row = space.encode(Architecture(space.name, space.version, genes))
    return space.decode(row)[0]
