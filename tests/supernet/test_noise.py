from dataclasses import replace

import numpy as np
import pytest
import torch

from search_spaces import CNNSpace, ConvStage, Graph
from search_spaces.standard import NASBench201
from supernet.noise import Noise, residual_branches
from tests.supernet.doubles import SPACES, TINY, images_of, perturbed


def noise_of(drop_path=0.0, dropout=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Noise(drop_path=drop_path, dropout=dropout, generator=generator)


CNN = CNNSpace(
    image_size=8, channels=2, num_classes=4, stem_stride=1,
    stages=(ConvStage(depths=(1, 3), kernels=(3, 5), expansions=(1, 2)),),
)  # fmt: skip


# ---- the draws ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("drop_path", "depth"), [(0.5, 1.0), (0.4, 0.5), (0.9, 0.25)])
def test_branches_are_left_out_for_whole_images_and_keep_their_expectation(drop_path, depth):
    branch = torch.rand(20_000, 3, 2, 2) + 1
    noisy = noise_of(drop_path).on_branch(branch, depth)
    keep = 1 - drop_path * depth
    is_kept = noisy[:, 0, 0, 0] > 0
    torch.testing.assert_close(noisy[is_kept], branch[is_kept] / keep)
    assert not noisy[~is_kept].any()
    assert float(is_kept.float().mean()) == pytest.approx(keep, abs=0.015)
    assert float((noisy / branch).mean()) == pytest.approx(1, abs=0.07)
    tokens = noise_of(drop_path).on_branch(torch.ones(7, 4, 5), depth)
    assert tokens.shape == (7, 4, 5)


def test_features_are_set_to_0_one_by_one_and_keep_their_expectation():
    features = torch.ones(2000, 50)
    noisy = noise_of(dropout=0.3).on_features(features)
    assert set(np.unique(noisy.round(decimals=4))) == {0.0, np.float32(1.4286)}
    assert float(noisy.mean()) == pytest.approx(1, abs=0.01)
    assert float((noisy > 0).float().mean(0).min()) > 0.6


def test_draws_are_those_of_the_generator():
    branch, features = torch.ones(50, 3), torch.ones(8, 9)
    first, again, other = noise_of(0.5, 0.5), noise_of(0.5, 0.5), noise_of(0.5, 0.5, seed=1)
    torch.manual_seed(3)
    assert torch.equal(first.on_branch(branch, 1), again.on_branch(branch, 1))
    assert torch.equal(first.on_features(features), again.on_features(features))
    assert not torch.equal(other.on_features(features), noise_of(0, 0.5).on_features(features))


# ---- where they apply --------------------------------------------------------------------------


def test_branches_are_those_with_an_identity_shortcut_ever_deeper():
    graph = SPACES[2].graph(SPACES[2].extremes("largest")[0])
    branches = residual_branches(graph)
    sums = [k for k, layer in enumerate(graph.layers) if layer.operator == "add"]
    assert list(branches) == sums
    count = len(sums)
    assert count >= 2
    for n, place in enumerate(sums, start=1):
        k, depth = branches[place]
        assert depth == pytest.approx(n / count)
        shortcut, branch = graph.layers[place].inputs[1 - k], graph.layers[place].inputs[k]
        # what is added is computed from the shortcut, step by step
        reached = {shortcut}
        for i in range(shortcut + 1, branch + 1):
            if reached & set(graph.layers[i].inputs):
                reached.add(i)
        assert branch in reached


def test_sums_of_two_branches_have_none():
    """In a cell whose sums add two convolutions, no part may be missing."""
    space = NASBench201(image_size=8, num_classes=4)
    conv = next(v for v in space.choices[0].values if "3x3" in v and "conv" in v)
    row = np.array([choice.values.index(conv) for choice in space.choices], np.int16)
    graph = space.graph(row)
    places = residual_branches(graph)
    for place, (k, _) in places.items():
        layer = graph.layers[place]
        assert layer.inputs[1 - k] < layer.inputs[k]
    adds = [k for k, layer in enumerate(graph.layers) if layer.operator == "add"]
    assert len(places) < len(adds)


def test_a_sum_of_a_layer_with_itself_has_no_branch():
    graph = SPACES[2].graph(SPACES[2].extremes("largest")[0])
    place = next(iter(residual_branches(graph)))
    twice = replace(graph.layers[place], inputs=(graph.layers[place].inputs[0],) * 2)
    layers = (*graph.layers[:place], twice, *graph.layers[place + 1 :])
    assert place not in residual_branches(Graph(layers=layers))


def test_the_last_branch_is_left_out_with_the_whole_chance():
    space = CNN
    network = perturbed(space)
    row = space.extremes("largest")[0]
    graph = space.graph(row)
    (*_, last) = residual_branches(graph)
    k, depth = residual_branches(graph)[last]
    assert depth == 1
    images = images_of(space, 256)
    seen = {}
    primitive = network.primitive(graph.layers[last])
    real = primitive.run

    def spy(layer, inputs, weights):
        seen["branch"] = inputs[k]
        return real(layer, inputs, weights)

    primitive.run = spy
    with torch.no_grad():
        network.run(images, graph)
        quiet = seen["branch"]
        network.run(images, graph, noise=noise_of(0.6))
    present = seen["branch"].flatten(1).abs().sum(1) > 0
    assert float(present.float().mean()) == pytest.approx(0.4, abs=0.1)
    assert quiet.flatten(1).abs().sum(1).gt(0).all()


def test_dropout_is_on_the_classifiers_inputs():
    network = perturbed(TINY)
    row = TINY.extremes("largest")[0]
    graph = TINY.graph(row)
    images = images_of(TINY, 32)
    seen = []
    primitive = network.primitives["classifier"]
    real = primitive.run

    def spy(layer, inputs, weights):
        seen.append(inputs[0])
        return real(layer, inputs, weights)

    primitive.run = spy
    with torch.no_grad():
        network.run(images, graph)
        network.run(images, graph, noise=noise_of(dropout=0.5))
    quiet, noisy = seen
    kept = noisy != 0
    torch.testing.assert_close(noisy[kept], 2 * quiet[kept])
    assert 0.3 < float(kept.float().mean()) < 0.7


def test_a_rate_of_0_changes_nothing():
    for space in SPACES:
        network, images = perturbed(space), images_of(space, 4)
        row = space.extremes("largest")[0]
        generator = torch.Generator().manual_seed(0)
        state = generator.get_state()
        quiet = Noise(drop_path=0, dropout=0, generator=generator)
        with torch.no_grad():
            assert torch.equal(network(images, row, noise=quiet), network(images, row))
        assert torch.equal(generator.get_state(), state)
