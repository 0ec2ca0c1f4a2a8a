import json

import numpy as np
import pytest

from records import BadInputError, UnknownNameError
from search_spaces import CNNSpace, SearchSpace, WithRecipe

BASE = CNNSpace(image_size=8)
RECIPE = (
    ("learning_rate", (0.03, 0.1, 0.3)),
    ("ema", (False, True)),
    ("epochs", (10,)),
    ("augmentation", ("none", "mixup")),
)
SPACE = WithRecipe(base=BASE, recipe=RECIPE)


def recipe(**changes):
    usual = {"learning_rate": 0.1, "ema": False, "epochs": 10, "augmentation": "none"}
    return {**usual, **changes}


def test_networks_and_recipes_come_back():
    networks = BASE.sample(3, np.random.default_rng(0))
    recipes = [recipe(), recipe(ema=True), recipe(augmentation="mixup", learning_rate=0.3)]
    rows = SPACE.trained_by(networks, recipes)
    np.testing.assert_array_equal(SPACE.to_base(rows), networks)
    assert SPACE.recipes_of(rows) == recipes
    assert SPACE.recipes_of(SPACE.trained_by(networks, recipe())) == [recipe()] * 3
    assert SPACE.trained_by(networks[:0], []).shape == (0, len(SPACE.choices))


def test_a_recipe_multiplies_the_rows_and_leaves_costs_alone():
    assert SPACE.cardinality == 12 * BASE.cardinality
    rows = SPACE.sample(50, np.random.default_rng(1))
    table, plain = SPACE.layer_table(rows), BASE.layer_table(SPACE.to_base(rows))
    np.testing.assert_array_equal(table.macs, plain.macs)
    kept = SPACE.without_platform(rows)
    np.testing.assert_array_equal(kept, rows)  # an accuracy belongs to a row with its recipe


def test_it_is_written_down():
    again = SearchSpace.from_json(json.loads(json.dumps(SPACE.to_json())))
    assert again == SPACE
    assert again.hash == SPACE.hash != WithRecipe(base=BASE, recipe=RECIPE[:2]).hash
    with pytest.raises(BadInputError, match="'recipe' by choice"):
        SearchSpace.from_json({**SPACE.to_json(), "parameters": {"base": BASE.to_json()}})


def test_what_is_no_recipe():
    networks = BASE.sample(2, np.random.default_rng(2))
    with pytest.raises(BadInputError, match="nothing to choose"):
        WithRecipe(base=BASE, recipe=(("epochs", (10,)),))
    with pytest.raises(BadInputError, match="declared twice"):
        WithRecipe(base=BASE, recipe=((BASE.choices[0].name, (1, 2)),))
    with pytest.raises(BadInputError, match=r"'learning_rate' of a recipe is 0.2; allowed"):
        SPACE.trained_by(networks, recipe(learning_rate=0.2))
    with pytest.raises(BadInputError, match="'ema' of a recipe is missing"):
        SPACE.trained_by(networks, {"learning_rate": 0.1})
    with pytest.raises(UnknownNameError, match="learning_rate"):
        SPACE.trained_by(networks, recipe(learning_rat=0.1))
    with pytest.raises(BadInputError, match="each of the 2 networks, got 3"):
        SPACE.trained_by(networks, [recipe()] * 3)
