import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records import BadInputError
from search_spaces import CNNSpace, ConvStage, additive, least
from search_spaces.layer_table import COLUMNS
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
