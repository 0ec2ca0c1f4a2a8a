"""Optuna's own suite for samplers over our strategies, and what ours adds."""

from functools import partial

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import PartialFixedSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)
from optuna.trial import TrialState, create_trial

from records import BadInputError
from strategies import (
    NSGA2,
    NSGA3,
    Bayesian,
    LocalSearch,
    PredictorGuided,
    RandomSearch,
    RegularizedEvolution,
)
from strategies.hwnas_sampler import HwnasSampler
from strategies.study_problem import study_problem, told_values

optuna.logging.set_verbosity(optuna.logging.WARNING)


class TestOptunasSuite(
    BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase
):
    @pytest.fixture
    def sampler(self):
        return lambda: HwnasSampler(partial(NSGA2, population_size=4))


@pytest.mark.slow
class TestOptunasSuiteWithOthers(TestOptunasSuite):
    @pytest.fixture(
        params=[
            partial(NSGA3, population_size=4),
            partial(RegularizedEvolution, population_size=4),
            partial(LocalSearch, starts=2),
            RandomSearch,
            partial(Bayesian, design_size=2, pool_size=50, generations=2),
        ],
        ids=["nsga3", "regularized", "local", "random", "bayesian"],
    )
    def sampler(self, request):
        return lambda: HwnasSampler(request.param)


def study_with(strategy, directions=("minimize",), **options):
    sampler = HwnasSampler(strategy, **options)
    return optuna.create_study(directions=list(directions), sampler=sampler), sampler


def test_nothing_is_suggested_twice_until_everything_was():
    study, _ = study_with(RandomSearch)
    study.enqueue_trial({"x": "b", "y": 3})

    def objective(trial):
        y = trial.suggest_int("y", 1, 7, step=2)
        return y + (trial.suggest_categorical("x", ["a", "b", "c"]) == "a")

    study.optimize(objective, n_trials=12)
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == 12
    study.optimize(objective, n_trials=2)  # all is known: at random
    assert len(study.trials) == 14


def test_the_strategy_hears_of_every_trial_in_its_own_terms():
    study, sampler = study_with(partial(NSGA2, population_size=50), ("minimize", "maximize"))

    def objective(trial):
        x = trial.suggest_float("x", 0, 8)
        if trial.number == 4:
            raise optuna.TrialPruned
        return x, trial.suggest_int("n", 1, 3)

    study.add_trial(
        create_trial(
            values=[1.0, 2.0],
            params={"x": 0.0, "n": 2},
            distributions={"x": FloatDistribution(0, 8), "n": IntDistribution(1, 3)},
        )
    )
    study.add_trial(
        create_trial(
            values=[1.0, 2.0],
            params={"x": 9.0, "n": 2},
            distributions={"x": FloatDistribution(0, 9), "n": IntDistribution(1, 3)},
        )
    )
    study.optimize(objective, n_trials=10)
    study.sampler.sample_relative(
        study, study.trials[-1], {"n": IntDistribution(1, 3), "x": FloatDistribution(0, 8)}
    )
    strategy = sampler._strategy
    told = {
        (int(n), int(x)): tuple(f)
        for (n, x), f in zip(strategy.population, strategy._objectives, strict=True)
    }
    for trial in study.trials:
        if trial.params["x"] > 8:
            continue  # out of the present range
        place = (trial.params.get("n", 1) - 1, min(int(trial.params["x"] * 8), 63))
        if trial.state == TrialState.COMPLETE:
            assert told[place] == (trial.values[0], -trial.values[1])
        else:
            assert np.isnan(told[place]).all()
    assert sum(t.state == TrialState.PRUNED for t in study.trials) == 1


