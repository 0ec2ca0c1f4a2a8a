import numpy as np
import pytest

from experiments.baselines import ScaledResNet
from experiments.blocks import blocks
from experiments.datasets import load_dataset
from experiments.spaces import SPACES, make_space
from hardware_profiles import Target, device
from latency_models import RooflineCostModel

KINDS = {"stem", "conv", "attention", "transition", "head"}
TARGET = Target(profile=device("raspberry-pi-4"), batch_size=1, threads=1)


def spaces():
    for size in (None, 32):
        data = load_dataset("digits", image_size=size)
        yield from (make_space(name, data) for name in SPACES)
    yield ScaledResNet(image_size=8, channels=1, num_classes=10)


@pytest.mark.parametrize("space", list(spaces()), ids=lambda s: f"{s.name}-{s.image_size}")
def test_blocks_hold_every_layer_once_and_all_of_the_latency(space):
    costs = RooflineCostModel(space, TARGET)
    rows = np.concatenate(
        [
            space.extremes("smallest"),
            space.extremes("largest"),
            space.sample(12, np.random.default_rng(0)),
        ]
    )
    for row in rows:
        graph, parts = space.graph(row), costs.parts(row)
        layers = [layer.name for layer in graph.layers]
        found = blocks(graph, parts)

        assert sum(b.latency_ms for b in found) == pytest.approx(sum(p.latency_ms for p in parts))
        assert {p.name for p in parts} <= set(layers[1:])
        assert len(set(layers)) == len(layers)
        assert found[-1].kind == "head"
        assert found[0].kind == "stem"
        assert {b.kind for b in found} <= KINDS
        last = graph.layers[-1]
        assert found[-1].size == f"{last.height}x{last.width}x{last.channels}"


@pytest.mark.parametrize("name", SPACES)
def test_each_layer_belongs_to_exactly_one_block(name):
    space = make_space(name, load_dataset("digits"))
    graph = space.graph(space.extremes("largest")[0])
    part = RooflineCostModel(space, TARGET).parts(space.extremes("largest")[0])[0]
    for layer in graph.layers[1:]:
        one = type(part)(
            name=layer.name, kind=part.kind, latency_ms=1.0, compute_ms=0.0, memory_ms=0.0
        )

        found = blocks(graph, [one])

        assert sorted(b.latency_ms for b in found)[-2:] == [0.0, 1.0]
        assert sum(b.latency_ms for b in found) == 1.0


def test_what_a_block_says_of_itself():
    space = make_space("hybrid", load_dataset("digits"))
    row = space.extremes("largest")
    texts = " / ".join(b.text for r in row for b in blocks(space.graph(r), []))

    assert "conv 3x3" in texts
    assert "MBConv" in texts
    assert "attention" in texts
    assert "map to tokens" in texts
    assert "mean, linear" in texts
