"""Targets of different precisions in one search: each reads the accuracy of its own."""

import numpy as np
import pytest

from records import BadInputError, Ledger, Measured, UnknownNameError
from search_spaces import WithPrecision
from strategies import (
    NSGA2,
    AccuracyByPrecision,
    CostsByPrecision,
    InfeasibleConstraintError,
    PredictorGuided,
    Problem,
    check_feasible,
    search,
)
from strategies.dominance import is_non_dominated
from tests.strategies.doubles import TINY, FormulaAccuracy, LayerCost, Ridge, all_rows

SPACE = WithPrecision(base=TINY, precisions=("int8", "fp32"))
ROWS = all_rows(TINY)


def evaluators():
    return {"fp32": FormulaAccuracy(TINY, seed=1), "int8": FormulaAccuracy(TINY, seed=2)}


def costs(precision, **options):
    per_layer = {"fp32": 0.01, "int8": 0.004}[precision]
    return LayerCost(TINY, f"board-{precision}", per_layer=per_layer, **options)


def alone(precision):
    """A target that allows one precision."""
    return CostsByPrecision(SPACE, {precision: costs(precision)})


def problem(found=None, **options):
    targets = [alone("fp32"), alone("int8")]
    return Problem(SPACE, AccuracyByPrecision(SPACE, found or evaluators()), targets, **options)


def points(front, target):
    return {(p.accuracy, p.latency_ms) for p in front.for_target(target)}


def best(*pairs):
    """Brute force: what no other of all networks beats, by evaluator and cost model."""
    both = np.concatenate(
        [
            np.column_stack([1 - e.values(ROWS), c.predict(ROWS)["latency_ms"]])
            for e, c in pairs
        ]
    )  # fmt: skip
    return {(1 - error, ms) for error, ms in both[is_non_dominated(both)]}


def test_each_target_reads_the_accuracy_of_its_own_precision():
    found = evaluators()
    p = problem(found)
    front = search(p, evaluations=2 * len(ROWS), strategy=NSGA2(SPACE, population_size=16))
    assert len(front.result.observations) == 2 * len(ROWS)
    for precision, evaluator in found.items():
        assert sorted(evaluator.seen) == sorted(map(tuple, ROWS.tolist()))  # each once
        target = f"board-{precision}"
        np.testing.assert_allclose(
            sorted(points(front, target)), sorted(best((evaluator, costs(precision))))
        )
        assert {pt.architecture["precision"] for pt in front.for_target(target)} == {precision}
    assert points(front, "board-fp32") != points(front, "board-int8")
    assert front.shared == ()  # no row is in both precisions


