"""Elastic primitives: the largest weights once, and for each subnet its slice.

A module holds the weights of the largest variant of one declared layer. `weights(layer)` gives the
weights of a variant, differentiable: always a prefix `weight[:channels, :in_channels]`, so that a
channel, a head, a query row means the same thing in every subnet. Whatever else a variant needs
(smaller kernels, patches, position grids) follows from the largest by a rule stated at its class.

References:
    Cai et al., Once-for-All, ICLR 2020, arXiv 1908.09791 (slicing, kernel transforms);
    Chen et al., AutoFormer, ICCV 2021, arXiv 2107.00651 (slicing of transformers). Queries, keys
    and values are separate here, weights and biases, so that both keep their role for every head
    count.
"""

from supernet.elastic.attention import Attention, Position
from supernet.elastic.convolution import Conv2d
from supernet.elastic.linear import Linear
from supernet.elastic.normalisation import (
    BATCH_NORM_EPSILON,
    LAYER_NORM_EPSILON,
    BatchNorm,
    LayerNorm,
    Scale,
)
from supernet.elastic.primitive import ElasticPrimitive, Weights
from supernet.elastic.table import ELASTIC
from supernet.elastic.weightless import ACTIVATION_FUNCTIONS, Activation, Weightless

__all__ = [
    "ACTIVATION_FUNCTIONS",
    "BATCH_NORM_EPSILON",
    "ELASTIC",
    "LAYER_NORM_EPSILON",
    "Activation",
    "Attention",
    "BatchNorm",
    "Conv2d",
    "ElasticPrimitive",
    "LayerNorm",
    "Linear",
    "Position",
    "Scale",
    "Weightless",
    "Weights",
]
