from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from search_spaces import CNNSpace, ConvStage, HybridSpace, HybridStage, SearchSpace, ViTSpace
from search_spaces.blocks import classifier, conv_norm_act, residual
from supernet import Supernet, zero_residual_branches
from tests.supernet.doubles import SPACES, TINY, images_of

DEEP = [
    SPACES[0],
    ViTSpace(image_size=12, channels=2, num_classes=4, patch_sizes=(4, 6), depths=(1, 2, 3)),
    SPACES[2],
    TINY,
]


def outputs(supernet, rows, images):
    with torch.no_grad():
        return torch.stack([supernet(images, row) for row in rows])


@pytest.mark.parametrize("space", DEEP, ids=lambda s: s.name)
def test_the_network_starts_as_the_one_without_its_residual_blocks(space):
    """Depth changes nothing: against each network with all depths at their least."""
    supernet, images = Supernet(space), images_of(space, 6)
    names = zero_residual_branches(supernet)
    assert names
    rows = space.sample(60, np.random.default_rng(0))
    shallow = rows.copy()
    for j, choice in enumerate(space.choices):
        if "depth" in choice.name:
            shallow[:, j] = 0
        elif not choice.name.endswith(("width", "dim", "patch_size", "block")):
            shallow[:, j] = len(choice.values) - 1  # sizes within branches do not matter either
    if space.name == "CNNSpace":  # the first block of a stage is no residual one
        first = [j for j, c in enumerate(space.choices) if "layer0" in c.name]
        shallow[:, first] = rows[:, first]
    if space.name == "HybridSpace":  # where attention brings positions, which are no branch
        for name, primitive in supernet.primitives.items():
            if name.endswith("position"):
                nn.init.zeros_(primitive.embedding)
    deep, flat = (outputs(supernet, space.canonical(r), images) for r in (rows, shallow))
    assert deep.std() > 0.01
    assert (space.canonical(rows) != space.canonical(shallow)).any(axis=1).mean() > 0.4
    torch.testing.assert_close(deep, flat, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("space", DEEP, ids=lambda s: s.name)
def test_gradients_reach_every_weight_after_a_step(space):
    supernet, images = Supernet(space), images_of(space, 8)
    zero_residual_branches(supernet)
    optimiser = torch.optim.SGD(supernet.parameters(), lr=0.1)
    rows = np.concatenate([space.extremes("largest"), space.sample(60, np.random.default_rng(0))])

    def gradients():
        optimiser.zero_grad()
        for row in rows:
            F.cross_entropy(supernet(images, row), torch.arange(8) % 4).backward()
        return {name: p.grad for name, p in supernet.named_parameters()}

    silent = [name for name, g in gradients().items() if g is None or not g.any()]
    assert silent  # what lies within the branches
    optimiser.step()
    for name, gradient in gradients().items():
        # a bias of keys adds the same to all of a query's logits; softmax takes no notice
        if not name.endswith("key_bias"):
            assert gradient.any(), name


def test_names_of_bottlenecks_and_transformers():
    assert zero_residual_branches(Supernet(SPACES[0])) == (
        "stage0.layer1.project.norm", "stage1.layer1.project.norm", "stage1.layer2.project.norm",
    )  # fmt: skip
    supernet = Supernet(SPACES[1])
    names = zero_residual_branches(supernet)
    assert names == tuple(
        f"layer{i}.{branch}.project" for i in range(3) for branch in ("attention", "mlp")
    )
    for name in names:
        linear = supernet.primitives[name.replace(".", "_")]
        assert not linear.weight.any()
        assert not linear.bias.any()


@dataclass(frozen=True, kw_only=True)
class Branches(SearchSpace):
    """Sums of every kind."""

    image_size: int = 8

    def build(self, net, images):
        x = conv_norm_act(net, images, 8, kernel=3)
        with net.scope("conv"):
            x = residual(net, x, net.conv2d(x, 8, kernel=3, bias=True))
        with net.scope("tokens"):
            h = net.linear(net.to_tokens(x), 8, name="linear")
            x = residual(net, x, net.to_map(h))
        with net.scope("scaled"):
            x = residual(net, x, conv_norm_act(net, x, 8, kernel=3, activation=None), scale_slot=0)
        with net.scope("activated"):
            x = residual(net, x, conv_norm_act(net, x, 8, kernel=3))
        with net.scope("sometimes"):
            h = conv_norm_act(net, x, 8, kernel=3, activation=None)
            x = residual(net, x, h, where=net.choice("shortcut", ("no", "yes")) == "yes")
        with net.scope("projected"):
            shortcut = net.conv2d(x, 8, kernel=1, name="shortcut")
            x = residual(net, shortcut, conv_norm_act(net, x, 8, kernel=3, activation=None))
        with net.scope("read_twice"):
            h = conv_norm_act(net, x, 8, kernel=3, activation=None)
            x = net.concat(residual(net, x, h), h)
        return classifier(net, x, self.num_classes)


def test_only_branches_that_can_fall_silent_without_harm_are_silenced():
    supernet = Supernet(Branches())
    before = {k: v.clone() for k, v in supernet.state_dict().items()}
    assert zero_residual_branches(supernet) == ("conv.conv", "tokens.linear")
    changed = {k for k, v in supernet.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"primitives.conv_conv.weight", "primitives.tokens_linear.weight"}


def test_a_space_without_sums_stays_as_it_is():
    space = CNNSpace(image_size=8, stages=(ConvStage(depths=(1,)),))
    supernet = Supernet(space)
    before = supernet.weights_hash()
    assert zero_residual_branches(supernet) == ()
    assert supernet.weights_hash() == before
    hybrid = HybridSpace(image_size=8, stages=(HybridStage(depths=(0,)),))
    assert zero_residual_branches(Supernet(hybrid)) == ()
