import numpy as np
import optuna
import pytest
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from records import BadInputError
from strategies import is_non_dominated
from strategies.optuna_strategy import OptunaStrategy
from tests.strategies.contract import LIMIT_MS, StrategyContract
from tests.strategies.doubles import SPACE


class TestOptunaStrategy(StrategyContract):
    state_bytes_a_row = 1000

    def make(self, problem, **options):
        return OptunaStrategy(
            problem, lambda seed: NSGAIISampler(population_size=10, seed=seed), **options
        )


def told(strategy, problem, rounds=3, n=10):
    for _ in range(rounds):
        genes = strategy.ask(n)
        accuracy = problem.accuracy.values(genes)
        strategy.tell(genes, problem.objectives(genes, accuracy), problem.violations(genes))
    return strategy


@pytest.fixture
def problem():
    return TestOptunaStrategy().problem(latency_ms=LIMIT_MS)


def test_trials_have_the_active_choices_and_no_others(problem):
    strategy = told(OptunaStrategy(problem, RandomSampler), problem)
    trials = strategy._study.get_trials(deepcopy=False)
    assert len(trials) == 30
    for trial in trials:
        row = np.zeros(len(SPACE.choices), np.int16)
        for j, choice in enumerate(SPACE.choices):
            if choice.name in trial.params:
                value = trial.params[choice.name]
                row[j] = choice.values.index(value) if choice.is_categorical else value
        names = {
            c.name for c, on in zip(SPACE.choices, SPACE.active(row[None])[0], strict=True) if on
        }
        assert set(trial.params) == names
        assert (
            trial.values
            == problem.objectives(row[None], problem.accuracy.values(row[None]))[0].tolist()
        )
        assert trial.constraints == {"limits": problem.violations(row[None])[0]}


def test_optuna_sees_the_limits_as_its_constraints(problem):
    strategy = told(OptunaStrategy(problem, RandomSampler), problem, rounds=6)
    trials = [
        t for t in strategy._study.get_trials(deepcopy=False) if t.constraints["limits"] <= 0
    ]
    assert 3 < len(trials) < 60
    marks = is_non_dominated(np.array([t.values for t in trials]))
    best = {t.number for t, mark in zip(trials, marks, strict=True) if mark}
    assert {t.number for t in strategy._study.best_trials} == best


def test_rows_that_were_not_asked_for_are_trials_of_the_study(problem):
    strategy = OptunaStrategy(problem, TPESampler)
    rows = SPACE.sample(12, np.random.default_rng(0))
    accuracy = problem.accuracy.values(rows)
    accuracy[:2] = np.nan
    violations = np.zeros(12)
    violations[1] = np.inf
    strategy.tell(rows, problem.objectives(rows, accuracy), violations)
    trials = strategy._study.get_trials(deepcopy=False)
    assert [t.state for t in trials] == [TrialState.FAIL] + [TrialState.COMPLETE] * 11
    assert trials[1].values[0] == 1.0
    assert 0 < trials[1].constraints["limits"] < np.inf
    assert trials[2].values[0] == 1 - accuracy[2]


def test_a_sampler_that_repeats_itself_is_told_again_and_asked_again(problem):
    class Stubborn(RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            if trial.number % 2:
                return super().sample_independent(study, trial, name, distribution)
            return distribution.to_external_repr(0)

    strategy = OptunaStrategy(problem, Stubborn)
    genes = strategy.ask(5)
    assert len(np.unique(genes, axis=0)) == 5
    strategy.tell(genes, problem.objectives(genes, problem.accuracy.values(genes)))
    assert len(strategy.ask(5)) == 5
    states = [t.state for t in strategy._study.get_trials(deepcopy=False)]
    assert TrialState.FAIL in states  # repeated while it was pending
    assert states.count(TrialState.COMPLETE) > 5  # and when it was known


def test_a_sampler_may_be_given_as_it_is(problem):
    sampler = TPESampler(seed=7, n_startup_trials=5)
    first, second = (told(OptunaStrategy(problem, sampler), problem, rounds=1) for _ in range(2))
    np.testing.assert_array_equal(first.ask(2), second.ask(2))


def test_what_is_no_sampler_is_refused(problem):
    for wrong in ("tpe", lambda seed: seed, 3):
        with pytest.raises(BadInputError, match="sampler of Optuna, its class"):
            OptunaStrategy(problem, wrong)


def test_a_history_that_replays_otherwise_is_refused(problem):
    strategy = told(OptunaStrategy(problem, lambda seed: RandomSampler(seed=seed)), problem)
    other = OptunaStrategy(problem, lambda seed: RandomSampler(seed=seed + 1))
    with pytest.raises(BadInputError, match="other rows when its history was replayed"):
        other.restore(strategy.state())


def test_it_is_quiet(problem, capsys):
    before = optuna.logging.get_verbosity()
    told(OptunaStrategy(problem, RandomSampler), problem, rounds=1)
    assert optuna.logging.get_verbosity() == before
    assert capsys.readouterr().err == ""
