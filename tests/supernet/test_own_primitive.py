"""A user's primitive and a space that uses it go through what shipped ones go through."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from records import BadInputError
from search_spaces import SearchSpace
from search_spaces.blocks import classifier
from search_spaces.primitives import PRIMITIVES
from supernet import ElasticPrimitive, Subnet, Supernet, add_primitive
from supernet.elastic import ELASTIC
from supernet.static import STATIC
from tests.supernet.doubles import images_of


class Shift(ElasticPrimitive):
    """A learned number a channel that is added."""

    def __init__(self, variants):
        super().__init__(variants)
        self.offset = nn.Parameter(torch.zeros(max(v.channels for v in variants)))

    def reset(self, generator):
        nn.init.normal_(self.offset, generator=generator)

    def weights(self, layer):
        return {"offset": self.offset[: layer.channels]}

    def run(self, layer, inputs, weights):
        return inputs[0] + weights["offset"].view(-1, 1, 1)


class PlainShift(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(layer.channels))

    def forward(self, x):
        return x + self.offset.view(-1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class ShiftSpace(SearchSpace):
    image_size: int = 6

    def build(self, net, images):
        x = net.conv2d(images, net.choice("width", (4, 8)), kernel=3)
        return classifier(net, net.primitive("shift", (x,)), self.num_classes)


@pytest.fixture
def _shift():
    add_primitive("shift", elastic=Shift, static=PlainShift, parameters=lambda a: a["channels"])
    yield
    for table in (PRIMITIVES, ELASTIC, STATIC):
        del table["shift"]


@pytest.mark.usefixtures("_shift")
def test_subnets_with_it_are_slices_and_are_counted():
    space = ShiftSpace()
    supernet = Supernet(space, seed=3).eval()
    images = images_of(space, 5)
    for row in space.enumerate() if hasattr(space, "enumerate") else np.array([[0], [1]]):
        subnet = supernet.extract(row)
        assert torch.equal(subnet(images), supernet(images, row))
        weights = sum(p.numel() for p in Subnet(space.graph(row)).parameters())
        assert weights == space.layer_table(row[None]).parameters[0]
    assert supernet.primitives["shift"].offset.std() > 0.1


@pytest.mark.usefixtures("_shift")
def test_a_name_is_taken_once():
    with pytest.raises(BadInputError, match="'shift' already"):
        add_primitive("shift", elastic=Shift, static=PlainShift)


def test_an_unknown_primitive_is_refused_with_the_known():
    with pytest.raises(BadInputError, match="unknown primitive 'shift'"):
        ShiftSpace()
