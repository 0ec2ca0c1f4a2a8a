"""The blocks of a network, and the nodes of its file that belong to them."""

import pytest

from deployment import block_of, blocks_of, emit
from deployment.network_blocks import is_within, nodes_by_block, nodes_within
from records import UnknownNameError
from supernet import Subnet
from tests.deployment.doubles import SPACES, rows_of

CASES = [(name, space) for name, space in SPACES.items()]


@pytest.mark.parametrize(("name", "space"), CASES, ids=[name for name, _ in CASES])
def test_every_layer_is_in_one_block_and_every_node_in_the_block_of_its_layer(name, space):
    subnet = Subnet(space.graph(rows_of(space, 1)[-1])).eval()
    blocks = blocks_of(subnet)
    layers = [layer.name for layer in subnet.graph.layers[1:]]
    assert [layer for own in blocks.values() for layer in own] == layers
    assert all(block_of(layer) == block for block, own in blocks.items() for layer in own)
    model = emit(subnet)
    for node in model.graph.node:
        homes = [block for block in blocks if is_within(node.name, block)]
        assert homes, node.name
    found = nodes_by_block(model, ("Conv", "Gemm"))
    assert set(found) <= set(blocks)
    assert sorted(n for own in found.values() for n in own) == sorted(
        node.name for node in model.graph.node if node.op_type in ("Conv", "Gemm")
    )


def test_a_name_stands_for_all_that_is_inside_of_it():
    subnet = Subnet(SPACES["cnn"].graph(SPACES["cnn"].extremes("largest")[0])).eval()
    model = emit(subnet)
    stage = nodes_within(model, ["stage1"], ("Conv",))
    blocks = nodes_within(model, [f"stage1.layer{i}" for i in range(3)], ("Conv",))
    assert stage == blocks
    assert len(stage) == 9
    assert nodes_within(model, ["stage1.layer0.project.conv"]) == ("stage1.layer0.project.conv",)
    assert nodes_within(model, []) == ()
    assert not is_within("stage10.conv", "stage1")
    with pytest.raises(UnknownNameError, match=r"did you mean 'stage1.layer2'"):
        nodes_within(model, ["stage1.layer"])
