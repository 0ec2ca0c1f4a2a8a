import numpy as np

from strategies import RandomSearch
from tests.strategies.contract import StrategyContract
from tests.strategies.doubles import SPACE


class TestRandomSearch(StrategyContract):
    def make(self, problem, **options):
        return RandomSearch(problem.space, **options)


def test_measure_decides_how_deep_proposals_are():
    depths = [i for i, choice in enumerate(SPACE.choices) if choice.name.endswith("depth")]
    by_choice = RandomSearch(SPACE).ask(500)[:, depths].mean()
    by_architecture = RandomSearch(SPACE, measure="architectures").ask(500)[:, depths].mean()
    assert by_architecture > by_choice + 0.5


def test_what_it_is_told_changes_nothing():
    told, not_told = RandomSearch(SPACE, seed=1), RandomSearch(SPACE, seed=1)
    told.tell(told.ask(10), np.zeros((10, 2)))
    not_told.ask(10)
    np.testing.assert_array_equal(told.ask(10), not_told.ask(10))
