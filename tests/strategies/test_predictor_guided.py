import numpy as np
import pytest

from records import BadInputError
from strategies import PredictorGuided, Problem
from tests.strategies.contract import LIMIT_MS, StrategyContract
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost, Ridge


def make(problem, **options):
    options = {"population_size": 40, "generations": 4} | options
    return PredictorGuided(problem, Ridge(problem.space), **options)


class TestPredictorGuided(StrategyContract):
    proposes_what_misses_limits = False
    state_bytes_a_row = 250

    def make(self, problem, **options):
        return make(problem, **options)


def guided(limits, rounds=5, **options):
    problem = Problem(SPACE, FormulaAccuracy(SPACE), [LayerCost(SPACE)], limits)
    strategy = make(problem, **options)
    asked = []
    for _ in range(rounds):
        genes = strategy.ask(8)
        accuracy = problem.accuracy.values(genes)
        strategy.tell(genes, problem.objectives(genes, accuracy), problem.violations(genes))
        asked.append(genes)
    return problem, strategy, asked


def test_all_proposals_keep_the_limits():
    problem, _, asked = guided({"latency_ms": LIMIT_MS})
    np.testing.assert_array_equal(problem.violations(np.concatenate(asked)), 0)


def test_it_predicts_before_it_is_told():
    """A predictor that remembers what it was fitted to would give itself away as perfect."""

    class Memory(Ridge):
        def fit(self, genes, values):
            self.seen = dict(zip(map(tuple, genes.tolist()), values, strict=True))
            return super().fit(genes, values)

        def predict(self, genes):
            found = super().predict(genes)
            keys = map(tuple, genes.tolist())
            found.mean = np.array([self.seen.get(key, 0.25) for key in keys])
            return found

    problem = Problem(SPACE, FormulaAccuracy(SPACE), [LayerCost(SPACE)])
    strategy = PredictorGuided(problem, Memory(SPACE), population_size=20, generations=2)
    for _ in range(4):
        genes = strategy.ask(8)
        strategy.tell(genes, problem.objectives(genes, problem.accuracy.values(genes)))
    quality = strategy.quality
    assert quality.count == 24
    np.testing.assert_array_equal(quality.predicted, 0.25)
    assert np.isnan(quality.kendall_tau)


def test_quality_pairs_predictions_with_what_was_measured():
    problem, strategy, asked = guided({}, rounds=6)
    quality = strategy.quality
    assert quality.count == 40  # all but the first eight, which were drawn without a predictor
    later = np.concatenate(asked[1:])
    np.testing.assert_allclose(quality.measured, problem.accuracy.values(later))
    relative = np.abs(quality.predicted - quality.measured) / quality.measured
    assert quality.mape == pytest.approx(relative.mean())
    assert -1 <= quality.macs_kendall_tau <= 1
    assert "before measuring" in str(quality)


def test_a_share_of_proposals_is_random():
    _, alone, _ = guided({}, random_share=1.0)
    _, both, _ = guided({}, random_share=0.0)
    best = [1 - s._objectives[8:, 0].mean() for s in (alone, both)]
    assert best[1] > best[0] + 0.02


def test_options_out_of_range_are_refused():
    with pytest.raises(BadInputError, match="random_share"):
        guided({}, random_share=2.0)
    with pytest.raises(BadInputError, match="optimism"):
        guided({}, optimism=-1.0)
