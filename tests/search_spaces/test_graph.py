import pytest

from search_spaces import CNNSpace, HybridSpace
from tests.search_spaces.doubles import TINY, any_genes, build_chosen


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("stem.conv", "conv 3x3 /2, 16 channels"),
        ("stage0.layer0.depthwise.conv", "depthwise 5x5, 64 channels"),
        ("stage0.layer1.add", "add"),
        ("stage0.layer1.project.norm", "batch norm"),
        ("stem.activation", "relu"),
        ("classifier", "linear 96 to 10"),
    ],
)
def test_layers_describe_themselves(name, text):
    space = CNNSpace(image_size=16, stem_stride=2)
    layers = {layer.name: layer for layer in space.graph(space.extremes("largest")[0]).layers}
    assert layers[name].describe() == text


def test_attention_describes_itself():
    space = HybridSpace(image_size=8)
    layers = space.graph(space.extremes("largest")[1]).layers
    first = next(layer for layer in layers if layer.operator == "attention")
    assert first.describe() == f"attention, 3 heads of 16, {first.height**2} tokens"


@pytest.mark.parametrize("space", TINY, ids=lambda s: s.name)
def test_graphs_of_tiny_spaces_equal_networks_built_with_numbers(space):
    for row in any_genes(space, 100, 2):
        nodes = build_chosen(space, row).nodes
        layers = space.graph(row).layers
        assert [(n.name, n.inputs) for n in nodes] == [(a.name, a.inputs) for a in layers]
        for node, layer in zip(nodes, layers, strict=True):
            assert {k: getattr(layer, k) for k in node.attributes} == node.attributes
