"""What every strategy keeps; a test class per strategy inherits it and says how one is made."""

import json
from abc import ABC, abstractmethod

import numpy as np
import pytest

from records import BadInputError, json_text
from strategies import Problem, search
from strategies.known_rows import row_keys
from tests.strategies.doubles import SPACE, TINY, FormulaAccuracy, LayerCost, all_rows

LIMIT_MS = 0.35


class StrategyContract(ABC):
    """Inherit as `TestX(StrategyContract)`."""

    depends_on_seed = True
    """Whether the first proposals do."""

    state_bytes_a_row = 17
    """How much the state grows by each told row: the row's number, if nothing else is kept."""

    proposes_what_misses_limits = True
    measures_infeasible = False

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
            assert 0 < len(parts[-1]) <= n or strategy.is_exhausted
            assert len(parts[-1]) == n or strategy.waits or strategy.is_exhausted
            self.tell(strategy, problem, parts[-1])
        return np.concatenate(parts)

    # ---- asking ------------------------------------------------------------------------------

    def test_same_seed_same_proposals(self):
        problem = self.problem()
        first, second, other = (
            self.run(self.make(problem, seed=seed), problem, 4) for seed in (3, 3, 4)
        )
        np.testing.assert_array_equal(first, second)
        if self.depends_on_seed:
            assert first.shape != other.shape or (first != other).any()

    def test_proposals_are_canonical_rows_and_never_repeat(self):
        problem = self.problem()
        genes = self.run(self.make(problem), problem, 6)
        assert genes.dtype == np.int16
        np.testing.assert_array_equal(genes, SPACE.gene_space.check(genes))
        assert len(np.unique(genes, axis=0)) == len(genes)

    def test_pending_rows_are_not_proposed_again(self):
        problem = self.problem()
        strategy = self.make(problem)
        self.run(strategy, problem, 3)
        asked = np.concatenate([strategy.ask(10) for _ in range(4)])
        assert len(np.unique(asked, axis=0)) == len(asked)
        assert len(asked) == 40 or strategy.waits
        np.testing.assert_array_equal(strategy.pending, asked)
        self.tell(strategy, problem, asked[5:15])
        np.testing.assert_array_equal(
            strategy.pending, np.delete(asked, range(5, min(15, len(asked))), axis=0)
        )

    def test_warm_start_comes_first_in_order_and_once(self):
        problem = self.problem()
        initial = SPACE.sample(7, np.random.default_rng(5))
        strategy = self.make(problem, initial=np.concatenate([initial, initial[:2]]))
        first, second = strategy.ask(4), strategy.ask(6)
        np.testing.assert_array_equal(np.concatenate([first, second[:3]]), initial)
        asked = np.concatenate([first, second])
        assert len(np.unique(asked, axis=0)) == len(asked)

    def test_small_space_is_proposed_to_its_last_row(self):
        problem = self.problem(TINY)
        strategy = self.make(problem)
        found = [self.run(strategy, problem, 1, n=16)]
        while not strategy.is_exhausted and len(found) < TINY.cardinality:
            found.append(self.run(strategy, problem, 1, n=16))
        rows = np.concatenate(found)
        np.testing.assert_array_equal(np.unique(rows, axis=0), all_rows(TINY))
        assert len(rows) == TINY.cardinality
        assert strategy.ask(3).shape == (0, len(TINY.choices))

    def test_asking_for_none_gives_none(self):
        problem = self.problem()
        initial = SPACE.sample(2, np.random.default_rng(0))
        strategy = self.make(problem, initial=initial)
        assert strategy.ask(0).shape == (0, len(SPACE.choices))
        np.testing.assert_array_equal(strategy.ask(2), initial)
        with pytest.raises(BadInputError, match="at least 0"):
            strategy.ask(-1)

    def test_genes_outside_the_space_are_refused(self):
        with pytest.raises(BadInputError, match="allowed: 0 to 1"):
            self.make(self.problem(), initial=np.full((1, len(SPACE.choices)), 9))

    # ---- telling -----------------------------------------------------------------------------

    def test_told_rows_are_not_proposed_whether_asked_for_or_not(self):
        problem = self.problem(TINY)
        strategy = self.make(problem)
        rows = all_rows(TINY)
        self.tell(strategy, problem, rows[::2])
        asked = strategy.ask(20)
        assert len(asked) > 0
        assert not np.isin(row_keys(asked), row_keys(rows[::2])).any()

    def test_of_a_row_told_twice_the_later_values_count(self):
        problem = self.problem()
        once, twice, again = (self.make(problem) for _ in range(3))
        rows = SPACE.sample(40, np.random.default_rng(1))
        wrong = np.linspace(0.1, 0.9, 40)
        self.tell(once, problem, rows)
        both = np.concatenate([wrong, problem.accuracy.values(rows)])
        self.tell(twice, problem, np.concatenate([rows, rows]), accuracy=both)
        expected = self.run(once, problem, 3)
        np.testing.assert_array_equal(self.run(twice, problem, 3), expected)
        self.tell(again, problem, rows, accuracy=wrong)
        self.tell(again, problem, rows)
        asked = self.run(again, problem, 2)
        assert not np.isin(row_keys(asked), row_keys(rows)).any()

    def test_a_row_that_is_not_canonical_means_the_architecture_it_stands_for(self):
        problem = self.problem()
        first, second = self.make(problem), self.make(problem)
        drawn = SPACE.gene_space.uniform(30, np.random.default_rng(2))
        rows = SPACE.canonical(drawn)
        assert (rows != drawn).any()
        objectives = problem.objectives(rows, problem.accuracy.values(rows))
        first.tell(rows, objectives)
        second.tell(drawn.astype(np.int64), objectives)
        np.testing.assert_array_equal(self.run(first, problem, 3), self.run(second, problem, 3))

    def test_infinite_values_count_as_failed(self):
        problem = self.problem()
        strategies = [self.make(problem) for _ in range(3)]
        rows = SPACE.sample(40, np.random.default_rng(3))
        for strategy, value in zip(strategies, (np.nan, np.inf, -np.inf), strict=True):
            objectives = problem.objectives(rows, problem.accuracy.values(rows))
            objectives[::3, 0] = value
            strategy.tell(rows, objectives)
        expected = self.run(strategies[0], problem, 3)
        for strategy in strategies[1:]:
            np.testing.assert_array_equal(self.run(strategy, problem, 3), expected)

    def test_it_goes_on_where_everything_fails_or_misses_the_limits(self):
        problem = self.problem(latency_ms=1e-3)
        strategy = self.make(problem)
        asked = []
        for n, violations in ((30, None), (20, [np.inf]), (20, [0.5]), (10, [np.nan])):
            asked.append(strategy.ask(n))
            assert len(asked[-1]) > 0 or not self.proposes_what_misses_limits
            unknown = problem.objectives(asked[-1], np.full(len(asked[-1]), np.nan))
            missed = None if violations is None else np.repeat(violations, len(asked[-1]))
            strategy.tell(asked[-1], unknown, missed)
        rows = np.concatenate(asked)
        assert len(np.unique(rows, axis=0)) == len(rows)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda g, f, v: (g, f[:2], v), "3 rows with 2 rows"),
            (lambda g, f, v: (g[:, 1:], f, v), "n x 27"),
            (lambda g, f, v: (g, f, v[:1]), "1 violations"),
            (lambda g, f, v: (g, f[:, 0], v), "objectives n x m"),
            (lambda g, f, v: (g, f[:, :0], v), "objectives n x m"),
            (lambda g, f, v: (g, np.hstack([f, f]), v), "4 objectives, 2 before"),
            (lambda g, f, v: (g / 1.0, f, v), "must be integers"),
            (lambda g, f, v: (g + np.int16(9), f, v), "allowed: 0 to"),
            (lambda g, f, v: (TINY.sample(3, np.random.default_rng(0)), f, v), "n x 27"),
        ],
        ids=["objectives", "genes", "violations", "vector", "none", "more", "floats", "values",
             "space"],
    )  # fmt: skip
    def test_what_does_not_fit_is_refused_and_changes_nothing(self, change, message):
        problem = self.problem()
        strategy = self.make(problem)
        self.run(strategy, problem, 1)
        genes = SPACE.sample(3, np.random.default_rng(8))
        before = json_text(strategy.state())
        with pytest.raises(BadInputError, match=message):
            strategy.tell(*change(genes, np.zeros((3, 2)), np.zeros(3)))
        assert json_text(strategy.state()) == before

    # ---- state -------------------------------------------------------------------------------

    def test_restored_state_continues_identically(self):
        problem = self.problem(latency_ms=1.0)
        initial = SPACE.sample(45, np.random.default_rng(5))
        strategy = self.make(problem, initial=initial)
        for rounds in (2, 4):
            self.run(strategy, problem, rounds)
            strategy.ask(3)
            failed = strategy.ask(2)
            self.tell(strategy, problem, failed, accuracy=np.full(len(failed), np.nan))
            other = self.make(problem, seed=99)
            other.restore(json.loads(json_text(strategy.state())))
            np.testing.assert_array_equal(other.pending, strategy.pending)
            self.tell(strategy, problem, strategy.pending)
            self.tell(other, problem, other.pending)
            expected = self.run(strategy, problem, 2)
            np.testing.assert_array_equal(self.run(other, problem, 2), expected)
            assert other.state() == strategy.state()

    def test_state_of_another_space_is_refused(self):
        state = self.make(self.problem()).state()
        with pytest.raises(BadInputError, match="space_hash"):
            self.make(self.problem(TINY)).restore(state)
        with pytest.raises(BadInputError, match="'Other'"):
            self.make(self.problem()).restore(state | {"strategy": "Other"})

    def test_memory_grows_by_a_bounded_number_of_bytes_a_row(self):
        problem = self.problem()
        strategy = self.make(problem)
        sizes = []
        for i in range(4):
            rows = SPACE.sample(500, np.random.default_rng(i))
            self.tell(strategy, problem, rows)
            sizes.append(len(json_text(strategy.state())))
        assert np.diff(sizes)[1:].max() <= 500 * self.state_bytes_a_row

    # ---- searching ---------------------------------------------------------------------------

    def test_a_search_with_fewer_evaluations_than_its_design(self):
        problem = self.problem(TINY, latency_ms=0.24)
        front = search(problem, evaluations=3, strategy=self.make(problem))
        assert len(front.result.observations) == 3

    def test_a_search_keeps_the_limits_and_ends_with_the_space(self, caplog):
        problem = self.problem(TINY, latency_ms=0.24)
        rows = all_rows(TINY)
        feasible = problem.violations(rows) <= 0
        assert 0 < feasible.sum() < len(rows)
        strategy = self.make(problem)
        front = search(problem, evaluations=10 * len(rows), strategy=strategy, batch_size=4)
        measured = np.array([o.genes for o in front.result.observations], np.int16)
        assert len(np.unique(measured, axis=0)) == len(measured)
        kept = problem.violations(measured) <= 0
        assert kept.sum() == feasible.sum()
        assert kept.all() or self.measures_infeasible
        assert "no further architecture within the limits" in caplog.text
        assert (problem.violations(np.array([p.genes for p in front], np.int16)) <= 0).all()
