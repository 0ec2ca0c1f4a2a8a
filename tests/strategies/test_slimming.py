import numpy as np
import pytest

from records import BadInputError
from strategies import Problem, Slimming, search
from strategies.known_rows import row_keys
from strategies.neighbourhood import largest_values, neighbours
from strategies.slimming import cheapest_change
from tests.strategies.contract import LIMIT_MS, StrategyContract
from tests.strategies.doubles import SPACE, TINY, FormulaAccuracy, LayerCost, Ridge


class TestSlimming(StrategyContract):
    depends_on_seed = False
    measures_infeasible = True
    state_bytes_a_row = 60

    def make(self, problem, **options):
        return Slimming(problem, **options)


@pytest.mark.slow
class TestSlimmingWithAPredictor(StrategyContract):
    measures_infeasible = True
    state_bytes_a_row = 60

    def make(self, problem, **options):
        return Slimming(problem, Ridge(problem.space), training=12, **options)


def problem_of(space=SPACE, noise=0.0, **limits):
    return Problem(space, FormulaAccuracy(space, noise=noise), [LayerCost(space)], limits)


def followed(strategy, problem, n=16):
    """Runs the plan to its end; the last way, and everything that was measured."""
    asked, way = [], strategy.way
    for _ in range(400):
        if not strategy.measures_infeasible:
            return way, np.concatenate(asked)
        way = strategy.way
        asked.append(strategy.ask(n))
        accuracy = problem.accuracy.values(asked[-1])
        genes = asked[-1]
        strategy.tell(genes, problem.objectives(genes, accuracy), problem.violations(genes))
    raise AssertionError("the plan does not end")


def sorted_rows(rows):
    return np.unique(rows, axis=0)


def slimmed_by_hand(problem, row):
    """The same rule, one candidate after the other."""
    way = [row]
    error = lambda r: 1 - problem.accuracy.values(r[None])[0]  # noqa: E731
    cost = lambda r: np.log(problem.cheap_objectives(r[None])).mean()  # noqa: E731
    while True:
        fill = largest_values(problem.space)
        best, least = None, np.inf
        for other in neighbours(problem.space, way[-1], fill=fill, downwards=True):
            gain, loss = cost(way[-1]) - cost(other), error(other) - error(way[-1])
            if gain > 1e-9:
                score = loss / gain if loss > 0 else loss * gain
                if score < least:
                    best, least = other, score
        if best is None:
            return np.array(way)
        way.append(best)


def test_the_way_takes_the_least_loss_for_what_it_saves():
    problem = problem_of()
    way, asked = followed(Slimming(problem), problem)
    largest = SPACE.extremes("largest")
    best = largest[problem.accuracy.values(largest).argmax()]
    np.testing.assert_array_equal(way, slimmed_by_hand(problem, best)[: len(way)])
    latency = problem.cheap_objectives(way)[:, 0]
    assert (np.diff(latency) < 0).all()
    assert np.isin(row_keys(way), row_keys(asked)).all()
    assert len(way) > 15


def test_it_goes_down_to_the_smallest_without_limits():
    problem = problem_of(TINY)
    strategy = Slimming(problem)
    followed(strategy, problem)
    smallest = TINY.extremes("smallest")
    latency = problem.cheap_objectives(smallest).min()
    told = set(strategy._errors)
    fastest = smallest[problem.cheap_objectives(smallest)[:, 0].argmin()]
    assert problem.cheap_objectives(fastest[None])[0, 0] == latency
    assert int(row_keys(fastest[None])[0]) in told


def test_several_descents_begin_at_several_of_the_largest():
    problem = problem_of()
    one, two = (followed(Slimming(problem, descents=d), problem)[1] for d in (1, 2))
    assert len(SPACE.extremes("largest")) >= 2
    assert len(two) > 1.2 * len(one)


def test_a_predictor_spares_the_candidates():
    problem = problem_of(noise=0.001)
    strategy = Slimming(problem, Ridge(SPACE), training=40)
    _, asked = followed(strategy, problem)
    _, measured = followed(Slimming(problem), problem)
    assert len(asked) < len(measured) / 2
    fitted = Ridge(SPACE).fit(asked[:40], problem.accuracy.values(asked[:40]))
    other = Slimming(problem, fitted, training=0)
    _, again = followed(other, problem)
    np.testing.assert_array_equal(sorted_rows(again[2:]), sorted_rows(asked[42:]))


def test_with_a_limit_it_ends_within_the_limit_and_better_than_drawn_networks():
    problem = problem_of(latency_ms=LIMIT_MS)
    front = search(problem, evaluations=250, strategy=Slimming(problem), batch_size=32)
    measured = np.array([o.genes for o in front.result.observations])
    assert (problem.violations(measured) > 0).any()
    assert all(point.cost_bounds["latency_ms"] <= LIMIT_MS for point in front)
    drawn = SPACE.sample(4000, np.random.default_rng(0))
    drawn = drawn[problem.violations(drawn) <= 0][:250]
    assert max(p.accuracy for p in front) > problem.accuracy.values(drawn).max()


def test_where_the_error_falls_what_saves_more_comes_first():
    assert cheapest_change(np.array([0.1, -0.01, -0.01]), np.array([9.0, 1.0, 2.0])) == 2
    assert cheapest_change(np.array([0.1, 0.1]), np.array([1.0, 2.0])) == 1


def test_failed_candidates_are_never_on_the_way():
    problem = problem_of(TINY)
    largest = TINY.extremes("largest")
    strategy = Slimming(problem)
    for _ in range(40):
        genes = strategy.ask(8)
        accuracy = problem.accuracy.values(genes)
        odd = (row_keys(genes) % np.uint64(2) == 1) & ~np.isin(row_keys(genes), row_keys(largest))
        accuracy[odd] = np.nan
        way = strategy.way
        assert (row_keys(way[1:]) % np.uint64(2) == 0).all()
        strategy.tell(genes, problem.objectives(genes, accuracy))
    everything = Slimming(problem)
    everything.tell(largest, np.full((len(largest), 2), np.nan))
    assert not everything.measures_infeasible


def test_a_predictor_that_could_learn_from_nothing_is_not_followed():
    problem = problem_of()
    strategy = Slimming(problem, Ridge(SPACE), training=4)
    genes = strategy.ask(4)
    strategy.tell(genes, np.full((len(genes), 2), np.nan))
    largest = strategy.ask(10)
    strategy.tell(largest, problem.objectives(largest, problem.accuracy.values(largest)))
    assert not strategy.measures_infeasible


@pytest.mark.parametrize(
    ("options", "message"),
    [({"descents": 0}, "descents"), ({"training": 1}, "training"), ({"training": -1}, "training")],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(BadInputError, match=message):
        Slimming(problem_of(), **options)
