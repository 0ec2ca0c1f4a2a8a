"""Accuracy from architecture and recipe: with few epochs small networks lead, with many large."""

import numpy as np
import pytest

from predictors import BoostedTrees, PretrainedPredictor, StackedPredictor, rank_quality
from search_spaces import CNNSpace, WithRecipe

BASE = CNNSpace(image_size=8, channels=1)
SPACE = WithRecipe(
    base=BASE, recipe=(("epochs", (5, 15, 45)), ("augmentation", ("none", "mixup")))
)
SLOPES = {5: -1.0, 15: 0.3, 45: 1.0}


@pytest.fixture(scope="module")
def data():
    rows = SPACE.sample(300, np.random.default_rng(0))
    size = np.log(SPACE.layer_table(rows).parameters)
    recipes = SPACE.recipes_of(rows)
    slope = np.array([SLOPES[recipe["epochs"]] for recipe in recipes])
    mixup = np.array([recipe["augmentation"] == "mixup" for recipe in recipes])
    return rows, slope * (size - size.mean()) + 0.3 * mixup, slope


def within(model, rows, values, slope):
    """Kendall's tau among networks of few epochs, and of many, from 80 rows of all."""
    found = model.fit(rows[:80], values[:80]).predict(rows[80:]).mean
    return [
        rank_quality(found[slope[80:] == s], values[80:][slope[80:] == s]).kendall_tau
        for s in (-1.0, 1.0)
    ]


@pytest.mark.parametrize(
    ("model", "least"),
    [
        (StackedPredictor(SPACE, members=("pairwise",)), 0.5),
        (BoostedTrees(SPACE), 0.2),
    ],
    ids=["stacked", "boosted"],
)
def test_a_recipe_turns_the_ranking_of_networks_around(data, model, least):
    assert min(within(model, *data)) > least


def test_without_the_recipe_one_of_the_rankings_is_wrong(data):
    rows, values, slope = data
    model = StackedPredictor(BASE, members=("pairwise",))
    assert min(within(model, SPACE.to_base(rows), values, slope)) < 0


def test_encoders_keep_the_recipe(data):
    """A shift by the recipe alone is learned beside statistics that it does not change."""
    rows, _, _ = data
    mixup = rows[:, -1].astype(float)
    model = PretrainedPredictor(SPACE, networks=500, encoders=2, width=24, steps=20)
    found = model.fit(rows[:60], mixup[:60]).predict(rows[60:]).mean
    assert found[mixup[60:] == 1].mean() > found[mixup[60:] == 0].mean() + 0.4


def test_a_joint_predictor_is_written_down_with_its_recipe(data, tmp_path):
    rows, values, _ = data
    model = StackedPredictor(SPACE, members=("linear",)).fit(rows[:30], values[:30])
    model.save(tmp_path / "model")
    again = StackedPredictor.load(tmp_path / "model")
    assert again.space == SPACE
    np.testing.assert_array_equal(again.predict(rows).mean, model.predict(rows).mean)
