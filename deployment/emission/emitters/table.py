"""The emitter of each primitive, and how a user adds one."""

from __future__ import annotations

from deployment.emission.emission import Emitter
from deployment.emission.emitters import attention, convolution, elementwise, pooling, tokens
from records import BadInputError, unknown_name
from search_spaces.primitives import PRIMITIVES

EMITTERS: dict[str, Emitter] = {
    "conv2d": convolution.conv2d,
    "batch_norm": convolution.batch_norm,
    "scale": convolution.scale,
    "activation": elementwise.activation,
    "add": elementwise.add,
    "multiply": elementwise.multiply,
    "zeros": elementwise.zeros,
    "concat": elementwise.concat,
    "avg_pool": pooling.avg_pool,
    "max_pool": pooling.max_pool,
    "squeeze": pooling.squeeze,
    "global_pool": pooling.global_pool,
    "resize": pooling.resize,
    "channel_shuffle": pooling.channel_shuffle,
    "linear": tokens.linear,
    "layer_norm": tokens.layer_norm,
    "to_tokens": tokens.to_tokens,
    "to_map": tokens.to_map,
    "position": tokens.position,
    "attention": attention.attention,
}
"""Writes a layer's nodes; those of `conv2d` and `linear` take the folded layers as well."""


def add_emitter(name: str, emitter: Emitter) -> None:
    """Adds the emitter of a user's primitive, in one process; call it where that is added.

    Without one, networks with the primitive are exported by torch as a whole, which is slower to
    export and to run.

    Args:
        name: The primitive, added with `supernet.add_primitive` before.
        emitter: Called as `emitter(emission, layer)` in the order in which the layers run. It
            finds what the layer reads with `emission.input(layer)` (and `emission.input(layer, 1)`
            for a second input), its arrays with `emission.weights(layer)`, adds constants and
            nodes with `emission.constant` and `emission.node`, and returns the output as a
            `Value`: the tensor's name and whether it is a feature map. Names begin with
            `layer.name`, so that they are unique. Feature maps are
            `n x channels x height x width`, tokens a matrix `(n * tokens) x channels`, with
            `n = emission.batch_size`; all sizes are known. `deployment.proofs.verify` compares the
            file with the primitive's module.

    Raises:
        UnknownNameError: There is no such primitive.
        BadInputError: It has an emitter already.

    Example::

        def negative(emission, layer):
            x = emission.input(layer)
            return Value(emission.node("Neg", [x.name], layer.name), x.is_map)

        add_emitter("negative", negative)
    """
    if name not in PRIMITIVES:
        raise unknown_name("primitive", name, PRIMITIVES)
    if name in EMITTERS:
        raise BadInputError(f"primitive {name!r} has an emitter already")
    EMITTERS[name] = emitter
