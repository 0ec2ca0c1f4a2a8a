import numpy as np
import pytest

from strategies import Problem, SensitivityBisection, search
from strategies.known_rows import row_keys
from strategies.neighbourhood import largest_values, neighbours
from strategies.sensitivity import threshold_path
from tests.strategies.contract import LIMIT_MS, StrategyContract
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost


class TestSensitivityBisection(StrategyContract):
    depends_on_seed = False
    measures_infeasible = True
    state_bytes_a_row = 60

    def make(self, problem, **options):
        return SensitivityBisection(problem, **options)


def problem_of(space=SPACE, **limits):
    return Problem(space, FormulaAccuracy(space, noise=0.0), [LayerCost(space)], limits)


def followed(strategy, problem):
    asked = []
    for _ in range(100):
        if not strategy.measures_infeasible:
            return np.concatenate(asked)
        genes = strategy.ask(16)
        asked.append(genes)
        accuracy = problem.accuracy.values(genes)
        strategy.tell(genes, problem.objectives(genes, accuracy), problem.violations(genes))
    raise AssertionError("the plan does not end")


def cost_of(problem):
    return lambda rows: np.log(problem.cheap_objectives(rows)).mean(axis=1)


def base_and_losses(problem):
    largest = SPACE.extremes("largest")
    base = largest[problem.accuracy.values(largest).argmax()]
    changed = neighbours(SPACE, base, fill=largest_values(SPACE))
    loss = problem.accuracy.values(base[None]) - problem.accuracy.values(changed)
    return base, changed, loss


def chosen_by_hand(problem, base, changed, loss, threshold):
    """One choice at a time: the cheapest value of which neither it nor a dearer one is worse."""
    row = np.where(SPACE.active(base[None])[0], base, largest_values(SPACE))
    cost, own = cost_of(problem)(changed), cost_of(problem)(base[None])[0]
    for j in range(len(base)):
        options = [
            (cost[i], loss[i], changed[i, j])
            for i in range(len(changed))
            if changed[i, j] != base[j] and (changed[i, :j] == base[:j]).all() and cost[i] < own
        ]
        options.sort(key=lambda option: -option[0])
        for _, lost, value in options:
            if lost > threshold:
                break
            row[j] = value
    return SPACE.canonical(row[None].astype(np.int16))[0]


def test_each_threshold_gives_every_choice_its_cheapest_value():
    problem = problem_of()
    base, changed, loss = base_and_losses(problem)
    path = threshold_path(SPACE, base, changed, loss, cost_of(problem))
    by_hand = [
        chosen_by_hand(problem, base, changed, loss, t)
        for t in sorted({0.0, *np.maximum(loss, 0).tolist()})
    ]
    distinct = list(dict.fromkeys(tuple(row) for row in np.array(by_hand).tolist()))
    assert [tuple(row) for row in path.tolist()] == distinct
    assert len(path) > 8


def test_a_cheaper_value_counts_as_no_less_harmful_and_unknown_ones_are_not_taken():
    """Of a choice with 4 values: losses 0.3 at the second, 0.1 at the third, unknown the last."""
    problem = problem_of()
    sizes = SPACE.gene_space.sizes
    j = int(np.argmax(sizes))
    assert sizes[j] >= 3
    base = SPACE.extremes("largest")[0]
    rows = np.repeat(base[None], sizes[j] - 1, axis=0)
    rows[:, j] = np.arange(sizes[j] - 1)[::-1]
    loss = np.linspace(0.3, 0.1, len(rows))
    path = threshold_path(SPACE, base, rows, loss, cost_of(problem))
    np.testing.assert_array_equal(path[:, j], [base[j], 0])
    loss[-1] = np.nan
    path = threshold_path(SPACE, base, rows, loss, cost_of(problem))
    np.testing.assert_array_equal(path[:, j], [base[j], 1])


@pytest.mark.parametrize("limit", [0.15, LIMIT_MS, 0.5, 5.0])
def test_bisection_finds_the_first_network_that_keeps_the_limit(limit):
    problem = problem_of(latency_ms=limit)
    strategy = SensitivityBisection(problem)
    followed(strategy, problem)
    base, changed, loss = base_and_losses(problem)
    path = threshold_path(SPACE, base, changed, loss, cost_of(problem))
    keeps = problem.violations(path) <= 0
    first = int(keeps.argmax()) if keeps.any() else len(path) - 1
    np.testing.assert_array_equal(strategy.path, path[first:])


def test_it_measures_the_sensitivities_once_and_the_path():
    problem = problem_of()
    strategy = SensitivityBisection(problem)
    assert len(strategy.path) == 0
    asked = followed(strategy, problem)
    _, changed, _ = base_and_losses(problem)
    expected = np.concatenate([SPACE.extremes("largest"), changed, strategy.path])
    assert set(row_keys(asked).tolist()) == set(row_keys(expected).tolist())
    assert len(asked) < SPACE.gene_space.sizes.sum() + len(strategy.path) + 8


def test_with_a_limit_it_finds_better_than_drawn_networks():
    problem = problem_of(latency_ms=LIMIT_MS)
    front = search(problem, evaluations=160, strategy=SensitivityBisection(problem), batch_size=16)
    drawn = SPACE.sample(2000, np.random.default_rng(0))
    drawn = drawn[problem.violations(drawn) <= 0][:160]
    assert max(p.accuracy for p in front) > problem.accuracy.values(drawn).max()


def test_where_all_of_the_largest_fail_there_is_no_plan():
    problem = problem_of()
    strategy = SensitivityBisection(problem)
    largest = strategy.ask(20)
    strategy.tell(largest, np.full((len(largest), 2), np.nan))
    assert not strategy.measures_infeasible
    assert len(strategy.ask(5)) == 5
