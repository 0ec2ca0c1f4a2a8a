import numpy as np
import pytest
import torch

from experiments.baseline import MULTIPLIERS, ScaledResNet, scaled_to
from hardware_profiles import Target, device
from latency_models import MeasuredCostModel, RooflineCostModel
from supernet import Subnet

SPACE = ScaledResNet(image_size=32, channels=3, num_classes=10, blocks=3)


def row(multiplier):
    return np.array([MULTIPLIERS.index(multiplier)], np.int16)


def test_resnet_20_has_the_published_parameters_and_those_of_its_shortcuts():
    graph = SPACE.graph(row(1.0))
    subnet = Subnet(graph)
    shortcuts = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)  # two 1x1 convolutions with their norms

    # He et al., table 6: 0.27 M. With shortcuts padded by zeros it is 269,722 exactly, the
    # count that is usually given for CIFAR-10.
    assert graph.parameters == 269_722 + shortcuts == 272_474
    assert sum(p.numel() for p in subnet.parameters()) == graph.parameters
    assert sum(layer.operator == "conv2d" for layer in graph.layers) == 19 + 2


def test_resnet_8_is_named_by_its_layers_and_factor():
    space = ScaledResNet(image_size=8, channels=1, num_classes=10)

    assert space.title(row(0.5)) == "ResNet-8 x0.5"
    assert SPACE.title(row(2.0)) == "ResNet-20 x2"


def test_every_factor_gives_a_network_that_runs_and_is_larger_than_the_one_before():
    space = ScaledResNet(image_size=8, channels=1, num_classes=10)
    parameters = [space.graph(row(m)).parameters for m in MULTIPLIERS]

    assert parameters == sorted(set(parameters))
    subnet = Subnet(space.graph(row(MULTIPLIERS[0]))).eval()
    assert subnet(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("factor", [0.01, 0.9, 1.0, 1.07, 1.5, 100])
def test_scaled_to_picks_the_nearest_ratio_of_those_measured(factor):
    target = Target(profile=device("raspberry-pi-4"), batch_size=1, threads=1)
    genes = np.random.default_rng(0).permutation(len(MULTIPLIERS)).astype(np.int16)[:, None]
    every = RooflineCostModel(SPACE, target).latency_ms(genes)
    costs = MeasuredCostModel(SPACE, target, genes, every)
    for latency in every * factor:
        ratios = np.maximum(every / latency, latency / every)

        nearest = scaled_to(costs, latency)

        assert nearest.shape == (1,)
        assert nearest == genes[ratios.argmin()]
