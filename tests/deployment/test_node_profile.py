"""Times and shapes of nodes, from onnxruntime's profiler."""

import numpy as np
import pytest

from deployment import emit
from deployment.emission.chunks import in_chunks
from deployment.node_profile import node_macs, profile_nodes
from records import BadInputError, CorruptFileError
from search_spaces import CNNSpace, ViTSpace
from supernet import Subnet


@pytest.mark.parametrize("space", [CNNSpace(image_size=16), ViTSpace(image_size=16)])
def test_nodes_have_the_work_of_the_layers(space):
    row = space.sample(1, np.random.default_rng(0))[0]
    graph = space.graph(row)
    nodes = profile_nodes(emit(Subnet(graph).eval(), 1).SerializeToString(), runs=3)
    assert sum(node.macs for node in nodes) == graph.macs
    assert all(node.ms >= 0 and node.outputs for node in nodes)
    assert nodes[-1].outputs == ((1, 10),)
    assert nodes[-1].weight_bytes == 4 * graph.layers[-1].parameters
    assert sum(node.read_bytes for node in nodes) > 0


def test_products_are_counted_from_shapes():
    assert node_macs("MatMul", [(5, 7), (7, 3)], [(5, 3)]) == 105
    assert node_macs("MatMul", [(2, 5, 7), (2, 7, 3)], [(2, 5, 3)]) == 210
    assert node_macs("MatMul", [(4, 4), (2, 3, 4, 6)], [(2, 3, 4, 6)]) == 2 * 3 * 4 * 6 * 4
    assert node_macs("Relu", [(5, 7)], [(5, 7)]) == 0


def test_what_cannot_be_profiled_is_refused():
    with pytest.raises(BadInputError, match="runs must be"):
        profile_nodes(b"", runs=0)
    with pytest.raises(CorruptFileError, match="cannot open"):
        profile_nodes(b"no model")


def test_a_file_that_is_no_model_is_named_and_nothing_is_printed(tmp_path, capfd):
    path = tmp_path / "notes.md"
    path.write_text("# no model")
    with pytest.raises(CorruptFileError, match=r"cannot open .*notes\.md"):
        profile_nodes(path)
    said = capfd.readouterr()
    assert said.out + said.err == ""


def test_nodes_of_a_file_in_chunks_are_those_of_every_chunk():
    space = CNNSpace(image_size=16)
    graph = space.graph(space.sample(1, np.random.default_rng(0))[0])
    model = in_chunks(emit(Subnet(graph).eval(), 2), 6)
    nodes = profile_nodes(model.SerializeToString(), runs=2)
    assert sum(node.macs for node in nodes) == 6 * graph.macs
    assert "Scan" not in {node.operator for node in nodes}  # its time is that of those inside
