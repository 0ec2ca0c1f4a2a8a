import time
from functools import cache

import numpy as np
import pytest

from predictors import BoostedTrees
from records import BadInputError, Ledger
from strategies import (
    NSGA2,
    Bayesian,
    EvaluationError,
    InfeasibleConstraintError,
    PredictorGuided,
    Problem,
    RandomSearch,
    search,
)
from strategies.search import DESIGN_SIZE
from tests.strategies.doubles import (
    SPACE,
    TINY,
    FormulaAccuracy,
    LayerCost,
    Ridge,
    all_rows,
)


def problem(limits=None, *, space=SPACE, targets=("board",), **options):
    costs = [LayerCost(space, name, per_layer=0.01 * (i + 1)) for i, name in enumerate(targets)]
    return Problem(space, FormulaAccuracy(space, **options), costs, limits or {})


def quick(p, evaluations=40, **options):
    """A search with the guided strategy, its inner evolution made small."""
    strategy = PredictorGuided(p, Ridge(p.space), population_size=50, generations=5)
    return search(p, evaluations=evaluations, strategy=strategy, **options)


def volume(front):
    return front.result.history.hypervolumes[-1, 0]


def ledger_in_memory():
    return Ledger.create("sqlite://", {"seed": 0})


def test_the_front_is_feasible_and_the_run_is_told(tmp_path):
    p = problem({"latency_ms": 0.6})
    steps = []
    front = search(p, evaluations=42, predictor=Ridge(SPACE), on_progress=steps.append)
    result = front.result
    assert len(result.observations) == len(p.accuracy.seen) == len(set(p.accuracy.seen)) == 42
    genes = np.array([o.genes for o in result.observations])
    np.testing.assert_array_equal(p.violations(genes), 0)
    assert all(point.cost_bounds["latency_ms"] <= 0.6 for point in front)
    assert [s.evaluations for s in steps] == [8, 16, 24, 32, 40, 42]
    assert steps[-1].best_accuracy == max(o.value for o in result.observations)
    assert steps[-1].best_accuracy == max(point.accuracy for point in front)
    assert steps[-1].hypervolume == {"board": volume(front)}
    assert result.quality.count == 42 - DESIGN_SIZE
    assert result.history.hypervolumes.shape == (42, 1)
    assert (np.diff(result.history.hypervolumes[:, 0]) >= 0).all()
    np.testing.assert_allclose(result.history.seconds[-1], 42 * 0.25)
    assert front.knee().export(tmp_path / "knee")[0] == tmp_path / "knee"


def test_the_default_strategy_tells_how_well_it_predicted():
    front = search(problem(), evaluations=24)
    assert front.result.strategy == "Bayesian"
    assert front.result.quality.count == 16  # all but its design of eight
    assert front.result.predictor is None


def test_a_predictor_that_is_given_guides_the_search():
    front = search(problem(), evaluations=24, predictor=BoostedTrees(SPACE))
    assert front.result.strategy == "PredictorGuided"
    assert type(front.result.predictor).__name__ == "BoostedTrees"
    assert front.result.quality.count == 8


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_guided_beats_evolution_and_random_search(seed):
    volumes = [
        volume(quick(problem(seed=seed), 72)),
        volume(search(problem(seed=seed), evaluations=72, use_predictor=False, seed=seed)),
        volume(search(problem(seed=seed), evaluations=72, strategy=RandomSearch(SPACE))),
    ]
    assert volumes[0] > 1.01 * max(volumes[1:])


def test_same_seed_same_search():
    first, second, other = (quick(problem(), seed=seed) for seed in (1, 1, 2))
    assert first.result.observations == second.result.observations
    assert first.result.observations != other.result.observations


def test_a_tight_and_a_loose_limit_give_different_fronts_within_them():
    tight, loose = (quick(problem({"latency_ms": ms})) for ms in (0.25, 0.7))
    slowest = [max(point.cost_bounds["latency_ms"] for point in f) for f in (tight, loose)]
    assert slowest[0] <= 0.25 < slowest[1] <= 0.7
    accuracies = [max(point.accuracy for point in f) for f in (tight, loose)]
    assert accuracies[1] > accuracies[0]


def test_an_impossible_limit_ends_before_anything_is_measured():
    p = problem({"latency_ms": 0.01})
    began = time.process_time()
    with pytest.raises(InfeasibleConstraintError, match=r"lowest found is 0\.\d+"):
        search(p, evaluations=1000)
    assert time.process_time() - began < 60
    assert p.accuracy.seen == []


@pytest.mark.parametrize("make", [RandomSearch, NSGA2])
def test_strategies_that_know_no_limits_measure_only_what_keeps_them(make):
    p = problem({"latency_ms": 0.3})
    front = search(p, evaluations=32, strategy=make(SPACE))
    genes = np.array([o.genes for o in front.result.observations])
    assert len(np.unique(genes, axis=0)) == len(genes) == 32
    np.testing.assert_array_equal(p.violations(genes), 0)


def test_several_targets_share_the_evaluations():
    p = problem(targets=("board", "phone"))
    front = quick(p)
    assert {point.target for point in front} == {"board", "phone"}
    assert front.result.history.hypervolumes.shape == (40, 2)


def test_a_strategy_with_a_design_of_its_own_begins_with_it():
    p = problem()
    front = search(p, evaluations=8, strategy=Bayesian(p))
    measured = [list(o.genes) for o in front.result.observations]
    assert measured == Bayesian(p).ask(8).tolist()


