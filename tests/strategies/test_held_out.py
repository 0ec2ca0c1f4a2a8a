import numpy as np
import pytest

from strategies.held_out import ENOUGH, predictor_quality
from tests.strategies.doubles import SPACE

GENES = SPACE.sample(4, np.random.default_rng(0))


STD = np.full(4, 0.1)


def test_hand_counted_values():
    measured = np.array([0.5, 0.6, 0.8, 0.4])
    predicted = np.array([0.4, 0.6, 0.7, 0.5])
    found = predictor_quality(SPACE, GENES, predicted, STD, measured)
    assert found.count == 4
    assert found.kendall_tau == pytest.approx((5 - 1) / 6)
    assert found.mape == pytest.approx((0.1 / 0.5 + 0 + 0.1 / 0.8 + 0.1 / 0.4) / 4)
    assert found.predictor.coverage_90 == 1


def test_macs_alone_are_compared_on_the_same_networks():
    macs = SPACE.layer_table(GENES).macs.astype(float)
    rising = np.argsort(np.argsort(macs)) / 10
    for values, tau in ((rising, 1), (-rising, -1)):
        found = predictor_quality(SPACE, GENES, STD, STD, values)
        assert found.macs_kendall_tau == pytest.approx(tau)
        assert np.isnan(found.kendall_tau)


def test_no_pairs_give_nan():
    none = np.zeros(0)
    found = predictor_quality(SPACE, GENES[:0], none, none, none)
    assert found.count == 0
    assert np.isnan([found.kendall_tau, found.mape, found.macs_kendall_tau]).all()
    assert str(found).startswith("0 predictions")


def test_a_rank_correlation_of_few_networks_is_called_so():
    genes = SPACE.sample(ENOUGH, np.random.default_rng(0))
    values = np.linspace(0.1, 0.9, ENOUGH)
    for count, is_few in ((ENOUGH - 1, True), (ENOUGH, False)):
        ranked = values[:count]
        found = str(predictor_quality(SPACE, genes[:count], ranked, ranked, ranked))
        assert found.startswith(f"{count} predictions")
        assert "Kendall tau 1.00" in found
        assert ("too few to tell" in found) == is_few
