import pytest
import torch

from deployment.kernel_tables.counting import count
from search_spaces import Graph
from supernet import Subnet
from tests.deployment.doubles import CNN, ZOO, rows_of
from tests.supernet.doubles import images_of


def counted(space, row):
    subnet = Subnet(space.graph(row)).eval()
    names = [layer.name for layer in subnet.graph.layers[1:]]
    return dict(zip(names, count(subnet, images_of(space, 3)), strict=True))


def test_a_convolution_by_hand():
    row = CNN.extremes("smallest")[0]
    found = counted(CNN, row)["stem.conv"]  # 3x3 from 3 to 8 channels, 16x16 to 8x8
    assert found.macs == 3 * 3 * 3 * 8 * 8 * 8
    assert found.parameters == 3 * 3 * 3 * 8
    assert found.shape == (8, 8, 8)


@pytest.mark.parametrize(
    ("mixing", "window"), [("softmax", 0), ("softmax", 2), ("linear", 0)], ids=str
)
def test_attention_by_hand(mixing, window):
    for row in rows_of(ZOO, 60):
        layers = {layer.name: layer for layer in ZOO.graph(row).layers}
        a = layers["attention.attention.attention"]
        if (a.mixing_name, a.window) == (mixing, window):
            break
    found = counted(ZOO, row)[a.name]
    width = a.heads * (2 * a.qk_dim + a.v_dim)
    projections = a.tokens * a.in_channels * width
    if mixing == "linear":
        mixed = a.tokens * a.heads * (2 * a.qk_dim * a.v_dim + a.qk_dim)
    else:
        keys = window**2 or a.tokens
        mixed = a.tokens * keys * a.heads * (a.qk_dim + a.v_dim)
    assert found.macs == projections + mixed
    assert found.parameters == (a.in_channels + 1) * width
    assert found.shape == (a.tokens, a.heads * a.v_dim)


def test_shapes_of_maps_tokens_and_vectors():
    found = counted(ZOO, rows_of(ZOO, 1)[-1])
    grouped, tokens = found["grouped.conv"], found["to_tokens"]
    assert grouped.fits(*grouped.shape)
    assert not grouped.fits(grouped.shape[0] + 1, *grouped.shape[1:])
    _, height, width = grouped.shape
    assert tokens.fits(16, height, width)
    assert not tokens.fits(16, height, width + 1)
    assert found["pool"].fits(16, 1, 1)
    assert not found["pool"].fits(16, 1, 2)


def test_hooks_are_gone_after_a_failure():
    subnet = Subnet(CNN.graph(CNN.extremes("smallest")[0]))
    with pytest.raises(RuntimeError):
        count(subnet, torch.zeros(2, 7, 16, 16))
    assert all(not module._forward_hooks for module in subnet.modules())
    assert isinstance(subnet.graph, Graph)