def test_parameters_that_were_not_suggested_count_as_inactive():
    study, sampler = study_with(partial(NSGA2, population_size=60), seed=1)

    def objective(trial):
        if trial.suggest_categorical("kind", ["conv", "attention"]) == "conv":
            return float(trial.suggest_categorical("kernel", [3, 5, 7]))
        return 10.0 + trial.suggest_categorical("heads", [2, 4, 8])

    study.optimize(objective, n_trials=30)
    assert study.best_params == {"kind": "conv", "kernel": 3}
    space = sampler._strategy.space
    assert [c.name for c in space.choices] == ["heads", "kernel", "kind"]
    for trial in study.trials:
        row = space.row(trial.params)
        assert row[0 if trial.params["kind"] == "conv" else 1] == 0


def test_what_others_set_is_not_told_as_what_was_asked_for():
    study, sampler = study_with(partial(NSGA2, population_size=50))
    study.optimize(lambda t: t.suggest_int("x", 0, 9) + t.suggest_int("y", 0, 9), n_trials=3)
    study.sampler = PartialFixedSampler({"y": 9}, sampler)
    study.optimize(lambda t: t.suggest_int("x", 0, 9) + t.suggest_int("y", 0, 9), n_trials=4)
    study.sampler = sampler
    for i in range(4):
        study.enqueue_trial({"x": i, "y": i})
    study.optimize(lambda t: t.suggest_int("x", 0, 9) + t.suggest_int("y", 0, 9), n_trials=6)
    strategy = sampler._strategy
    rows, values = strategy.population, strategy._objectives[:, 0]
    np.testing.assert_array_equal(rows.sum(axis=1), values)


@pytest.mark.parametrize("by_function", [True, False])
def test_constraints_become_violations(by_function):
    def excess(trial):
        return [trial.params["x"] - 5.0, -1.0]

    options = {"constraints_func": excess} if by_function else {}
    study, sampler = study_with(partial(NSGA2, population_size=40), seed=3, **options)

    def objective(trial):
        x = trial.suggest_int("x", 0, 20)
        if not by_function:
            trial.set_constraint("x", x - 5.0)
        return -x

    study.optimize(objective, n_trials=18)
    strategy = sampler._strategy
    np.testing.assert_array_equal(
        strategy._violations, np.maximum(0, strategy.population[:, 0] - 5.0)
    )
    assert study.best_value == -5


def test_a_constraint_that_is_no_number_is_an_error():
    study, _ = study_with(NSGA2, constraints_func=lambda trial: [float("nan")])
    with pytest.raises(ValueError, match="constraint is NaN"):
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=1)


def test_the_same_seed_gives_the_same_trials_and_a_new_one_others():
    def trials(seed, reseed=False):
        study, sampler = study_with(partial(NSGA2, population_size=4), seed=seed)
        if reseed:
            sampler.reseed_rng()
        study.optimize(
            lambda t: t.suggest_float("x", 0, 1) * t.suggest_int("n", 1, 50, log=True), n_trials=12
        )
        return [t.params for t in study.trials]

    assert trials(1) == trials(1)
    assert trials(1) != trials(2)
    assert trials(1) != trials(1, reseed=True)


@pytest.mark.slow
def test_evolution_through_optuna_finds_more_than_random_suggestions():
    def best(strategy, seed):
        study, _ = study_with(strategy, seed=seed)
        study.optimize(
            lambda t: sum((t.suggest_float(f"x{i}", -1, 1) - 0.3) ** 2 for i in range(6)),
            n_trials=150,
        )
        return study.best_value

    evolved = [best(partial(RegularizedEvolution, population_size=20), s) for s in range(3)]
    drawn = [best(RandomSearch, s) for s in range(3)]
    assert np.mean(evolved) < 0.6 * np.mean(drawn)


def test_a_space_of_parameters_builds_nothing_and_one_part_is_refused():
    study, sampler = study_with(RandomSearch)
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    space = sampler._strategy.space
    rows = space.sample(3, np.random.default_rng(0))
    assert [layer.operator for layer in space.graph(rows[0]).layers] == ["input"]
    assert not space.layer_table(rows).macs.any()
    with pytest.raises(BadInputError, match="parts must be at least 2"):
        HwnasSampler(RandomSearch, parts=1)


