import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictors.folds import assign_folds, distinct
from records import BadInputError


@given(st.integers(2, 40), st.integers(2, 6), st.integers(0, 2**32))
def test_equal_rows_stay_together_and_no_fold_is_empty(n, folds, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 4, (n, 2))
    groups = int(distinct(rows).max()) + 1
    if groups < folds:
        with pytest.raises(BadInputError):
            assign_folds(rows, folds, rng)
        return
    fold = assign_folds(rows, folds, rng)
    assert set(fold) == set(range(folds))
    if groups > 1 and len(np.unique(rows, axis=0)) > 1:
        for row in rows:
            assert len(set(fold[(rows == row).all(axis=1)])) == 1


def test_folds_are_even():
    fold = assign_folds(np.arange(103)[:, None], 4, np.random.default_rng(0))
    assert sorted(np.bincount(fold)) == [25, 26, 26, 26]


def test_rows_that_are_all_equal_are_dealt_out():
    fold = assign_folds(np.ones((8, 3)), 4, np.random.default_rng(0))
    np.testing.assert_array_equal(np.bincount(fold), [2, 2, 2, 2])


def test_nothing_to_deal_out():
    with pytest.raises(BadInputError):
        assign_folds(np.zeros((0, 3)), 2, np.random.default_rng(0))
