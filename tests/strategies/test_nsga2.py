import numpy as np
import pytest

from records import BadInputError
from search_spaces import HybridSpace, HybridStage
from strategies import NSGA2, Problem, RandomSearch, hypervolume
from tests.python_calls import calls_of
from tests.strategies.contract import LIMIT_MS, StrategyContract
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost


class TestNSGA2(StrategyContract):
    def make(self, problem, **options):
        return NSGA2(problem.space, population_size=30, **options)

    def test_constraints_pull_proposals_into_the_limits(self):
        problem = self.problem(latency_ms=LIMIT_MS)
        strategy = self.make(problem)
        evolved = self.run(strategy, problem, 12)[40:]
        drawn = SPACE.sample(2000, np.random.default_rng(0))
        share, by_chance = ((problem.violations(g) <= 0).mean() for g in (evolved, drawn))
        assert share > 1.5 * by_chance
        assert (problem.violations(strategy.population) <= 0).all()


def final_volume(strategy, problem, evaluations, batch=50):
    found = []
    for _ in range(evaluations // batch):
        genes = strategy.ask(batch)
        found.append(problem.objectives(genes, problem.accuracy.values(genes)))
        strategy.tell(genes, found[-1])
    return hypervolume(np.concatenate(found), [0.4, 1.2])


def test_finds_more_than_random_search():
    gains = []
    for seed in range(5):
        problem = Problem(SPACE, FormulaAccuracy(SPACE, seed=seed), [LayerCost(SPACE)])
        evolved = final_volume(NSGA2(SPACE, seed=seed), problem, 1000)
        drawn = final_volume(RandomSearch(SPACE, seed=seed), problem, 1000)
        gains.append(evolved / drawn)
    assert min(gains) > 1.0
    assert np.mean(gains) > 1.04


def test_survivors_are_the_best_of_parents_and_children():
    strategy = NSGA2(SPACE, population_size=4)
    genes = strategy.ask(6)
    # Fronts: {0, 1}, {2, 3, 4}, {5}; of the second, 3 lies between the others and is crowded out.
    points = np.array([[0.0, 1], [1, 0], [1, 3], [2.1, 2], [3, 1], [4, 4]])
    strategy.tell(genes, points)
    kept = {tuple(row) for row in strategy.population.tolist()}
    assert kept == {tuple(genes[i].tolist()) for i in (0, 1, 2, 4)}


def test_a_row_told_again_counts_once_with_its_later_value():
    strategy = NSGA2(SPACE, population_size=3)
    genes = strategy.ask(3)
    strategy.tell(genes, np.array([[1.0, 1], [2, 2], [3, 3]]))
    strategy.tell(genes[:1], np.array([[9.0, 9]]))
    np.testing.assert_array_equal(strategy.population, genes[[1, 2, 0]])


def test_failed_evaluations_do_not_become_parents():
    strategy = NSGA2(SPACE, population_size=4)
    genes = strategy.ask(8)
    objectives = np.arange(16.0).reshape(8, 2)
    objectives[:4, 0] = np.nan
    strategy.tell(genes, objectives)
    np.testing.assert_array_equal(strategy.population, genes[4:])


def test_population_stays_distinct():
    strategy = NSGA2(SPACE, population_size=40)
    for _ in range(15):
        genes = strategy.ask(40)
        macs = SPACE.layer_table(genes).macs
        strategy.tell(genes, np.column_stack([macs, -macs]))
    assert len(np.unique(strategy.population, axis=0)) == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population_size": 1}, "at least 2"),
        ({"crossover_probability": 1.5}, "crossover_probability"),
        ({"mutation_probability": -0.1}, "mutation_probability"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(BadInputError, match=message):
        NSGA2(SPACE, **options)


def test_number_of_objectives_may_not_change():
    strategy = NSGA2(SPACE)
    strategy.tell(strategy.ask(2), np.zeros((2, 2)))
    with pytest.raises(BadInputError, match="3 objectives, 2 before"):
        strategy.tell(strategy.ask(2), np.zeros((2, 3)))


def test_a_generation_of_a_thousand_has_no_loop_over_rows():
    """The stated speed is measured by the benchmarks."""
    stages = (HybridStage(widths=(16, 24, 32)), HybridStage(depths=(1, 2, 3, 4)), HybridStage())
    space = HybridSpace(stages=stages)
    strategy = NSGA2(space, population_size=1000)
    weights = np.random.default_rng(0).random((len(space.choices), 2)) - 0.5

    def generation():
        genes = strategy.ask(1000)
        strategy.tell(genes, genes @ weights)

    assert min(calls_of(generation) for _ in range(12)) < 1000
