"""Energy of subnets: its interval, its calibration, and what limits on it say."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from latency_models import RooflineCostModel
from latency_models.energy import energy_parts_mj, with_measured_energy
from records import BadInputError
from strategies import Problem
from tests.latency_models.doubles import HYBRID, PROFILE, TARGET, quantity
from tests.strategies.doubles import FormulaAccuracy

MODEL = RooflineCostModel(HYBRID, TARGET)
GENES = HYBRID.sample(200, np.random.default_rng(0))


def planted(model, genes, factors):
    """Energies that are known multiples of the parts."""
    parts = energy_parts_mj(model.target, model.lowering)
    codes = model.lowering.tabulation.codes(genes)
    columns = [part[codes].sum(axis=0) for part in parts] + [model.latency_ms(genes)]
    return sum(f * c for f, c in zip(factors, columns, strict=True))


def test_parts_with_all_factors_one_are_the_uncalibrated_energy():
    factors = (1, 1, 1, 1, PROFILE.idle_power_w.value)
    np.testing.assert_allclose(
        planted(MODEL, GENES, factors), MODEL.predict(GENES)["energy_mj"], rtol=1e-9
    )


def test_uncalibrated_energy_lies_between_idle_and_peak_power():
    costs = MODEL.costs(GENES)
    np.testing.assert_allclose(costs.energy_low_mj, 0.5 * costs.latency_ms)
    assert np.isnan(costs.energy_high_mj).all()  # no peak power is known
    assert MODEL.record(GENES[0])["energy_interval_mj"] is None
    known = replace(TARGET, profile=replace(PROFILE, peak_power_w=quantity(20.0)))
    model = RooflineCostModel(HYBRID, known)
    costs = model.costs(GENES[:3])
    np.testing.assert_allclose(costs.energy_high_mj, 20 * costs.latency_ms)
    assert model.record(GENES[0])["energy_interval_mj"] == [
        costs.energy_low_mj[0], costs.energy_high_mj[0],
    ]  # fmt: skip


def test_calibration_finds_planted_energies_of_other_networks():
    factors = (0.4, 3.0, 2.0, 0.1, 1.7)
    model = with_measured_energy(MODEL, GENES[:40], planted(MODEL, GENES[:40], factors))
    expected = planted(MODEL, GENES[40:], factors)
    predicted = model.predict(GENES[40:])["energy_mj"]
    assert np.abs(predicted / expected - 1).max() < 0.02
    assert np.abs(MODEL.predict(GENES[40:])["energy_mj"] / expected - 1).mean() > 0.2
    assert model.energy_source.startswith("predicted: factors fitted to 40 measured networks")
    error = float(model.energy_source.split()[-1].rstrip("%"))
    assert error < 2
    costs = model.costs(GENES[40:])
    assert (costs.energy_low_mj <= expected).mean() > 0.9
    assert (costs.energy_high_mj >= expected).mean() > 0.9
    (low, _), (high, _) = model.extremes("energy_mj")
    assert low <= predicted.min() <= predicted.max() <= high
    assert MODEL.energy_source.startswith("modelled")  # the given model stays as it is


def test_no_factor_is_negative_even_where_measurements_make_no_sense():
    energies = 1 / planted(MODEL, GENES[:8], (1, 1, 1, 1, 1))
    model = with_measured_energy(MODEL, GENES[:8], energies)
    assert (model.ceiling.energy_mj >= 0).all()
    assert model.ceiling.static_power_w >= 0
    assert float(model.energy_source.split()[-1].rstrip("%")) > 10


def test_calibration_refuses_what_it_cannot_fit():
    with pytest.raises(BadInputError, match="at least 4 networks"):
        with_measured_energy(MODEL, GENES[:3], [1, 2, 3])
    with pytest.raises(BadInputError, match="positive"):
        with_measured_energy(MODEL, GENES[:4], [1, 2, 3, 0])


def test_a_limit_on_energy_that_nobody_measured_warns(caplog):
    accuracy = FormulaAccuracy(HYBRID)
    with caplog.at_level(logging.WARNING):
        Problem(HYBRID, accuracy, [MODEL], {"latency_ms": 1.0})
        calibrated = with_measured_energy(MODEL, GENES[:8], planted(MODEL, GENES[:8], [1] * 5))
        Problem(HYBRID, accuracy, [calibrated], {"energy_mj": 1.0})
        assert not caplog.records
        Problem(HYBRID, accuracy, [MODEL], {"energy_mj": 1.0})
    (record,) = caplog.records
    assert "no measurement supports it" in record.getMessage()
    assert "energy_mj <= 1 on 'bench-t1-b1'" in record.getMessage()
