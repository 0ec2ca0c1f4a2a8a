import math

import numpy as np
import pytest

from records import BadInputError
from strategies.reference_directions import das_dennis, directions_for, reference_directions


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
@pytest.mark.parametrize("divisions", [1, 2, 4, 7])
def test_they_are_all_multiples_on_the_simplex(objectives, divisions):
    found = das_dennis(objectives, divisions)
    assert len(np.unique(found, axis=0)) == len(found)
    assert len(found) == math.comb(objectives + divisions - 1, divisions)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found * divisions, np.rint(found * divisions), atol=1e-12)
    assert (found >= 0).all()


def test_no_division_is_the_centre():
    np.testing.assert_allclose(das_dennis(4, 0), np.full((1, 4), 0.25))


@pytest.mark.parametrize(("objectives", "divisions"), [(2, 9), (3, 12), (4, 6), (8, 3)])
def test_they_are_those_of_pymoo(objectives, divisions):
    directions = pytest.importorskip("pymoo.util.ref_dirs")
    theirs = directions.get_reference_directions("das-dennis", objectives, n_partitions=divisions)
    np.testing.assert_allclose(das_dennis(objectives, divisions), theirs, atol=1e-12)


def test_two_layers_are_those_of_pymoo():
    pytest.importorskip("pymoo")
    from pymoo.util.ref_dirs import get_reference_directions

    layers = [
        get_reference_directions("das-dennis", 8, n_partitions=p, scaling=s)
        for p, s in ((3, None), (2, 0.5))
    ]
    theirs = np.concatenate(layers)
    ours = reference_directions(8, 3, 2)
    assert len(ours) == 120 + 36
    np.testing.assert_allclose(
        ours[np.lexsort(ours.round(9).T)], theirs[np.lexsort(theirs.round(9).T)], atol=1e-12
    )


def test_one_layer_is_the_outer_one():
    np.testing.assert_array_equal(reference_directions(3, 4), das_dennis(3, 4))


def test_layers_that_meet_are_joined():
    both = reference_directions(2, 4, 2)  # of the inner 1/4, 2/4, 3/4 all are in the outer
    np.testing.assert_allclose(both, das_dennis(2, 4))


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 8, 12])
@pytest.mark.parametrize("population", [2, 15, 92, 156])
def test_a_population_can_serve_those_made_for_it(objectives, population):
    found = directions_for(objectives, population)
    assert 1 <= len(found) <= max(population, 1)
    assert len(np.unique(found.round(12), axis=0)) == len(found)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_the_numbers_of_the_paper_are_found():
    assert [len(directions_for(m, n)) for m, n in ((3, 92), (8, 156))] == [91, 156]


def test_numbers_that_make_no_directions_are_refused():
    with pytest.raises(BadInputError, match="directions need an objective"):
        das_dennis(0, 3)
