"""Checks the tabulated layers of a space: every variant of every layer must be a real one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.builder import Node
from search_spaces.choice import Choice
from search_spaces.expression import choices_of
from search_spaces.primitives import operator_index
from search_spaces.tabulate import Tabulation

_REACH = ("architecture", "numerics", "platform")
"""Scopes in the order of what may depend on what: a choice reads those of its own and before."""

_CHANGES = {
    "numerics": "which changes accuracy and cost but not the layers",
    "platform": "which may change the cost alone",
}


def check_scopes(space: str, choices: Sequence[Choice], nodes: Sequence[Node]) -> None:
    """Refuses networks that depend on numerics or the platform, which leave the layers alone.

    Raises:
        BadInputError: The layer that reads a choice of either, or the choice that reads one of a
            scope that it may not depend on.
    """
    scope_of = {choice.name: choice.scope for choice in choices}
    if all(scope == "architecture" for scope in scope_of.values()):
        return
    for node in nodes:
        dims = (node.active, *node.attributes.values())
        found = frozenset[str]().union(*map(choices_of, dims))
        read = sorted(name for name in found if scope_of[name] != "architecture")
        if read:
            scope = scope_of[read[0]]
            raise BadInputError(
                f"{space}: layer {node.name!r} depends on {read} of scope {scope!r}, "
                f"{_CHANGES[scope]}; leave the scope out"
            )
    for choice in choices:
        reach = _REACH.index(choice.scope)
        found = choices_of(choice.active_if)
        read = sorted(name for name in found if _REACH.index(scope_of[name]) > reach)
        if read:
            scope = scope_of[read[0]]
            raise BadInputError(
                f"{space}: choice {choice.name!r} of scope {choice.scope!r} depends on "
                f"{read} of scope {scope!r}, {_CHANGES[scope]}"
            )


def check_shapes(
    space: str, choices: Sequence[Choice], nodes: Sequence[Node], layers: Tabulation
) -> None:
    """Refuses sizes that no network can have.

    Args:
        space: The space's name, for the message.
        choices: Its choices.
        nodes: Its declared layers.
        layers: Their table.

    Raises:
        BadInputError: The layer, what is wrong with it, and a setting of the choices.
    """
    columns = layers.columns
    there = columns["active"] > 0
    rows = layers.row_of_variant()

    def refuse(wrong: npt.NDArray[np.bool_], why: str) -> None:
        bad = np.flatnonzero(wrong & there)
        if len(bad):
            node, setting = nodes[rows[bad[0]]], _setting(choices, layers, int(bad[0]))
            raise BadInputError(f"{space}: layer {node.name!r} {why}{setting}")

    for size in ("channels", "height", "width"):
        refuse(columns[size] < 1, f"would have {size} below 1: use fewer or smaller strides")
    conv = columns["operator"] == operator_index("conv2d")
    refuse(
        conv & (columns["kernel"] > columns["in_height"] + 2 * columns["padding"]),
        "has a kernel (or patch) larger than its input",
    )
    refuse(
        (columns["stride"] > 1)
        & (columns["stride"] > np.minimum(columns["in_height"], columns["in_width"])),
        "strides over a map that is smaller than its stride: the resolution is below the total "
        "stride; use larger images or fewer strides",
    )
    depthwise = columns["groups"] == columns["in_channels"]
    for row, node in enumerate(nodes):
        mine = np.flatnonzero((rows == row) & conv & there)
        if len(mine) and not depthwise[mine].all() and len(set(columns["groups"][mine])) > 1:
            raise BadInputError(
                f"{space}: layer {node.name!r} has several numbers of groups "
                f"({sorted(set(columns['groups'][mine].tolist()))}), whose weights mean "
                "different things; declare one layer for each inside `with net.when(...)`"
            )
    patch = conv & (columns["padding"] == 0) & (columns["kernel"] == columns["stride"])
    refuse(
        patch & (columns["in_height"] % np.maximum(columns["kernel"], 1) != 0),
        "cuts the image into patches that do not cover it: image_size must be a multiple of "
        "every patch size",
    )


def _setting(choices: Sequence[Choice], table: Tabulation, variant: int) -> str:
    """The choices that a variant of the layer tabulation stands for, as a text."""
    row = int(np.searchsorted(table.offsets, variant, side="right")) - 1
    code = variant - int(table.offsets[row])
    values = [
        f"{c.name}={c.values[code // int(place) % len(c.values)]}"
        for c, place in zip(choices, table.strides[row], strict=True)
        if place
    ]
    return f" (with {', '.join(values)})" if values else ""
