"""Which forms make another file of a network, so that none is timed twice."""

from __future__ import annotations

from dataclasses import replace

from deployment.emission.emit import emit, without_emitter
from deployment.emission.forms import DEFAULT, FORMS, Forms
from supernet import Subnet


def choices_of(subnet: Subnet) -> dict[str, tuple[str, ...]]:
    """For each form its values that change the network's file, the default first.

    A network without attention has one form of attention, one without GELU one of that; what
    torch exports has no forms at all. The file is emitted once a value and its nodes are compared,
    each form by itself, the others as in `DEFAULT`.

    Args:
        subnet: The network in eval mode.

    Returns:
        By the names of the fields of `Forms`; with a single value where nothing is to choose.

    Raises:
        BadInputError: A training-mode subnet.
    """
    usual = {name: str(getattr(DEFAULT, name)) for name in FORMS}
    found = {name: [value] for name, value in usual.items()}
    if not without_emitter(subnet):
        default = _nodes(subnet, DEFAULT)
        for name, values in FORMS.items():
            seen = [default]
            for value in values:
                if value == usual[name]:
                    continue
                nodes = _nodes(subnet, replace(DEFAULT, **{name: value}))
                if nodes not in seen:
                    seen.append(nodes)
                    found[name].append(value)
    return {name: tuple(values) for name, values in found.items()}


def _nodes(subnet: Subnet, forms: Forms) -> list[bytes]:
    """The nodes of a file, which tell the forms apart: constants differ only where nodes do."""
    return [node.SerializeToString() for node in emit(subnet, forms=forms).graph.node]
