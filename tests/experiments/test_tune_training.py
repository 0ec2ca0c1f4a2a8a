"""The trainable by itself; nothing here starts Ray."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from records import BadInputError
from search_spaces import CNNSpace
from strategies.tune_config import network_config
from supernet import Recipe, accuracy, train_alone
from tests.supernet.doubles import easy_data

pytest.importorskip("ray")

from experiments.tune_training import trained_until, training_trainable

DATA = easy_data()
SPACE = CNNSpace(image_size=DATA.image_size, channels=DATA.channels, num_classes=DATA.num_classes)
ROW = SPACE.extremes("smallest")[0]
RECIPE = Recipe(batch_size=64)
OPTIONS = {"epochs": 3, "recipe": RECIPE, "seed": 5}


@pytest.fixture
def trial(monkeypatch, tmp_path):
    """A trial as Tune starts it, in this process."""
    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path))
    threads = torch.get_num_threads()
    trial = training_trainable(SPACE, DATA, **OPTIONS)(network_config(SPACE, ROW))
    yield trial
    trial.stop()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def alone():
    """The same network, trained without a break."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network = train_alone(SPACE.graph(ROW), DATA, **OPTIONS)
    torch.set_num_threads(threads)
    return network


def test_epoch_by_epoch_it_comes_to_what_one_training_comes_to(trial, alone):
    reports = [trial.train() for _ in range(3)]
    assert [(r["epoch"], r["done"]) for r in reports] == [(1, False), (2, False), (3, True)]
    assert reports[-1]["accuracy"] == accuracy(alone, DATA.validation)
    assert len({r["accuracy"] for r in reports}) > 1, "it learns"


def test_it_goes_on_from_a_checkpoint_in_another_trial(trial, alone, tmp_path):
    first = [trial.train() for _ in range(2)]
    saved = trial.save(str(tmp_path / "saved"))
    trial.reset(network_config(SPACE, SPACE.extremes("largest")[0]))
    assert trial.train()["accuracy"] != first[0]["accuracy"]
    trial.reset(network_config(SPACE, ROW))
    trial.restore(saved)
    report = trial.train()
    assert (report["epoch"], report["done"]) == (3, True)
    assert report["accuracy"] == accuracy(alone, DATA.validation)
    folder = trial.folder
    trial.cleanup()
    assert not folder.exists()


def test_a_trial_that_has_not_begun_can_be_kept(trial, tmp_path):
    saved = trial.save(str(tmp_path / "saved"))
    trial.restore(saved)
    assert trial.train()["epoch"] == 1


def test_every_weight_is_that_of_one_training(alone, tmp_path):
    for epoch in (1, 2, 3):
        network = trained_until(
            SPACE.graph(ROW), DATA, epoch=epoch, checkpoint=tmp_path / "run.safetensors", **OPTIONS
        )
    expected = alone.state_dict()
    found = network.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_test_split_is_not_sent(trial):
    assert trial.data.test is trial.data.validation
    assert torch.equal(trial.data.train.images, DATA.train.images)
    assert trial.data.class_names == DATA.class_names


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(BadInputError, match="epochs must be >= 1"):
        training_trainable(SPACE, DATA, epochs=0)
    with pytest.raises(BadInputError, match="channels"):
        training_trainable(replace(SPACE, channels=2 + DATA.channels), DATA, epochs=1)


def test_rows_of_one_space_are_no_rows_of_another(trial):
    config = network_config(SPACE, ROW)
    config["genes"] += "-" + "-".join(str(g) for g in np.zeros(3, int))
    with pytest.raises(BadInputError, match="genes"):
        trial.reset(config)
