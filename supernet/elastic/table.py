"""The elastic module of each primitive."""

from __future__ import annotations

from supernet import functions
from supernet.elastic.attention import Attention, Position
from supernet.elastic.convolution import Conv2d
from supernet.elastic.linear import Linear
from supernet.elastic.normalisation import BatchNorm, LayerNorm, Scale
from supernet.elastic.primitive import ElasticPrimitive
from supernet.elastic.weightless import Activation, Concat, weightless

ELASTIC: dict[str, type[ElasticPrimitive]] = {
    "conv2d": Conv2d,
    "batch_norm": BatchNorm,
    "layer_norm": LayerNorm,
    "linear": Linear,
    "attention": Attention,
    "position": Position,
    "scale": Scale,
    "activation": Activation,
    "concat": Concat,
    "add": weightless(functions.add),
    "multiply": weightless(functions.multiply),
    "zeros": weightless(functions.zeros),
    "avg_pool": weightless(functions.avg_pool),
    "max_pool": weightless(functions.max_pool),
    "global_pool": weightless(functions.global_pool),
    "squeeze": weightless(functions.squeeze),
    "resize": weightless(functions.resize),
    "channel_shuffle": weightless(functions.channel_shuffle),
    "to_tokens": weightless(functions.to_tokens),
    "to_map": weightless(functions.to_map),
}
