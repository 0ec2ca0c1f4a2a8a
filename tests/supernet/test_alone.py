from dataclasses import replace

import pytest
import torch

from records import BadInputError
from supernet import Supernet, TrainingError, accuracy, train, train_alone
from supernet.training import Sandwich
from tests.supernet.doubles import RECIPE, SPACES, TINY, easy_data, with_nan

GRAPHS = [TINY.graph(row) for row in TINY.extremes("largest")]


@pytest.mark.parametrize("graph", GRAPHS, ids=["conv", "attention"])
def test_learns_to_tell_the_classes_apart(graph):
    data, steps = easy_data(), []
    network = train_alone(graph, data, epochs=8, recipe=RECIPE, on_step=steps.append)
    assert not network.training
    assert accuracy(network, data.test) > 0.9
    assert [s.number for s in steps] == list(range(1, 65))
    assert {s.roles for s in steps} == {("largest",)}
    assert steps[-1].losses[0] < steps[0].losses[0] / 2


def weights_of(seed=0, **options):
    options = {"epochs": 1, "recipe": RECIPE, **options}
    return train_alone(GRAPHS[0], easy_data(), seed=seed, **options).state_dict()


def assert_equal(first, second):
    assert set(first) == set(second)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_same_seed_same_weights():
    first, other = weights_of(1), weights_of(2)
    torch.manual_seed(4)
    assert_equal(first, weights_of(1))
    assert not torch.equal(first["layers.classifier.weight"], other["layers.classifier.weight"])


def test_the_recipes_members_are_not_used():
    sandwich = replace(RECIPE, members=Sandwich(largest_alone_share=0))
    assert_equal(weights_of(), weights_of(recipe=sandwich))


@pytest.mark.parametrize(
    "recipe",
    [RECIPE, replace(RECIPE, optimiser="sgd", drop_path=0.2, dropout=0.2, ema=0.8)],
    ids=["default", "regularised"],
)
def test_equals_the_largest_network_of_a_supernet_that_trains_it_alone(recipe):
    """Bit for bit: one loop, one way to draw weights, batches and noise."""
    space = replace(SPACES[0], channels=1)
    row = space.extremes("largest")[0]
    data = easy_data(n=96)
    recipe = replace(recipe, members=Sandwich(largest_alone_share=1))
    supernet = train(Supernet(space, seed=3), data, epochs=2, recipe=recipe, seed=3)
    alone = train_alone(space.graph(row), data, epochs=2, recipe=recipe, seed=3)
    assert_equal(supernet.evaluator(data).subnet(row).state_dict(), alone.state_dict())


class Stop(Exception):  # noqa: N818
    pass


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    path = tmp_path / "run.safetensors"
    options = {"recipe": replace(RECIPE, ema=0.5, augment=True), "epochs": 2}

    def interrupt(step):
        if step.number == 11:
            raise Stop

    with pytest.raises(Stop):
        weights_of(checkpoint=path, checkpoint_every=4, on_step=interrupt, **options)
    left = []
    resumed = weights_of(checkpoint=path, on_step=left.append, **options)
    assert [s.number for s in left] == list(range(9, 17))
    assert_equal(resumed, weights_of(**options))
    with pytest.raises(BadInputError, match=r"written by another run \(graph_hash"):
        train_alone(GRAPHS[1], easy_data(), epochs=2, recipe=options["recipe"], checkpoint=path)


@pytest.mark.parametrize("size", [{"image_size": 16}, {"channels": 3}, {"num_classes": 5}])
def test_data_that_do_not_fit_the_network_are_refused(size):
    space = replace(TINY, **size)
    graph = space.graph(space.extremes("smallest")[0])
    with pytest.raises(BadInputError, match="dataset 'easy' has 1 x 8 x 8 and 4"):
        train_alone(graph, easy_data(), epochs=1)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(TrainingError, match="8 steps in a row are not finite"):
        train_alone(GRAPHS[0], with_nan(slice(None)), epochs=1, recipe=RECIPE)
    with pytest.raises(BadInputError, match="epochs must be >= 1"):
        train_alone(GRAPHS[0], easy_data(), epochs=0)