def test_warm_start_is_measured_first():
    p = problem({"latency_ms": 0.4})
    initial = np.concatenate(
        [SPACE.extremes("largest"), SPACE.sample(5, np.random.default_rng(9))]
    )
    quick(p, 20, initial=initial)
    assert p.accuracy.seen[: len(initial)] == [tuple(row) for row in initial.tolist()]


def test_failed_evaluations_are_recorded_and_the_search_goes_on():
    p = problem(fails=lambda row: row[0] == 1)
    with ledger_in_memory() as ledger:
        front = quick(p, ledger=ledger)
        assert ledger.observations() == list(front.result.observations)
    failed = [o for o in front.result.observations if o.status == "failed"]
    assert 0 < len(failed) < 40
    assert all(o.reason == "out of memory" and o.genes[0] == 1 for o in failed)
    assert all(point.genes[0] == 0 for point in front)


def test_a_search_in_which_everything_fails_says_why():
    p = problem(fails=lambda row: True)
    with pytest.raises(EvaluationError, match="first 16 evaluations failed: out of memory"):
        quick(p, 100)
    with pytest.raises(EvaluationError, match="first 4 evaluations failed"):
        quick(p, 4)


def test_the_space_may_be_exhausted():
    p = problem({"latency_ms": 0.4}, space=TINY)
    everything = 10 * TINY.cardinality
    for strategy in (RandomSearch(TINY), NSGA2(TINY), PredictorGuided(p, Ridge(TINY))):
        front = search(p, evaluations=everything, strategy=strategy)
        genes = np.array([o.genes for o in front.result.observations])
        assert len(np.unique(genes, axis=0)) == len(genes) == feasible_count(p)


def feasible_count(p):
    return int((p.violations(all_rows(p.space)) <= 0).sum())


# ---- the ledger ------------------------------------------------------------------------------


LIMITS = {"latency_ms": 0.6}


def run_of_44(p, ledger, guided):
    if guided:
        return quick(p, 44, ledger=ledger)
    strategy = NSGA2(SPACE, population_size=12)
    return search(p, evaluations=44, strategy=strategy, ledger=ledger)


@cache
def uninterrupted(guided):
    with ledger_in_memory() as ledger:
        expected = list(run_of_44(problem(LIMITS), ledger, guided).result.observations)
        assert ledger.observations() == expected
    return expected


@pytest.mark.parametrize("stop_after", [0, pytest.param(21, marks=pytest.mark.slow), 37])
@pytest.mark.parametrize("guided", [True, False])
def test_a_resumed_search_equals_an_uninterrupted_one(tmp_path, stop_after, guided):
    expected = uninterrupted(guided)
    path = tmp_path / "run.sqlite"
    with Ledger.create(path, {}) as ledger, pytest.raises(KeyboardInterrupt):
        run_of_44(problem(LIMITS, stop_after=stop_after), ledger, guided)
    with Ledger.open(path) as ledger:
        before = ledger.observations()
        assert before == expected[: 8 * (stop_after // 8)]
        p = problem(LIMITS)
        front = run_of_44(p, ledger, guided)
        assert ledger.observations() == list(front.result.observations) == expected
    assert len(p.accuracy.seen) == 44 - len(before)
    assert front.result.reused == len(before)


def test_a_finished_search_is_continued_by_a_longer_one():
    with ledger_in_memory() as ledger:
        quick(problem(), 27, ledger=ledger)
        p = problem()
        longer = quick(p, 44, ledger=ledger)
        assert len(p.accuracy.seen) == 44 - 27
        assert ledger.observations() == list(longer.result.observations)
    assert [o.genes for o in longer.result.observations] == [
        o.genes for o in quick(problem(), 44).result.observations
    ]


def test_observations_are_committed_before_the_strategy_hears_of_them():
    with ledger_in_memory() as ledger:

        class Watching(RandomSearch):
            def tell(self, genes, objectives, violations=None):
                committed = {o.genes for o in ledger.observations()}
                assert {tuple(row) for row in genes.tolist()} <= committed
                super().tell(genes, objectives, violations)

        search(problem(), evaluations=24, strategy=Watching(SPACE), ledger=ledger)
        assert len(ledger) == 24


@pytest.mark.parametrize(
    ("other", "what"),
    [(problem(seed=5), "another weights"), (problem(space=TINY), "another space")],
)
def test_a_ledger_of_another_problem_is_refused(other, what):
    with ledger_in_memory() as ledger:
        quick(problem(), 8, ledger=ledger)
        with pytest.raises(BadInputError, match=what):
            quick(other, 8, ledger=ledger)


# ---- wrong use -------------------------------------------------------------------------------


def test_an_evaluator_that_answers_wrongly_is_an_error():
    p = problem()
    evaluate = p.accuracy.evaluate
    p.accuracy.evaluate = lambda genes: evaluate(genes)[1:]
    with pytest.raises(EvaluationError, match="given 8 architectures and returned 7"):
        quick(p)
    p.accuracy.values = lambda genes: np.full(len(genes), 87.5)
    p.accuracy.evaluate = evaluate
    with pytest.raises(EvaluationError, match=r"accuracy 87.5; it must be a share"):
        quick(p)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluations": 0}, "evaluations must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"strategy": RandomSearch(SPACE), "predictor": Ridge(SPACE)}, "not both"),
        ({"predictor": Ridge(SPACE), "use_predictor": False}, "use_predictor is False"),
        ({"strategy": RandomSearch(TINY)}, "another space"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options, message):
    with pytest.raises(BadInputError, match=message):
        search(problem(), **({"evaluations": 10} | options))
