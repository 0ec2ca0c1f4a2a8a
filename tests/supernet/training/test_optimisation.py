from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from supernet import Supernet
from supernet.training import ExponentialWithFloor, make_optimiser
from supernet.training.optimisation import MovingAverage, set_learning_rate
from tests.search_spaces.zoo import Zoo
from tests.supernet.doubles import RECIPE, SPACES, TINY


def rates(recipe, total=50):
    optimiser = make_optimiser(Supernet(TINY), recipe)
    told = [set_learning_rate(optimiser, recipe, step, total) for step in range(total)]
    assert {group["lr"] for group in optimiser.param_groups} == {told[-1]}
    return told


def test_the_rate_rises_and_falls_as_told():
    told = rates(replace(RECIPE, learning_rate=2.0, warmup_share=0.2))
    np.testing.assert_allclose(told[:10], np.linspace(0.2, 2, 10))
    np.testing.assert_allclose(told[10:], 1 + np.cos(np.pi * np.arange(40) / 40))


def test_the_schedule_begins_after_the_warm_up():
    schedule = ExponentialWithFloor(final=0.01, floor=0.05)
    told = rates(replace(RECIPE, learning_rate=1.0, warmup_share=0.2, schedule=schedule))
    np.testing.assert_allclose(told[:10], np.linspace(0.1, 1, 10))
    np.testing.assert_allclose(told[10:], np.maximum(0.01 ** (np.arange(40) / 40), 0.05))


def test_without_a_warm_up_the_first_step_has_the_whole_rate():
    assert rates(replace(RECIPE, learning_rate=0.5, warmup_share=0), total=3)[0] == 0.5


def decayed_names(supernet):
    optimiser = make_optimiser(supernet, RECIPE)
    assert [g["weight_decay"] for g in optimiser.param_groups] == [RECIPE.weight_decay, 0]
    decayed = {id(p) for p in optimiser.param_groups[0]["params"]}
    assert sum(len(g["params"]) for g in optimiser.param_groups) == len(
        list(supernet.parameters())
    )
    return {name for name, p in supernet.named_parameters() if id(p) in decayed}


def test_weight_decay_spares_norms_biases_positions_and_transforms():
    supernet = Supernet(SPACES[2])
    names = decayed_names(supernet)
    spared = {name for name, _ in supernet.named_parameters()} - names
    assert all(n.endswith(("conv.weight", "project.weight", "expand.weight", "classifier.weight",
                           ".query", ".key", ".value")) for n in names)  # fmt: skip
    assert all("norm" in n or "transforms" in n or n.endswith(("bias", "embedding"))
               for n in spared)  # fmt: skip
    assert {n.rsplit(".", 1)[-1] for n in spared} >= {"query_bias", "embedding", "5", "bias"}


def test_weight_decay_spares_scales():
    supernet = Supernet(Zoo(image_size=8, resolutions=(4, 8)))
    scales = {n for n, _ in supernet.named_parameters() if n.endswith("factors")}
    assert scales
    assert not scales & decayed_names(supernet)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_an_update_is_that_of_the_formula(optimiser):
    """Weights whose memory is ordered otherwise than that of their gradients, as in training."""
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    module = nn.ParameterList([nn.Parameter(weight.clone())])
    recipe = replace(RECIPE, optimiser=optimiser, learning_rate=0.1, weight_decay=0.5)
    update = make_optimiser(module, recipe)
    x, m, v = weight.double(), 0.0, 0.0
    for step in range(1, 4):
        g = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(step))
        module[0].grad = g
        update.step()
        if optimiser == "adamw":
            m, v = 0.9 * m + 0.1 * g.double(), 0.999 * v + 0.001 * g.double() ** 2
            x = x * (1 - 0.1 * 0.5)
            x = x - 0.1 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        else:
            g = g.double() + 0.5 * x
            m = g if step == 1 else 0.9 * m + g
            x = x - 0.1 * (g + 0.9 * m)
    torch.testing.assert_close(module[0].detach().double(), x, atol=1e-5, rtol=1e-5)


def test_the_average_follows_its_formula():
    module = nn.Linear(2, 1)
    average = MovingAverage(module, decay=0.5)
    expected = {name: p.detach().double() for name, p in module.named_parameters()}
    for step in range(20):
        with torch.no_grad():
            for p in module.parameters():
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(step)))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, p in module.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * p.detach().double()
    assert decay == 0.5
    for name, value in average.weights.items():
        torch.testing.assert_close(value.double(), expected[name], atol=1e-6, rtol=1e-6)
    average.copy_to_module()
    for name, p in module.named_parameters():
        assert torch.equal(p.detach(), average.weights[name])
        assert p.data_ptr() != average.weights[name].data_ptr()
