"""What was predicted before it was measured: pairing, and what is kept of it."""

import json

import numpy as np
import pytest

from strategies import Bayesian, Problem
from strategies.forecasts import Forecasts
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost

ROWS = SPACE.sample(6, np.random.default_rng(0))


def test_a_forecast_is_paired_with_the_value_of_its_own_row():
    forecasts = Forecasts(SPACE)
    forecasts.note(ROWS[:4], np.array([0.1, 0.2, 0.3, 0.4]), np.full(4, 0.01))
    forecasts.note(ROWS[:1], np.array([0.15]), np.array([0.02]))  # the later one counts
    forecasts.settle(ROWS[[2, 5, 0]], np.array([0.31, 0.9, 0.16]))
    forecasts.settle(ROWS[[1]], np.array([np.nan]))
    found = forecasts.quality
    np.testing.assert_allclose(found.predicted, [0.3, 0.15])
    np.testing.assert_allclose(found.measured, [0.31, 0.16])
    forecasts.settle(ROWS[[2]], np.array([0.5]))  # told twice: it was forecast once
    assert forecasts.quality.count == 2


def test_what_is_kept_as_json_goes_on_as_before():
    forecasts = Forecasts(SPACE)
    forecasts.note(ROWS[:4], np.array([0.1, 0.2, 0.3, 0.4]), np.full(4, 0.01))
    forecasts.settle(ROWS[:2], np.array([0.12, 0.21]))
    kept = Forecasts.from_json(SPACE, json.loads(json.dumps(forecasts.to_json())))
    for each in (forecasts, kept):
        each.settle(ROWS[2:4], np.array([0.33, 0.39]))
    np.testing.assert_array_equal(kept.quality.predicted, forecasts.quality.predicted)
    np.testing.assert_array_equal(kept.quality.measured, [0.12, 0.21, 0.33, 0.39])
    empty = Forecasts.from_json(SPACE, Forecasts(SPACE).to_json())
    assert empty.quality.count == 0


def test_bayesian_forecasts_follow_what_is_measured():
    problem = Problem(SPACE, FormulaAccuracy(SPACE), [LayerCost(SPACE)])
    strategy = Bayesian(problem, seed=0)
    assert strategy.quality.count == 0
    for _ in range(6):
        genes = strategy.ask(8)
        strategy.tell(genes, problem.objectives(genes, problem.accuracy.values(genes)))
    quality = strategy.quality
    assert quality.count == 40  # all but the design
    assert quality.kendall_tau > 0.6
    assert quality.mape < 0.1
    other = Bayesian(problem, seed=0)
    other.restore(json.loads(json.dumps(strategy.state())))
    assert other.quality.mape == pytest.approx(quality.mape)