@pytest.mark.parametrize("guided", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_short_search_fills_both_fronts_and_goes_on_from_its_ledger(guided, tmp_path):
    def strategy(p):
        return PredictorGuided(p, Ridge(SPACE), generations=3) if guided else NSGA2(SPACE)

    with Ledger.create(tmp_path / "run.sqlite", {}) as ledger:
        first = problem()
        search(first, evaluations=24, strategy=strategy(first), ledger=ledger)
        found = evaluators()
        again = problem(found)
        front = search(again, evaluations=32, strategy=strategy(again), ledger=ledger)
    assert front.result.reused == 24
    assert sum(len(e.seen) for e in found.values()) == 8
    for target in again.targets:
        assert len(front.for_target(target)) > 1


def test_a_target_with_both_precisions_takes_the_better_of_each_network():
    found = evaluators()
    both = CostsByPrecision(SPACE, {p: costs(p) for p in ("fp32", "int8")}, name="board")
    p = Problem(SPACE, AccuracyByPrecision(SPACE, found), [both])
    front = search(p, evaluations=2 * len(ROWS), strategy=NSGA2(SPACE, population_size=16))
    expected = best(*((found[name], costs(name)) for name in SPACE.precisions))
    np.testing.assert_allclose(sorted(points(front, "board")), sorted(expected))
    assert {pt.architecture["precision"] for pt in front} == {"int8", "fp32"}


def test_a_foreign_precision_counts_as_violated_whatever_it_costs():
    p = problem(limits={("latency_ms", "board-int8"): 1e9})
    genes = SPACE.sample(60, np.random.default_rng(0))
    is_int8 = SPACE.precision_of(genes) == "int8"
    np.testing.assert_array_equal(p.allows(genes), np.column_stack([~is_int8, is_int8]))
    np.testing.assert_array_equal(p.violations(genes), 0)
    assert np.isfinite(p.cheap_objectives(genes)).all()
    assert p.is_apart
    one = Problem(SPACE, p.accuracy, [alone("int8")])
    np.testing.assert_array_equal(one.violations(genes), ~is_int8)
    assert (SPACE.precision_of(check_feasible(one).feasible_genes) == "int8").all()


def test_tight_limits_are_kept_in_the_right_precision():
    reach = costs("int8").bound("latency_ms", ROWS)
    p = problem(limits={("latency_ms", "board-int8"): float(np.sort(reach)[1])})
    feasible = check_feasible(p).feasible_genes
    mine = feasible[p.allows(feasible)[:, 1]]
    assert len(mine)
    assert (SPACE.precision_of(mine) == "int8").all()
    with pytest.raises(InfeasibleConstraintError, match="meets latency_ms"):
        check_feasible(problem(limits={("latency_ms", "board-int8"): float(reach.min() / 2)}))


def test_no_network_runs_on_targets_of_different_precisions_together():
    with pytest.raises(InfeasibleConstraintError, match="that runs on 'board-fp32' and 'board-in"):
        check_feasible(problem(together=True))


def test_costs_are_those_of_each_networks_precision():
    both = CostsByPrecision(SPACE, {p: costs(p, exact=True) for p in ("fp32", "int8")})
    genes = SPACE.sample(50, np.random.default_rng(1))
    assert both.runs(genes).all()
    assert both.target_name == "board-fp32"
    found = both.predict(genes)
    for precision in SPACE.precisions:
        mine = SPACE.precision_of(genes) == precision
        rows = SPACE.to_base(genes[mine])
        for metric, values in costs(precision).predict(rows).items():
            np.testing.assert_array_equal(found[metric][mine], values)
            bound = both.bound(metric, genes)[mine]
            np.testing.assert_array_equal(bound, costs(precision).bound(metric, rows))
    every = np.concatenate([SPACE.in_precision(ROWS, p) for p in SPACE.precisions])
    reached = both.predict(every)["latency_ms"]
    (low, low_row), (high, high_row) = both.extremes("latency_ms")
    assert (low, high) == (reached.min(), reached.max())
    assert both.predict(np.array([low_row[0], high_row[0]]))["latency_ms"].tolist() == [low, high]
    mixed = CostsByPrecision(SPACE, {"fp32": costs("fp32"), "int8": costs("int8", exact=True)})
    assert mixed.extremes("latency_ms") is None


def test_metrics_are_common_to_all_precisions():
    quick = costs("int8")
    quick.metrics = ("latency_ms", "energy_mj")
    quick.unmeasured = ("energy_mj",)
    both = CostsByPrecision(SPACE, {"fp32": costs("fp32"), "int8": quick})
    assert both.metrics == ("latency_ms", "energy_mj")
    assert both.unmeasured == ("energy_mj",)
    assert set(both.predict(SPACE.in_precision(ROWS, "fp32"))) == set(both.metrics)


def test_a_network_is_deployed_in_its_own_precision(tmp_path):
    both = CostsByPrecision(SPACE, {p: costs(p) for p in ("fp32", "int8")})
    p = Problem(SPACE, AccuracyByPrecision(SPACE, evaluators()), [both, alone("int8")])
    row = SPACE.in_precision(ROWS[:1], "fp32")
    architecture = SPACE.decode(row)[0]
    subnet = p.accuracy.subnet(architecture)
    base = TINY.decode(ROWS[0])[0]
    assert subnet == ("subnet", base)
    _, written, deployed = both.deploy(subnet, architecture, tmp_path / "new", {})
    assert (written, deployed) == (subnet, base)
    with pytest.raises(BadInputError, match="in fp32 and 'board-int8' allows int8"):
        p.costs[1].deploy(subnet, architecture, tmp_path / "other", {})


def test_what_does_not_fit_is_refused():
    found = evaluators()
    with pytest.raises(BadInputError, match="may run in int8, and no evaluator"):
        AccuracyByPrecision(SPACE, {"fp32": found["fp32"]})
    with pytest.raises(UnknownNameError, match="did you mean 'int8'"):
        AccuracyByPrecision(SPACE, {**found, "int16": found["int8"]})
    with pytest.raises(BadInputError, match="must have a choice of precision"):
        CostsByPrecision(TINY, {"fp32": costs("fp32")})
    with pytest.raises(BadInputError, match="got none"):
        CostsByPrecision(SPACE, {})
    found["int8"].metric = "top5"
    with pytest.raises(BadInputError, match="one metric, got accuracy, top5"):
        AccuracyByPrecision(SPACE, found)


class Fails(FormulaAccuracy):
    def evaluate(self, genes):
        return [Measured(value=None, status="failed", reason="no int8") for _ in genes]


def test_a_failed_precision_leaves_the_other_target_its_front():
    found = {"fp32": FormulaAccuracy(TINY), "int8": Fails(TINY)}
    front = search(problem(found), evaluations=24, strategy=NSGA2(SPACE, population_size=8))
    assert len(front.for_target("board-fp32")) > 1
    assert len(front.for_target("board-int8")) == 0
    assert {o.reason for o in front.result.observations if o.value is None} == {"no int8"}


def test_the_hash_of_the_weights_is_that_of_all_evaluators():
    found = evaluators()
    before = AccuracyByPrecision(SPACE, found).weights_hash
    assert AccuracyByPrecision(SPACE, dict(reversed(found.items()))).weights_hash == before
    found["int8"].weights_hash = "others"
    assert AccuracyByPrecision(SPACE, found).weights_hash != before
