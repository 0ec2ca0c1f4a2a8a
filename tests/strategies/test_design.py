import numpy as np

from strategies import Problem, check_feasible, initial_design
from tests.strategies.doubles import SPACE, TINY, FormulaAccuracy, LayerCost


def design(limits, size=16, space=SPACE, first=None, seed=0):
    problem = Problem(space, FormulaAccuracy(space), [LayerCost(space)], limits)
    feasible = check_feasible(problem).feasible_genes
    rng = np.random.default_rng(seed)
    return problem, initial_design(problem, size, rng, feasible=feasible, first=first)


def test_it_has_the_ends_of_the_space_and_spreads_over_latency():
    problem, genes = design({})
    ends = np.concatenate([SPACE.extremes("smallest"), SPACE.extremes("largest")])
    known = {tuple(row) for row in genes.tolist()}
    assert {tuple(row) for row in ends.tolist()} <= known
    assert len(known) == len(genes) == 16
    latency = np.sort(problem.cheap_objectives(genes)[:, 0])
    assert (latency[1:] / latency[:-1]).max() < 2.0


def test_all_keep_the_limits():
    problem, genes = design({"latency_ms": 0.3})
    assert len(genes) == 16
    np.testing.assert_array_equal(problem.violations(genes), 0)


def test_given_rows_come_first_even_if_they_miss_the_limits():
    first = SPACE.extremes("largest")
    problem, genes = design({"latency_ms": 0.3}, first=first)
    np.testing.assert_array_equal(genes[: len(first)], first)
    np.testing.assert_array_equal(problem.violations(genes[len(first) :]), 0)
    many = SPACE.sample(30, np.random.default_rng(1))
    np.testing.assert_array_equal(design({}, size=4, first=many)[1], many)


def test_a_small_space_gives_what_it_has():
    _, genes = design({}, size=1000, space=TINY)
    assert len(np.unique(genes, axis=0)) == len(genes) <= TINY.cardinality
