import numpy as np
import pytest

from records import BadInputError
from strategies import FromDistribution, search
from strategies.known_rows import row_keys
from tests.strategies.contract import LIMIT_MS, StrategyContract
from tests.strategies.doubles import SPACE, TINY, all_rows
from tests.strategies.test_slimming import problem_of


class Peaked:
    """Each active choice has the value of one row, or with a small chance any."""

    def __init__(self, space, peak, chance=0.1):
        self.space = space
        self.peak = peak
        self.chance = chance
        self.asked = 0

    def sample(self, n, rng):
        self.asked += n
        other = rng.random((n, len(self.peak))) < self.chance
        genes = np.where(other, self.space.gene_space.uniform(n, rng), self.peak)
        return self.space.canonical(genes.astype(np.int16))

    def most_likely(self):
        return self.space.canonical(self.peak[None])[0]


def peaked(problem, chance=0.1):
    return Peaked(problem.space, problem.space.extremes("largest")[1], chance)


class TestFromDistribution(StrategyContract):
    def make(self, problem, **options):
        return FromDistribution(problem, peaked(problem), **options)


def test_the_most_likely_comes_first_and_samples_after():
    problem = problem_of()
    distribution = peaked(problem)
    strategy = FromDistribution(problem, distribution, seed=2)
    rows = strategy.ask(20)
    np.testing.assert_array_equal(rows[0], distribution.most_likely())
    apart = (rows != rows[0]).sum(axis=1)
    drawn = SPACE.sample(20, np.random.default_rng(0))
    assert apart.mean() < 0.5 * (drawn != rows[0]).sum(axis=1).mean()


def test_rows_that_miss_the_limits_come_only_where_nothing_else_is_found():
    problem = problem_of(latency_ms=LIMIT_MS)
    distribution = peaked(problem, chance=0.4)
    assert problem.violations(distribution.most_likely()[None])[0] > 0
    rows = FromDistribution(problem, distribution).ask(30)
    drawn = distribution.sample(1000, np.random.default_rng(0))
    assert 0 < (problem.violations(drawn) <= 0).mean() < 0.9
    assert (problem.violations(rows) <= 0).all()
    hard = problem_of(latency_ms=1e-3)
    rows = FromDistribution(hard, distribution).ask(30)
    missed = hard.violations(rows)
    assert len(rows) == 30
    assert (np.diff(missed) >= 0).all()
    assert missed.max() < np.median(hard.violations(drawn))


def test_a_distribution_that_gives_one_row_only_is_left_by_random_steps():
    problem = problem_of()
    distribution = peaked(problem, chance=0.0)
    rows = FromDistribution(problem, distribution).ask(12)
    assert len(np.unique(rows, axis=0)) == 12
    changed = (SPACE.active(rows) & SPACE.active(rows[:1]) & (rows != rows[0])).sum(axis=1)
    assert changed.max() <= 3


def test_after_the_samples_it_searches_around_the_best_and_samples_no_more():
    problem = problem_of()
    distribution = peaked(problem)
    strategy = FromDistribution(problem, distribution, samples=10)
    for _ in range(2):
        genes = strategy.ask(10)
        accuracy = problem.accuracy.values(genes)
        before = strategy.front
        asked = distribution.asked
        strategy.tell(genes, problem.objectives(genes, accuracy))
    assert len(before)
    near = [
        (SPACE.active(row[None]) & SPACE.active(before) & (row != before)).sum(axis=1).min()
        for row in genes
    ]
    assert max(near) <= 1
    strategy.ask(10)
    assert distribution.asked == asked


def test_a_good_distribution_beats_random_starts():
    problem = problem_of(noise=0.0)
    drawn = SPACE.sample(20_000, np.random.default_rng(1))
    top = drawn[problem.accuracy.values(drawn).argmax()]
    strategy = FromDistribution(problem, Peaked(SPACE, top))
    front = search(problem, evaluations=30, strategy=strategy)
    random = drawn[:3000].reshape(100, 30, -1)
    best = [problem.accuracy.values(rows).max() for rows in random]
    assert max(p.accuracy for p in front) > np.quantile(best, 0.95)


def test_all_of_a_small_space_is_proposed_whatever_the_distribution():
    problem = problem_of(TINY)
    strategy = FromDistribution(problem, peaked(problem, chance=0.0), samples=500)
    rows = np.concatenate([strategy.ask(40) for _ in range(20)])
    assert set(row_keys(rows).tolist()) == set(row_keys(all_rows(TINY)).tolist())
    assert len(rows) == TINY.cardinality


def test_options_that_do_not_fit_are_refused():
    problem = problem_of()
    with pytest.raises(BadInputError, match="starts"):
        FromDistribution(problem, peaked(problem), samples=0)
    with pytest.raises(BadInputError, match="genes must be n x 27"):
        FromDistribution(problem, peaked(problem_of(TINY)))
