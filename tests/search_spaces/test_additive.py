import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records import BadInputError
from search_spaces import CNNSpace, ConvStage, additive, layer_values, least
from search_spaces.additive import LAYER_METRICS
from search_spaces.layer_table import COLUMNS
from tests.search_spaces.conditional import made_up
from tests.search_spaces.doubles import TINY, all_rows


@pytest.mark.parametrize("space", TINY, ids=lambda s: s.name)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_least_equals_brute_force_on_made_up_costs(space, seed):
    """Costs that no order of sizes explains: any architecture may be the least."""
    rng = np.random.default_rng(seed)
    sizes = np.stack([space.layers.columns[name] for name in COLUMNS])
    layer = rng.normal(size=space.layers.rows)[space.layers.row_of_variant()]
    active = space.layers.columns["active"]
    values = np.sin(rng.normal(size=len(COLUMNS)) @ sizes + layer) * active
    rows = all_rows(space)
    sums = values[space.layers.codes(rows)].sum(axis=0)
    for sign in (1, -1):
        found, row = least(space, space.layers, sign * values)
        np.testing.assert_allclose(found, (sign * sums).min(), atol=1e-9)
        np.testing.assert_array_equal(row, space.canonical(row[None])[0])
        reached = values[space.layers.codes(row[None])].sum()
        np.testing.assert_allclose(sign * reached, found, atol=1e-9)


@pytest.mark.parametrize("space", TINY, ids=lambda s: s.name)
@pytest.mark.parametrize("name", ["macs", "parameters", "elements"])
def test_least_and_greatest_equal_brute_force(space, name):
    rows = np.unique(space.canonical(all_rows(space)), axis=0)
    totals = space.layer_table(rows).total(name)
    values = space.layers.columns[name].astype(np.float64)
    for sign, expected in ((1, totals.min()), (-1, totals.max())):
        found, row = least(space, space.layers, sign * values)
        assert sign * found == expected
        assert space.layer_table(row[None]).total(name)[0] == expected


def test_tables_that_hang_together_too_tightly_are_refused(monkeypatch):
    space = CNNSpace(image_size=8, stages=(ConvStage(),))
    monkeypatch.setattr(additive, "MAX_JOINED", 8)
    with pytest.raises(BadInputError, match="use a search instead"):
        least(space, space.layers, space.layers.columns["macs"].astype(np.float64))


@pytest.mark.parametrize("space", TINY, ids=lambda s: s.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_least_of_those_that_have_a_value_equals_brute_force(space, seed):
    values, costs = made_up(space, seed)
    rows = space.enumerate()
    active = space.active(rows)
    for j, choice in enumerate(space.choices):
        for place, value in enumerate(choice.values):
            found, row = least(space, space.layers, values, having={choice.name: value})
            mine = active[:, j] & (rows[:, j] == place)
            np.testing.assert_allclose(found, costs[mine].min(), atol=1e-9)
            assert space.active(row[None])[0, j]
            assert row[j] == place
            reached = values[space.layers.codes(row[None])].sum()
            np.testing.assert_allclose(reached, found, atol=1e-9)


def test_several_values_can_be_asked_for_together():
    space = TINY[0]
    values, costs = made_up(space, 2)
    rows = space.enumerate()
    names = [c.name for c in space.choices]
    depth, block = names.index("stage0.depth"), names.index("stage0.block")
    mine = (rows[:, depth] == 2) & (rows[:, block] == 1)
    having = {"stage0.depth": 2, "stage0.block": "attention"}
    found, _ = least(space, space.layers, values, having=having)
    np.testing.assert_allclose(found, costs[mine].min(), atol=1e-9)
    nothing, _ = least(
        space, space.layers, values, having={"stage0.depth": 0, "stage0.block": "attention"}
    )
    assert nothing == np.inf


def test_what_nothing_can_have_is_refused_by_name():
    space = TINY[0]
    values, _ = made_up(space, 0)
    for having, why in (
        ({"stage0.dpeth": 1}, "unknown choice 'stage0.dpeth'; did you mean 'stage0.depth'"),
        ({"stage0.depth": 7}, r"choice 'stage0.depth' is never 7; allowed: \(0, 1, 2\)"),
    ):
        with pytest.raises(BadInputError, match=why):
            least(space, space.layers, values, having=having)
    for wrong in (values[:-1], np.where(values == values[0], np.inf, values)):
        with pytest.raises(BadInputError, match="needs a finite value for each of its"):
            least(space, space.layers, wrong)


def test_layer_values_are_the_columns_that_add_up():
    space = TINY[1]
    rows = space.enumerate()
    for name in LAYER_METRICS:
        table, values = layer_values(space, name)
        np.testing.assert_array_equal(
            values[table.codes(rows)].sum(axis=0), space.layer_table(rows).total(name)
        )
    with pytest.raises(BadInputError, match="unknown metric of the layers 'kernel'"):
        layer_values(space, "kernel")
