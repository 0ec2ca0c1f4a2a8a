import sys

import numpy as np
import pytest

from records import BadInputError
from strategies.pymoo_strategy import PymooStrategy, integer_nsga2, integer_operators
from tests.strategies.contract import LIMIT_MS, StrategyContract
from tests.strategies.doubles import SPACE, TINY


class TestPymooStrategy(StrategyContract):
    state_bytes_a_row = 300

    @pytest.fixture(autouse=True)
    def _needs_pymoo(self):
        pytest.importorskip("pymoo")

    def make(self, problem, **options):
        return PymooStrategy(problem, lambda: integer_nsga2(16), **options)


def told(strategy, problem, genes):
    accuracy = problem.accuracy.values(genes)
    strategy.tell(genes, problem.objectives(genes, accuracy), problem.violations(genes))


def test_a_generation_waits_until_all_of_it_is_told():
    pytest.importorskip("pymoo")
    problem = TestPymooStrategy().problem()
    strategy = PymooStrategy(problem, integer_nsga2(16))
    asked = [strategy.ask(6) for _ in range(4)]
    assert [len(rows) for rows in asked] == [6, 6, 4, 0]
    told(strategy, problem, np.concatenate(asked)[1:])
    assert len(strategy.ask(6)) == 0
    told(strategy, problem, asked[0][:1])
    assert len(strategy.ask(6)) == 6
    population = strategy._algorithm.pop
    genes = np.concatenate(asked)
    expected = problem.objectives(genes, problem.accuracy.values(genes))
    found = population.get("F")
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0))


def test_the_algorithm_evolves_as_it_does_alone():
    """Ask and tell through a strategy gives the populations that pymoo's own loop gives."""
    pytest.importorskip("pymoo")
    from pymoo.core.problem import Problem as PymooProblem

    problem = TestPymooStrategy().problem(latency_ms=LIMIT_MS)
    strategy = PymooStrategy(problem, integer_nsga2(16), seed=4)

    class Alone(PymooProblem):
        def __init__(self):
            sizes = SPACE.gene_space.sizes.astype(int)
            super().__init__(
                n_var=len(sizes), n_obj=2, n_ieq_constr=1, xl=0 * sizes, xu=sizes - 1, vtype=int
            )

        def _evaluate(self, x, out, *args, **kwargs):
            genes = SPACE.canonical(np.rint(x).astype(np.int16))
            out["F"] = problem.objectives(genes, problem.accuracy.values(genes))
            out["G"] = problem.violations(genes)[:, None]

    alone = integer_nsga2(16)
    alone.setup(Alone(), termination=("n_gen", 100), seed=strategy._algorithm.seed, verbose=False)
    for _ in range(6):
        alone.next()
    for _ in range(40):
        if strategy._algorithm.n_iter == alone.n_iter:
            break
        told(strategy, problem, strategy.ask(7))
    assert strategy._algorithm.n_iter == alone.n_iter
    np.testing.assert_array_equal(strategy._algorithm.pop.get("X"), alone.pop.get("X"))


def test_an_algorithm_out_of_children_leaves_the_rest_to_chance():
    pytest.importorskip("pymoo")
    problem = TestPymooStrategy().problem(TINY)
    strategy = PymooStrategy(problem, integer_nsga2(40))
    found = []
    while not strategy.is_exhausted and len(found) < 60:
        found.append(strategy.ask(5))
        told(strategy, problem, found[-1])
    assert sum(map(len, found)) == TINY.cardinality


def test_other_algorithms_are_proposed_likewise():
    moead = pytest.importorskip("pymoo.algorithms.moo.moead")
    spea2 = pytest.importorskip("pymoo.algorithms.moo.spea2")
    from pymoo.util.ref_dirs import get_reference_directions

    directions = get_reference_directions("das-dennis", 2, n_partitions=9)
    problem = TestPymooStrategy().problem()
    for algorithm in (
        moead.MOEAD(directions, **integer_operators()),
        spea2.SPEA2(pop_size=10, **integer_operators()),
    ):
        strategy = PymooStrategy(problem, algorithm)
        for _ in range(15):
            genes = strategy.ask(5)
            assert len(genes) > 0
            told(strategy, problem, genes)


def test_what_is_no_algorithm_is_refused():
    pytest.importorskip("pymoo")
    with pytest.raises(BadInputError, match="one of pymoo or makes one"):
        PymooStrategy(TestPymooStrategy().problem(), "nsga2")


def test_without_pymoo_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    with pytest.raises(BadInputError, match="pip install pymoo"):
        integer_nsga2()
