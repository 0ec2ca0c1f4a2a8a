import numpy as np
import pytest

from records import BadInputError, Measured, UnknownNameError
from strategies import Problem
from strategies.problem import target_weights
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost

GENES = SPACE.sample(50, np.random.default_rng(0))


def problem(limits=None, costs=None, **options):
    costs = costs or [LayerCost(SPACE, "board"), LayerCost(SPACE, "phone", per_layer=0.1)]
    return Problem(
        SPACE, accuracy=FormulaAccuracy(SPACE), costs=costs, limits=limits or {}, **options
    )


def test_a_limit_by_metric_holds_on_every_target():
    found = problem({"latency_ms": 2, "energy_mj": 5}).constraints
    assert {(c.metric, c.target, c.limit) for c in found} == {
        ("latency_ms", "board", 2.0),
        ("latency_ms", "phone", 2.0),
        ("energy_mj", "board", 5.0),
        ("energy_mj", "phone", 5.0),
    }


@pytest.mark.parametrize("reverse", [False, True])
def test_a_limit_of_one_target_comes_before_the_general_one(reverse):
    items = [("latency_ms", 2), (("latency_ms", "phone"), 3)]
    found = problem(dict(items[::-1] if reverse else items)).constraints
    assert {c.target: c.limit for c in found} == {"board": 2.0, "phone": 3.0}


def test_objectives_are_error_and_latency_of_each_target():
    p = problem()
    objectives = p.objectives(GENES, np.linspace(0, 1, 50))
    np.testing.assert_allclose(objectives[:, 0], 1 - np.linspace(0, 1, 50))
    for column, cost in zip(objectives.T[1:], p.costs, strict=True):
        np.testing.assert_array_equal(column, cost.predict(GENES)["latency_ms"])


def test_violations_are_shares_of_the_limit_by_bound():
    limits = {
        ("latency_ms", "board"): 0.4, ("energy_mj", "phone"): 0.9, ("latency_ms", "phone"): 4.0
    }  # fmt: skip
    p = problem(limits)
    board, phone = p.costs
    first = np.maximum(1.1 * board.predict(GENES)["latency_ms"] / 0.4 - 1, 0)
    second = np.maximum(1.1 * phone.predict(GENES)["energy_mj"] / 0.9 - 1, 0)
    second += np.maximum(1.1 * phone.predict(GENES)["latency_ms"] / 4.0 - 1, 0)
    np.testing.assert_allclose(p.target_violations(GENES), np.column_stack([first, second]))
    np.testing.assert_allclose(p.violations(GENES), np.minimum(first, second))
    np.testing.assert_array_equal(p.allows(GENES), np.column_stack([first, second]) == 0)
    assert len(np.unique(p.allows(GENES), axis=0)) >= 3
    assert p.target_groups == (("board",), ("phone",))
    both = problem(limits, together=True)
    np.testing.assert_allclose(both.violations(GENES), first + second)
    np.testing.assert_array_equal(
        both.allows(GENES), (first + second == 0)[:, None] * [[True] * 2]
    )
    assert both.target_groups == (("board", "phone"),)
    assert (p.is_apart, both.is_apart, problem().is_apart) == (True, False, False)
    np.testing.assert_array_equal(problem().violations(GENES), 0)
    assert p.violations(GENES[:0]).shape == (0,)


def test_an_unknown_cost_keeps_no_limit():
    cost = LayerCost(SPACE, "board", margin=np.nan)
    assert np.isinf(problem({"latency_ms": 1.0}, [cost]).violations(GENES)).all()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"latncy_ms": 1}, "did you mean 'latency_ms'.*energy_mj"),
        ({("latency_ms", "bord"): 1}, "unknown target 'bord'; did you mean 'board'.*phone"),
        ({("watts", "board"): 1}, "unknown metric of 'board' 'watts'.*energy_mj, latency_ms"),
    ],
)
def test_unknown_names_list_the_valid_ones(limits, message):
    with pytest.raises(UnknownNameError, match=message):
        problem(limits)


@pytest.mark.parametrize("limit", [0, -1, np.nan, np.inf, "fast", None])
def test_limits_are_positive_numbers(limit):
    with pytest.raises(BadInputError, match="'latency_ms' must be a positive number"):
        problem({"latency_ms": limit})


def test_costs_are_checked():
    with pytest.raises(BadInputError, match="at least one cost model"):
        Problem(SPACE, accuracy=FormulaAccuracy(SPACE), costs=[])
    with pytest.raises(BadInputError, match="a name of its own"):
        problem(costs=[LayerCost(SPACE), LayerCost(SPACE)])
    without_latency = LayerCost(SPACE)
    without_latency.metrics = ("energy_mj",)
    with pytest.raises(BadInputError, match="must tell latency_ms; it tells energy_mj"):
        problem(costs=[without_latency])


def test_a_general_limit_needs_the_metric_on_every_target():
    phone = LayerCost(SPACE, "phone")
    phone.metrics = ("latency_ms",)
    with pytest.raises(BadInputError, match=r"'phone' has no energy_mj; give it as \('energy_mj'"):
        problem({"energy_mj": 1}, [LayerCost(SPACE, "board"), phone])


def test_a_target_without_limits_allows_every_network():
    p = problem({("latency_ms", "board"): 0.3})
    assert p.allows(GENES).mean(axis=0)[0] < 1
    np.testing.assert_array_equal(p.allows(GENES)[:, 1], True)
    np.testing.assert_array_equal(p.violations(GENES), 0)


@pytest.mark.parametrize(
    "weights", [{"board": -1}, {"board": np.nan}, {"board": 0, "phone": 0}, {"phone": np.inf}]
)
def test_weights_are_numbers_of_which_one_is_above_0(weights):
    with pytest.raises(BadInputError, match="at least 0 and one above it"):
        problem(weights=weights)


def test_a_weight_of_an_unknown_target_names_the_known():
    with pytest.raises(UnknownNameError, match="did you mean 'board'"):
        problem(weights={"bord": 1})
    found = target_weights(("board", "phone"), {"phone": 3})
    np.testing.assert_array_equal(found, [1, 3])


def test_measured_says_what_it_needs():
    with pytest.raises(BadInputError, match="finite value"):
        Measured(value=float("nan"))
    with pytest.raises(BadInputError, match="a reason"):
        Measured(value=None, status="failed")
    with pytest.raises(BadInputError, match="'ok' or 'failed'"):
        Measured(value=0.5, status="good")


def test_limits_on_costs_without_a_measurement_are_named():
    modelled = LayerCost(SPACE, "board")
    modelled.unmeasured = ("energy_mj",)
    costs = [modelled, LayerCost(SPACE, "phone")]
    found = problem({"energy_mj": 5, "latency_ms": 2}, costs).unmeasured_limits
    assert [(c.metric, c.target) for c in found] == [("energy_mj", "board")]
