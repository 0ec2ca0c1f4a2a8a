"""Features against the layer table's own totals."""

import numpy as np
import pytest

from latency_models.transfer import ArchitectureFeatures, space_features
from records import BadInputError
from search_spaces.standard import FBNetSpace, OFAMobileNetV3


@pytest.mark.parametrize("space", [FBNetSpace.cifar100(), OFAMobileNetV3()], ids=["fbnet", "ofa"])
def test_features_hold_the_totals_of_the_layer_table(space):
    genes = space.sample(60, np.random.default_rng(0))
    features = space_features(space, genes)
    table = space.layer_table(genes)
    np.testing.assert_array_equal(features.counts[:, 0], table.total("active"))
    np.testing.assert_array_equal(features.work[:, 0], table.parameters)
    np.testing.assert_array_equal(features.work[:, 1], table.total("elements"))
    for amount, alone, both in (
        (table.macs, 1, 4),
        (table.total("elements"), 2, 5),
        (table.parameters, 3, 6),
    ):
        layers = table.total("active") / table.total("active").mean()
        np.testing.assert_allclose(features.guesses[:, alone], amount / amount.mean())
        expected = (amount / amount.mean() + layers) / 2
        np.testing.assert_allclose(features.guesses[:, both], expected)
    # multiply-accumulates of the kinds add up, up to layers that all networks share
    design = np.concatenate([np.ones((60, 1)), features.work], axis=1)
    fit = design @ np.linalg.lstsq(design, table.macs.astype(float), rcond=None)[0]
    np.testing.assert_allclose(fit, table.macs, rtol=1e-6)


def test_a_choice_of_many_values_is_a_number_and_others_are_one_hot():
    space = OFAMobileNetV3()
    genes = space.sample(50, np.random.default_rng(0))
    features = space_features(space, genes)
    resolution = space.settings(genes).resolutions
    np.testing.assert_allclose(features.numbers[:, 0], (resolution - 128) / 96)
    depths = space.settings(genes).depths.sum(axis=1)
    assert (features.choices.sum(axis=1) == 5 + 2 * depths).all()


def test_features_of_wrong_shape_are_refused():
    empty = np.zeros((3, 0))
    names = ("counts", "work", "guesses", "choices", "numbers", "pairs")
    with pytest.raises(BadInputError, match="work must be 3 x columns"):
        ArchitectureFeatures(**dict.fromkeys(names, empty) | {"work": np.zeros((2, 1))})
    with pytest.raises(BadInputError, match="work must be finite"):
        ArchitectureFeatures(**dict.fromkeys(names, empty) | {"work": np.full((3, 1), np.nan)})
