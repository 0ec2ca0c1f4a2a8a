import logging

import numpy as np
import pytest

from records import BadInputError
from strategies import PredictorGuided, Problem, search
from strategies.least_gain import why_finished
from tests.strategies.doubles import TINY, FormulaAccuracy, LayerCost, Ridge, all_rows

SQUARE = np.array([[0.0, 0.0]])


def test_the_gain_is_compared_with_a_share_of_the_volume_found():
    fronts, references = [SQUARE, SQUARE], [(1.0, 2.0), (1.0, 4.0)]  # volumes of 2 and 4
    weights = [0.5, 2.0]
    assert why_finished(0.9 + 1e-9, 0.1, fronts, references, weights) == ""
    text = why_finished(0.85, 0.1, fronts, references, weights)
    assert text == (
        "the largest expected gain in hypervolume, 0.85, is below 0.1 of the volume found, 9"
    )
    assert why_finished(0.0, 0.0, fronts, references, weights) == ""


def test_predictor_guided_ends_where_the_gain_is_too_small_and_says_so(caplog):
    problem = Problem(TINY, FormulaAccuracy(TINY), [LayerCost(TINY)])

    def guided(least_gain):
        return PredictorGuided(
            problem, Ridge(TINY), population_size=20, generations=3, least_gain=least_gain
        )

    strategy = guided(0.05)
    with caplog.at_level(logging.INFO):
        front = search(problem, evaluations=100, strategy=strategy, batch_size=4)
    measured = len(front.result.observations)
    assert 8 <= measured < min(100, TINY.cardinality)
    assert "is below 0.05 of the volume found" in strategy.finished
    assert strategy.finished in caplog.text
    assert strategy.ask(3).shape == (0, len(TINY.choices))
    again = guided(0.05)
    again.restore(strategy.state())
    assert again.finished == strategy.finished
    rest = all_rows(TINY)[-1:]
    strategy.tell(rest, problem.objectives(rest, [0.99]))
    assert strategy.finished == ""
    on = search(problem, evaluations=100, strategy=guided(0.0), batch_size=4)
    assert len(on.result.observations) == min(100, TINY.cardinality)


@pytest.mark.filterwarnings("error")
def test_predictor_guided_bears_latencies_that_are_infinite():
    class Partly(LayerCost):
        def predict(self, genes):
            found = dict(super().predict(genes))
            slow = found["latency_ms"] > np.quantile(
                super().predict(all_rows(TINY))["latency_ms"], 0.6
            )
            return found | {"latency_ms": np.where(slow, np.inf, found["latency_ms"])}

    problem = Problem(TINY, FormulaAccuracy(TINY), [Partly(TINY)])
    strategy = PredictorGuided(
        problem, Ridge(TINY), population_size=20, generations=3, random_share=0.0
    )
    rows = all_rows(TINY)
    rows = rows[np.random.default_rng(0).permutation(len(rows))[:12]]
    strategy.tell(rows, problem.objectives(rows, problem.accuracy.values(rows)))
    asked = strategy.ask(4)
    assert len(asked) == 4
    assert np.isfinite(problem.cheap_objectives(asked)).any()


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(share):
    problem = Problem(TINY, FormulaAccuracy(TINY), [LayerCost(TINY)])
    with pytest.raises(BadInputError, match="least_gain"):
        PredictorGuided(problem, Ridge(TINY), least_gain=share)
