"""What every strategy keeps; a test class per strategy inherits it and says how one is made."""

import json
from abc import ABC, abstractmethod

import numpy as np
import pytest

from records import BadInputError, json_text
from strategies import Problem
from strategies.known_rows import row_keys
from tests.strategies.doubles import SPACE, TINY, FormulaAccuracy, LayerCost, all_rows

LIMIT_MS = 0.35


class StrategyContract(ABC):
    """Inherit as `TestX(StrategyContract)`."""

    @abstractmethod
    def make(self, problem, **options):
        """A strategy for a problem; options are `seed` and `initial`."""

    def problem(self, space=SPACE, **limits):
        return Problem(space, FormulaAccuracy(space), [LayerCost(space)], limits)

    def tell(self, strategy, problem, genes, *, accuracy=None):
        values = problem.accuracy.values(genes) if accuracy is None else accuracy
        strategy.tell(genes, problem.objectives(genes, values), problem.violations(genes))

    def run(self, strategy, problem, rounds, n=20):
        parts = []
        for _ in range(rounds):
            parts.append(strategy.ask(n))
            self.tell(strategy, problem, parts[-1])
        return np.concatenate(parts)

    def test_same_seed_same_proposals(self):
        problem = self.problem()
        first, second, other = (
            self.run(self.make(problem, seed=seed), problem, 4) for seed in (3, 3, 4)
        )
        np.testing.assert_array_equal(first, second)
        assert (first != other).any()

    def test_proposals_are_canonical_rows_and_never_repeat(self):
        problem = self.problem()
        genes = self.run(self.make(problem), problem, 6)
        assert genes.shape == (120, len(SPACE.choices))
        assert genes.dtype == np.int16
        np.testing.assert_array_equal(genes, SPACE.gene_space.check(genes))
        assert len(np.unique(genes, axis=0)) == len(genes)

    def test_pending_rows_are_not_proposed_again(self):
        problem = self.problem()
        strategy = self.make(problem)
        self.run(strategy, problem, 3)
        asked = np.concatenate([strategy.ask(10) for _ in range(4)])
        assert len(np.unique(asked, axis=0)) == len(asked) == 40
        np.testing.assert_array_equal(strategy.pending, asked)
        self.tell(strategy, problem, asked[5:15])
        np.testing.assert_array_equal(strategy.pending, np.delete(asked, range(5, 15), axis=0))

    def test_told_rows_are_not_proposed(self):
        problem = self.problem(TINY)
        strategy = self.make(problem)
        rows = all_rows(TINY)
        self.tell(strategy, problem, rows[::2])
        asked = strategy.ask(20)
        assert not np.isin(row_keys(asked), row_keys(rows[::2])).any()

    def test_warm_start_comes_first_in_order_and_once(self):
        problem = self.problem()
        initial = SPACE.sample(7, np.random.default_rng(5))
        strategy = self.make(problem, initial=np.concatenate([initial, initial[:2]]))
        first, second = strategy.ask(4), strategy.ask(6)
        np.testing.assert_array_equal(np.concatenate([first, second[:3]]), initial)
        assert len(np.unique(np.concatenate([first, second]), axis=0)) == 10

    def test_restored_state_continues_identically(self):
        problem = self.problem(latency_ms=1.0)
        initial = SPACE.sample(45, np.random.default_rng(5))
        strategy = self.make(problem, initial=initial)
        for rounds in (2, 4):
            self.run(strategy, problem, rounds)
            strategy.ask(3)
            failed = strategy.ask(2)
            self.tell(strategy, problem, failed, accuracy=np.full(2, np.nan))
            other = self.make(problem, seed=99)
            other.restore(json.loads(json_text(strategy.state())))
            np.testing.assert_array_equal(other.pending, strategy.pending)
            expected = self.run(strategy, problem, 2)
            np.testing.assert_array_equal(self.run(other, problem, 2), expected)
            assert other.state() == strategy.state()

    def test_state_of_another_space_is_refused(self):
        state = self.make(self.problem()).state()
        with pytest.raises(BadInputError, match="space_hash"):
            self.make(self.problem(TINY)).restore(state)
        with pytest.raises(BadInputError, match="'Other'"):
            self.make(self.problem()).restore(state | {"strategy": "Other"})

    def test_small_space_is_proposed_to_its_last_row(self):
        problem = self.problem(TINY)
        strategy = self.make(problem)
        found = np.concatenate([self.run(strategy, problem, 1, n=16) for _ in range(10)])
        np.testing.assert_array_equal(np.unique(found, axis=0), all_rows(TINY))
        assert len(found) == TINY.cardinality
        assert strategy.ask(3).shape == (0, len(TINY.choices))

    def test_asking_for_none_gives_none(self):
        problem = self.problem()
        initial = SPACE.sample(2, np.random.default_rng(0))
        strategy = self.make(problem, initial=initial)
        assert strategy.ask(0).shape == (0, len(SPACE.choices))
        np.testing.assert_array_equal(strategy.ask(2), initial)
        with pytest.raises(BadInputError, match="at least 0"):
            strategy.ask(-1)

    def test_arrays_that_do_not_fit_are_refused(self):
        strategy = self.make(self.problem())
        genes = strategy.ask(3)
        with pytest.raises(BadInputError, match="3 rows with 2 rows"):
            strategy.tell(genes, np.zeros((2, 2)))
        with pytest.raises(BadInputError, match="n x 27"):
            strategy.tell(genes[:, 1:], np.zeros((3, 2)))
        with pytest.raises(BadInputError, match="1 violations"):
            strategy.tell(genes, np.zeros((3, 2)), np.zeros(1))

    def test_genes_outside_the_space_are_refused(self):
        with pytest.raises(BadInputError, match="allowed: 0 to 1"):
            self.make(self.problem(), initial=np.full((1, len(SPACE.choices)), 9))
