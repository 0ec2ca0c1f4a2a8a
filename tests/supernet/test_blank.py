"""Modules without weights are those of the primitives in all else, and independent."""

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces import CNNSpace, HybridSpace, ViTSpace, standard_space
from supernet.blank import blank_module
from supernet.static import STATIC

SPACES = (
    CNNSpace(image_size=16),
    ViTSpace(image_size=16),
    HybridSpace(image_size=16),
    standard_space("efficientformer"),
)


def facts(module):
    """All that a module holds but its weights; shapes in their place."""
    return {
        name: {k: None if v is None else tuple(v.shape) for k, v in value.items()}
        if name in ("_parameters", "_buffers")
        else value
        for name, value in vars(module).items()
    }


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_blank_modules_are_the_primitives_modules(space):
    for row in space.sample(3, np.random.default_rng(0)):
        for layer in space.graph(row).layers[1:]:
            made, blank = STATIC[layer.operator](layer), blank_module(layer)
            assert type(blank) is type(made)
            assert facts(blank) == facts(made)
            assert repr(blank) == repr(made)


def test_blank_modules_share_nothing_that_changes():
    space = CNNSpace(image_size=16)
    layers = [la for la in space.graph(space.extremes("largest")[0]).layers if la.kernel]
    layer = next(la for la in layers if la.operator == "conv2d")
    one, other = blank_module(layer), blank_module(layer)
    one.register_forward_hook(lambda *_: None)
    one.weight = nn.Parameter(torch.zeros(1))
    one.register_buffer("extra", torch.zeros(1))
    assert len(one._forward_hooks) == 1
    for module in (other, blank_module(layer)):
        assert not module._forward_hooks
        assert module.weight.shape == (layer.channels, layer.in_channels, *[layer.kernel] * 2)
        assert dict(module.named_buffers()) == {}
