"""Which layers are read, against the graphs of architectures."""

from dataclasses import dataclass

import numpy as np
import pytest

from search_spaces import SearchSpace
from search_spaces.blocks import classifier
from supernet import layer_sources
from supernet.layer_sources import Sources
from tests.supernet.doubles import SPACES, TINY


@dataclass(frozen=True, kw_only=True)
class Operations(SearchSpace):
    """Layers that are one of several operations or nothing at all, one behind the other."""

    image_size: int = 4
    channels: int = 2
    places: int = 3

    def build(self, net, images):
        x = net.conv2d(images, 4, kernel=1, name="stem")
        for i in range(self.places):
            with net.scope(f"place{i}"):
                kind = net.choice("operation", ("conv", "pool", "skip"))
                with net.when(kind == "conv"):
                    x = net.batch_norm(net.conv2d(x, 4, kernel=3))
                with net.when(kind == "pool"):
                    x = net.max_pool(x, kernel=3, padding=1, name="maximum")
        return classifier(net, x, self.num_classes)


def seen(space, rows):
    """For every layer and input the layers that it reads in some architecture."""
    place = {node.name: i for i, node in enumerate(space.nodes)}
    found: dict = {}
    for row in rows:
        layers = space.graph(row).layers
        for layer in layers:
            for k, source in enumerate(layer.inputs):
                found.setdefault((place[layer.name], k), set()).add(place[layers[source].name])
        found.setdefault("output", set()).add(place[layers[-1].name])
    return found


def claimed(space):
    sources = Sources(space.choices, space.nodes)
    found: dict = {"output": set(sources.of_output())}
    for place, node in enumerate(space.nodes):
        for k in range(len(node.inputs)):
            found[place, k] = set(sources.of_input(place, k))
    return found


@pytest.mark.parametrize("space", [*SPACES, TINY, Operations()], ids=lambda s: s.name)
def test_sources_are_exactly_those_of_all_architectures(space):
    few = space.cardinality <= 1000
    rows = space.enumerate() if few else space.sample(1500, np.random.default_rng(0))
    assert claimed(space) == seen(space, rows)


def test_conditions_on_too_many_settings_are_taken_to_hold(monkeypatch):
    space = Operations()
    exact = claimed(space)
    monkeypatch.setattr(layer_sources, "MOST_SETTINGS", 1)
    careful = claimed(space)
    assert careful.keys() == exact.keys()
    assert all(exact[key] <= careful[key] for key in exact)
    assert careful != exact
