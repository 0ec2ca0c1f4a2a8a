import numpy as np
import pytest

from predictors import feature_names, features
from records import BadInputError
from search_spaces import CNNSpace, HybridSpace, ViTSpace

SPACES = [CNNSpace(), ViTSpace(), HybridSpace()]


@pytest.fixture(params=SPACES, ids=lambda space: space.name)
def space(request):
    return request.param


def test_names_and_columns_agree(space):
    genes = space.sample(50, np.random.default_rng(0))
    names = feature_names(space)
    assert features(space, genes).shape == (50, len(names))
    assert len(set(names)) == len(names)
    assert features(space, genes[:0]).shape == (0, len(names))


def test_values_by_hand(space):
    """Every column against the architecture as a person reads it."""
    genes = space.sample(40, np.random.default_rng(1))
    names = feature_names(space)
    for row, architecture in zip(features(space, genes), space.decode(genes), strict=True):
        found = dict(zip(names, row, strict=True))
        chosen = dict(architecture.items)
        graph = space.graph(architecture)
        for choice in space.choices:
            value = chosen.get(choice.name)
            if choice.is_categorical:
                for name in choice.values:
                    assert found[f"{choice.name}={name}"] == (value == name)
            elif value is None:
                assert found[choice.name] == -1
            else:
                place = choice.values.index(value) / (len(choice.values) - 1)
                assert found[choice.name] == pytest.approx(place)
            if f"active({choice.name})" in found:
                assert found[f"active({choice.name})"] == (choice.name in chosen)
        assert found["log_macs"] == pytest.approx(np.log(sum(x.macs for x in graph.layers)))
        parameters = sum(x.parameters for x in graph.layers)
        assert found["log_parameters"] == pytest.approx(np.log(parameters))
        written = sum(4 * x.channels * x.height * x.width for x in graph.layers)
        assert found["log_activation_bytes"] == pytest.approx(np.log(written))
        assert found["layers"] == len(graph.layers)
        for operator in ("conv2d", "attention"):
            count = sum(x.operator == operator for x in graph.layers)
            assert found.get(f"layers({operator})", 0) == count


def test_distinct_networks_differ(space):
    genes = np.unique(space.sample(500, np.random.default_rng(2)), axis=0)
    assert len(np.unique(features(space, genes), axis=0)) == len(genes)


def test_equal_networks_are_equal(space):
    rng = np.random.default_rng(3)
    raw = rng.integers(0, space.gene_space.sizes, (200, len(space.choices)))
    canonical = space.canonical(raw.astype(np.int16))
    np.testing.assert_array_equal(features(space, raw), features(space, canonical))


def test_rows_stand_alone(space):
    genes = space.sample(30, np.random.default_rng(4))
    together = features(space, genes)
    np.testing.assert_array_equal(features(space, genes[11:12])[0], together[11])


def test_foreign_genes():
    with pytest.raises(BadInputError):
        features(CNNSpace(), np.zeros((2, 3), int))
