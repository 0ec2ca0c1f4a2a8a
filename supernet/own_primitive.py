"""A user's own primitive: one call makes it known to all readers.

A primitive is read four times: by the tables (its costs), by the supernet (slices of shared
weights), by the subnet (a plain module) and by the emitter (an ONNX node). Here the first three
are given together; the fourth is `deployment.add_emitter`, and without it a network with the
primitive is exported by torch, slower and without the forms that run fastest.

Networks are then declared with `net.primitive(name, (x,), channels=..., kernel=...)`, and
`deployment.verify_space` proves that the readers agree.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from records import BadInputError
from search_spaces import Layer
from search_spaces.expression import Dim
from search_spaces.primitives import Attributes, Primitive
from search_spaces.primitives import add_primitive as add_to_tables
from supernet.elastic import ELASTIC, ElasticPrimitive
from supernet.static import STATIC


def _none(attributes: Attributes) -> Dim:
    return 0


def add_primitive(
    name: str,
    *,
    elastic: type[ElasticPrimitive],
    static: Callable[[Layer], nn.Module],
    macs: Callable[[Attributes], Dim] = _none,
    parameters: Callable[[Attributes], Dim] = _none,
    inputs: int | None = 1,
) -> None:
    """Adds a primitive, in one process; call it where the space is defined.

    Args:
        name: What layers call it.
        elastic: Holds the shared weights; `weights(layer)` names them as the static module does.
        static: Makes the plain module of a layer.
        macs: Multiply-accumulates for one image, a function of the layer's attributes.
        parameters: Trainable parameters, likewise.
        inputs: How many tensors it reads; None for one or more.

    Raises:
        BadInputError: There is another primitive of that name.

    Example::

        def negative(x, layer):
            return -x

        add_primitive(
            "negative",
            elastic=weightless(negative),  # supernet.elastic.weightless
            static=lambda layer: Function(negative, layer),  # supernet.static
        )
    """
    if name in ELASTIC:
        raise BadInputError(f"there is a primitive {name!r} already; choose another name")
    add_to_tables(name, Primitive(macs=macs, parameters=parameters, inputs=inputs))
    ELASTIC[name] = elastic
    STATIC[name] = static
