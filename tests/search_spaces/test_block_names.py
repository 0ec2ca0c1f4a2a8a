"""Blocks and stages by the names of layers."""

import numpy as np
import pytest

from search_spaces import CNNSpace, HybridSpace, ViTSpace, block_of, stage_of


@pytest.mark.parametrize(
    ("layer", "block", "stage"),
    [
        ("stage1.layer0.depthwise.conv", "stage1.layer0", "stage1"),
        ("stage1.layer0.se.reduce", "stage1.layer0", "stage1"),
        ("stage1.layer0.add", "stage1.layer0", "stage1"),
        ("stage1.block0.first.conv", "stage1.block0", "stage1"),
        ("stage1.layer0.mlp2.norm", "stage1.layer0", "stage1"),
        ("layer3.attention.attention", "layer3", "layer3"),
        ("stage0.begin.conv", "stage0.begin", "stage0"),
        ("stage0.to_tokens", "stage0.to_tokens", "stage0"),
        ("stem.conv", "stem", "stem"),
        ("classifier", "classifier", "classifier"),
        ("attention", "attention", "attention"),
    ],
)
def test_a_layer_belongs_to_a_block_and_a_stage(layer, block, stage):
    assert block_of(layer) == block
    assert stage_of(layer) == stage


@pytest.mark.parametrize("space", [CNNSpace(), ViTSpace(), HybridSpace()], ids=lambda s: s.name)
def test_a_block_is_called_the_same_in_every_network_and_its_layers_stand_together(space):
    known = {node.name: block_of(node.name) for node in space.nodes}
    for row in space.sample(5, np.random.default_rng(0)):
        blocks = [block_of(layer.name) for layer in space.graph(row).layers[1:]]
        assert set(blocks) <= set(known.values())
        runs = [b for i, b in enumerate(blocks) if i == 0 or blocks[i - 1] != b]
        assert len(runs) == len(set(runs))
