import pytest
import torch

from records import BadInputError
from supernet import TrainingError, accuracy, train_alone
from tests.supernet.doubles import RECIPE, TINY, easy_data
from tests.supernet.test_training import with_nan

GRAPHS = [TINY.graph(row) for row in TINY.extremes("largest")]


@pytest.mark.parametrize("graph", GRAPHS, ids=["conv", "attention"])
def test_learns_to_tell_the_classes_apart(graph):
    data, steps = easy_data(), []
    network = train_alone(graph, data, epochs=8, recipe=RECIPE, on_step=steps.append)
    assert not network.training
    assert accuracy(network, data.test) > 0.9
    assert [s.number for s in steps] == list(range(1, 65))
    assert steps[-1].losses[0] < steps[0].losses[0] / 2


def test_same_seed_same_weights():
    def weights(seed):
        torch.manual_seed(seed + 40)
        return train_alone(GRAPHS[0], easy_data(), epochs=1, recipe=RECIPE, seed=seed).state_dict()

    first, second, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["layers.classifier.weight"], other["layers.classifier.weight"])


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(TrainingError, match="not finite at step 0"):
        train_alone(GRAPHS[0], with_nan(slice(None)), epochs=1, recipe=RECIPE)
    with pytest.raises(BadInputError, match="epochs must be >= 1"):
        train_alone(GRAPHS[0], easy_data(), epochs=0)
