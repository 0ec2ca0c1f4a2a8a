"""Gradients through cut weights are those through the shared weights themselves."""

import numpy as np
import pytest
import torch
from torch import nn

from supernet import Supernet
from supernet.training.gradients import SharedGradient
from tests.supernet.doubles import SPACES, images_of, perturbed


def through_cut(network, graph, images):
    cut = network.cut(graph)
    logits = network.run(images, graph, cut=cut)
    gradients = torch.autograd.grad(logits.square().sum(), cut.leaves, allow_unused=True)
    total = SharedGradient({p: k for k, p in enumerate(network.parameters())})
    total.add(cut.pull_back(gradients))
    return logits.detach(), total.total


def through_slices(network, graph, images):
    logits = network.run(images, graph)
    parameters = list(network.parameters())
    found = torch.autograd.grad(logits.square().sum(), parameters, allow_unused=True)
    return logits.detach(), found


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_gradients_and_logits_are_those_of_autograd_through_the_slices(space, memory):
    network, images = perturbed(space).to(memory_format=memory), images_of(space, 3)
    rows = [space.extremes("largest")[0], *space.sample(2, np.random.default_rng(1)),
            space.extremes("smallest")[0]]  # fmt: skip
    for row in rows:
        graph = space.graph(row)
        logits, found = through_cut(network, graph, images)
        expected_logits, expected = through_slices(network, graph, images)
        assert torch.equal(logits, expected_logits)
        for (name, p), g, e in zip(network.named_parameters(), found, expected, strict=True):
            assert (g is None) == (e is None), name
            if g is not None:
                assert g.shape == p.shape
                torch.testing.assert_close(g, e, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: n + m)


def test_slices_are_cut_once_and_see_later_weights_and_moved_ones():
    space = SPACES[2]
    network, images = perturbed(space), images_of(space, 3)
    graph = space.graph(space.extremes("smallest")[0])
    leaves = network.cut(graph).leaves
    again = network.cut(graph).leaves
    assert sum(a is b for a, b in zip(leaves, again, strict=True)) > len(leaves) / 2
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(1.5)
    changed, _ = through_cut(network, graph, images)
    assert torch.equal(changed, through_slices(network, graph, images)[0])
    for p in network.parameters():
        p.data = 2 * p.data  # in memory of its own
    moved, _ = through_cut(network, graph, images)
    assert torch.equal(moved, through_slices(network, graph, images)[0])
    assert not torch.equal(moved, changed)


def test_a_weight_that_nothing_depends_on_has_no_gradient():
    space = SPACES[1]
    network = Supernet(space)
    graph = space.graph(space.extremes("smallest")[0])
    cut = network.cut(graph)
    assert cut.pull_back([None] * len(cut.leaves)) == []


def test_parameters_get_no_gradient_of_their_own():
    space = SPACES[2]
    network = perturbed(space)
    through_cut(network, space.graph(space.extremes("largest")[0]), images_of(space, 3))
    assert all(isinstance(p, nn.Parameter) and p.grad is None for p in network.parameters())
