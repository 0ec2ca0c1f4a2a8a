from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from supernet.channel_sorting import sort_channels
from supernet.training import Phase, ProgressiveShrinking, make_optimiser
from supernet.training.optimisation import MovingAverage
from supernet.training.source import OneNetwork, SpaceMembers
from tests.supernet.doubles import RECIPE, SPACES, TINY, images_of, perturbed, stepper_of

SPACE = SPACES[2]
N = 16
IMAGES, LABELS = images_of(SPACE, N), torch.arange(N) % 4
SHRINKING = ProgressiveShrinking(
    phases=(
        Phase(share=0.5, opens=("*.mlp_ratio",)),
        Phase(share=0.5, opens=("*",), sort_channels=True),
    )
)
BEFORE, BEGIN = 49, 50


class Training:
    """A network with all that follows its channels."""

    def __init__(self):
        recipe = replace(RECIPE, batch_size=N, members=SHRINKING)
        self.network = perturbed(SPACE)
        self.source = SpaceMembers(self.network, recipe, seed=0)
        self.optimiser = make_optimiser(self.network, recipe)
        self.average = MovingAverage(self.network, 0.9)
        self.stepper = stepper_of(self.network, recipe)
        for step in range(3):
            self.step(step)

    def step(self, step):
        members = self.source.draw(step, 100, IMAGES, LABELS)[:1]
        outcome = self.stepper(members, IMAGES, LABELS, step, 0.5)
        for p, g in zip(self.network.parameters(), outcome.gradients, strict=True):
            p.grad = g
        self.optimiser.step()
        self.average.update(step)
        return outcome

    def tensors(self):
        """Weights, moments and average, by kind and the weight's name."""
        found = {}
        for name, p in self.network.named_parameters():
            found["weight", name] = p.detach().clone()
            found["average", name] = self.average.weights[name].clone()
            for key, value in self.optimiser.state[p].items():
                if value.shape == p.shape:
                    found[key, name] = value.clone()
        return found

    def before_step(self, step):
        return self.source.before_step(step, 100, self.optimiser, self.average)


def test_channels_are_sorted_when_a_phase_begins_and_only_then():
    training = Training()
    before = training.tensors()
    assert not training.before_step(BEFORE)
    assert all(torch.equal(v, before[k]) for k, v in training.tensors().items())
    assert training.before_step(BEGIN)
    changed = {name for (kind, name), v in training.tensors().items()
               if kind == "weight" and not torch.equal(v, before[kind, name])}  # fmt: skip
    assert any("expand" in name for name in changed)


def test_weights_moments_and_average_are_permuted_together():
    """Every entry of a weight keeps its moments and its average wherever it goes."""
    training = Training()
    before = training.tensors()
    training.before_step(BEGIN)
    after = training.tensors()
    moved = 0
    for name, p in training.network.named_parameters():
        kinds = [kind for kind, n in before if n == name]
        assert kinds[:2] == ["weight", "average"]

        def entries(tensors, name=name, kinds=kinds):
            stacked = torch.stack([tensors[kind, name].flatten() for kind in kinds], 1).numpy()
            return stacked[np.lexsort(stacked.T)]

        np.testing.assert_array_equal(entries(after), entries(before))
        moved += not torch.equal(after["weight", name], before["weight", name])
        assert p.shape == before["weight", name].shape
    assert moved > 5
    assert any(kind == "exp_avg" for kind, _ in before)


def test_the_largest_networks_stay_the_same():
    training = Training()
    rows = SPACE.extremes("largest")
    with torch.no_grad():
        before = [training.network(IMAGES, row) for row in rows]
        training.before_step(BEGIN)
        after = [training.network(IMAGES, row) for row in rows]
    for a, b in zip(after, before, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_training_goes_on_as_it_would_without_sorting():
    """The next update of the largest network is the same, for its moments moved with it."""
    sorted_, plain = Training(), Training()
    sorted_.before_step(BEGIN)
    rows = SPACE.extremes("largest")
    for training in (sorted_, plain):
        training.step(3)
    with torch.no_grad():
        a, b = (t.network(IMAGES, rows[0]) for t in (sorted_, plain))
    torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)


def test_networks_that_were_trained_before_keep_their_channels():
    """The first phase opened the ratios: narrower perceptrons have the channels that they had."""
    training = Training()
    reference = perturbed(SPACE)
    reference.load_state_dict(training.network.state_dict())
    training.before_step(BEGIN)
    report = sort_channels(reference)  # without minding what was trained
    rows = SPACE.extremes("largest")
    (row,) = [r for r in rows if "attention" in dict(SPACE.decode(r)[0].items).values()]
    names = [c.name for c in SPACE.choices]
    for place in [k for k, name in enumerate(names) if name.endswith("mlp_ratio")]:
        row[place] = 0
    original = Training().network
    with torch.no_grad():
        kept, free, was = (n(IMAGES, row) for n in (training.network, reference, original))
    torch.testing.assert_close(kept, was, atol=1e-4, rtol=1e-4)
    assert (free - was).abs().max() > 1e-2
    assert report.groups


def test_losses_are_those_of_the_first_shard_without_gradient():
    network = perturbed(SPACE)
    source = SpaceMembers(network, replace(RECIPE, batch_size=N, shards=3), seed=0)
    source.draw(0, 10, IMAGES, LABELS)
    rows = SPACE.sample(4, np.random.default_rng(0))
    losses = source._last.losses(rows)
    expected = [F.cross_entropy(network(IMAGES[:6], row), LABELS[:6]).item() for row in rows]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_one_network_is_the_only_member_of_every_step():
    graph = TINY.graph(TINY.extremes("largest")[0])
    source = OneNetwork(graph)
    for step in range(3):
        assert not source.before_step(step, 3, None, None)
        (member,) = source.draw(step, 3, IMAGES, LABELS)
        assert (member.graph, member.role, member.teachers) == (graph, "largest", ())
        source.observe([member], [1.0])
    assert source.memory == {}
    other = TINY.graph(TINY.extremes("smallest")[0])
    assert source.facts() == OneNetwork(graph).facts() != OneNetwork(other).facts()


@pytest.mark.parametrize("step", [0, 7])
def test_members_are_a_function_of_seed_and_step(step):
    recipe = replace(RECIPE, batch_size=N)
    first, second = (SpaceMembers(perturbed(SPACE, s), recipe, seed=3) for s in (0, 1))
    drawn = [s.draw(step, 10, IMAGES, LABELS) for s in (first, second)]
    for a, b in zip(*drawn, strict=True):
        np.testing.assert_array_equal(a.genes, b.genes)
