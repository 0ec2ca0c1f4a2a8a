"""The trainable by itself; nothing here starts Ray."""

import os

import numpy as np
import pytest

from records import BadInputError, Measured
from strategies.executor_evaluation import EvaluationError
from strategies.tune_config import network_config
from tests.strategies.doubles import SPACE, FormulaAccuracy
from tests.strategies.test_executor_processes import Shipped

pytest.importorskip("ray")

from strategies.tune_evaluation import evaluation_trainable

ROWS = SPACE.sample(3, np.random.default_rng(0))


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Starts a trainable as Tune does, in this process."""
    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path))
    trials = []

    def start(evaluator, row=ROWS[0], space=SPACE):
        trials.append(evaluation_trainable(evaluator, space)(network_config(space, row)))
        return trials[-1]

    yield start
    for trial in trials:
        trial.stop()


def test_a_trial_reports_the_accuracy_once_and_is_done(started):
    accuracy = FormulaAccuracy(SPACE)
    trial = started(accuracy)
    report = trial.train()
    assert report["accuracy"] == accuracy.values(ROWS[:1])[0]
    assert report["dispersion"] == 0.01
    assert report["done"]


def test_what_is_large_is_sent_beside_the_recipe_and_made_once(started):
    weights = np.random.default_rng(0).integers(0, 1024, len(SPACE.choices)) / 1024
    weights.flags.writeable = False  # as it is where it was sent
    evaluator = Shipped(weights)
    trial = started(evaluator)
    made = trial.evaluator
    expected = [m.value for m in evaluator.evaluate(ROWS)]
    found = [trial.train()[evaluator.metric]]
    for row in ROWS[1:]:
        assert trial.reset(network_config(SPACE, row))
        found.append(trial.train()[evaluator.metric])
    assert found == expected
    assert trial.evaluator is made is not evaluator


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (Measured(value=None, status="failed", reason="out of memory"), "out of memory"),
        (Measured(value=float(55)), "share in 0..1"),
    ],
)
def test_a_network_that_cannot_be_measured_fails_its_trial(started, result, said):
    trial = started(FormulaAccuracy(SPACE))
    trial.evaluator.evaluate = lambda genes: [result]
    with pytest.raises(EvaluationError, match=said):
        trial.train()


def test_a_report_without_dispersion_has_none(started):
    trial = started(FormulaAccuracy(SPACE))
    trial.evaluator.evaluate = lambda genes: [Measured(value=0.5)]
    assert "dispersion" not in trial.train()


def test_a_checkpoint_is_empty_and_goes_on_nowhere(started):
    trial = started(FormulaAccuracy(SPACE))
    trial.restore(trial.save())
    assert trial.train()["done"]


def test_an_evaluator_that_cannot_travel_is_refused():
    accuracy = FormulaAccuracy(SPACE, fails=lambda row: False)
    with pytest.raises(BadInputError, match="cannot be sent"):
        evaluation_trainable(accuracy, SPACE)