# ---- strategies that are made with a problem ---------------------------------------------------


def test_a_bayesian_study_finds_the_best_of_one_objective():
    study, sampler = study_with(partial(Bayesian, design_size=4), seed=1)
    study.optimize(
        lambda t: (t.suggest_int("x", 0, 12) - 7) ** 2 + abs(t.suggest_int("y", 0, 5) - 2) - 9,
        n_trials=22,
    )
    assert isinstance(sampler._strategy, Bayesian)
    assert study.best_value == -9


def test_objectives_that_are_learned_may_have_any_sign_and_direction():
    study, sampler = study_with(
        partial(Bayesian, design_size=4), ("maximize", "minimize", "minimize"), seed=2
    )

    def objective(trial):
        x, y = trial.suggest_int("x", 0, 8), trial.suggest_int("y", 0, 3)
        return x - 3.0 * y, -(9.0 - x), 1e6 * y

    study.optimize(objective, n_trials=16)
    strategy = sampler._strategy
    assert strategy.learns_latency
    assert len(strategy.problem.targets) == 2
    best = {t.params["x"] for t in study.best_trials}
    assert len(best) >= 4  # with y = 0 every x is on the front
    assert all(t.params["y"] == 0 for t in study.best_trials)


def test_scaled_objectives_keep_their_order_and_their_distances_in_logarithms():
    values = np.array([[3.0, -5.0], [1.0, np.nan], [2.0, 0.0], [np.nan, 7.0]])
    told = told_values(values)
    np.testing.assert_array_equal(told[:, 0], values[:, 0])
    known = np.isfinite(values[:, 1])
    assert np.isnan(told[~known, 1]).all()
    spread = values[known, 1].std()
    np.testing.assert_allclose(np.log(told[known, 1]), (values[known, 1] + 5) / spread)
    np.testing.assert_array_equal(told_values(values[:, :1])[:, 1], 1)
    assert np.isnan(told_values(np.array([[1.0, np.nan]]))[0, 1])
    far = told_values(np.array([[0.0, y] for y in [*range(100), 1e9]]))
    assert np.log(far[-1, 1]) == 6


def test_a_strategy_that_asks_for_costs_has_one_objective_alone():
    study, sampler = study_with(PredictorGuided, seed=3)
    study.optimize(lambda t: t.suggest_int("x", 0, 40) ** 2, n_trials=4)
    assert isinstance(sampler._strategy, PredictorGuided)
    two, _ = study_with(PredictorGuided, ("minimize", "minimize"))
    with pytest.raises(BadInputError, match="use Bayesian"):
        two.optimize(lambda t: (t.suggest_int("x", 0, 40), 1.0), n_trials=2)
    unknown = study_problem(sampler._strategy.space, 2)
    with pytest.raises(BadInputError, match="objective 1 of a study is not known"):
        unknown.cheap_objectives(unknown.space.enumerate())


def test_the_problem_of_a_study_evaluates_and_deploys_nothing(tmp_path):
    study, sampler = study_with(RandomSearch)
    study.optimize(lambda t: t.suggest_int("x", 0, 4), n_trials=2)
    p = study_problem(sampler._strategy.space, 1)
    rows = p.space.enumerate()
    np.testing.assert_array_equal(p.cheap_objectives(rows), 1)
    assert p.costs[0].extremes("latency_ms") is None
    np.testing.assert_array_equal(p.costs[0].bound("latency_ms", rows), 1)
    architecture = p.space.decode(rows)[0]
    for call in (
        lambda: p.accuracy.evaluate(rows),
        lambda: p.accuracy.subnet(architecture),
        lambda: p.costs[0].deploy(None, architecture, tmp_path, {}),
    ):
        with pytest.raises(BadInputError):
            call()
