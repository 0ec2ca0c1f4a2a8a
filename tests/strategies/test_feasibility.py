import pickle
import time

import numpy as np
import pytest

from records import BadInputError
from strategies import (
    InfeasibleConstraintError,
    Problem,
    check_feasible,
    reachable_ranges,
    sample_feasible,
    search,
)
from tests.strategies.doubles import SPACE, TINY, FormulaAccuracy, LayerCost, all_rows

RNG = np.random.default_rng


def problem(limits=None, space=SPACE, costs=None, together=False, **options):
    costs = costs or [LayerCost(space, **options)]
    return Problem(space, FormulaAccuracy(space), costs, limits or {}, together=together)


@pytest.mark.parametrize("exact", [True, False])
def test_ranges_are_those_of_all_architectures(exact):
    p = problem({"peak_memory_bytes": 1e9}, TINY, exact=exact)
    values = p.costs[0].predict(all_rows(TINY))
    for reach in reachable_ranges(p, RNG(0)):
        assert reach.lowest == values[reach.metric].min()
        assert reach.highest == values[reach.metric].max()
        assert reach.exact == exact
        genes = np.array([reach.lowest_genes])
        assert p.costs[0].predict(genes)[reach.metric][0] == reach.lowest
        assert ("found" in str(reach)) != exact


@pytest.mark.parametrize("space", [SPACE, TINY])
def test_an_impossible_limit_ends_at_once_and_names_the_nearest_value(space):
    began = time.process_time()
    with pytest.raises(InfeasibleConstraintError) as caught:
        check_feasible(problem({"latency_ms": 0.01}, space, exact=space is TINY))
    assert time.process_time() - began < 60
    nearest = caught.value.nearest["latency_ms", "board"]
    message = str(caught.value)
    assert f"{space.name!r} meets latency_ms <= 0.01 on 'board'" in message
    assert f"{nearest:g}" in message
    assert ("lowest reachable" in message) == (space is TINY)
    assert isinstance(caught.value, ValueError)
    assert pickle.loads(pickle.dumps(caught.value)).nearest == caught.value.nearest
    # The value named is one that works, and little less is not.
    check_feasible(problem({"latency_ms": nearest}, space))
    with pytest.raises(InfeasibleConstraintError):
        check_feasible(problem({"latency_ms": 0.98 * nearest}, space))


def test_limits_that_exclude_each_other_name_the_nearest_combination():
    deep = LayerCost(SPACE, "shallow", per_layer=1.0)

    class Contrary(LayerCost):
        def predict(self, genes):
            cost = super().predict(genes)
            return cost | {"latency_ms": 60.0 - self.space.layer_table(genes).total("active")}

    p = problem(
        {("latency_ms", "shallow"): 15, ("latency_ms", "deep"): 20},
        costs=[deep, Contrary(SPACE, "deep")],
        together=True,
    )
    # Apart, each target has networks of its own.
    apart = problem(p.limits, costs=list(p.costs))
    found = apart.allows(check_feasible(apart).feasible_genes)
    assert found.any(axis=1).all()
    assert found.sum(axis=0).min() >= 10
    began = time.process_time()
    with pytest.raises(InfeasibleConstraintError) as caught:
        check_feasible(p)
    assert time.process_time() - began < 60
    message = str(caught.value)
    assert "all limits at once" in message
    for (metric, target), value in caught.value.nearest.items():
        assert f"{metric} {value:g} on {target!r}" in message
        assert f"on {target!r}" in message
    # The nearest combination, given as limits, can be kept.
    check_feasible(problem(caught.value.nearest, costs=list(p.costs), together=True))


def test_feasible_genes_keep_all_limits_however_tight():
    reach = check_feasible(problem()).range("latency_ms", "board")
    limits = {"latency_ms": 1.15 * reach.lowest, "energy_mj": 0.3}
    p = problem(limits)
    found = check_feasible(p).feasible_genes
    assert len(found) >= 1
    np.testing.assert_array_equal(p.violations(found), 0)


def test_same_seed_same_feasibility():
    first, second = (check_feasible(problem({"latency_ms": 0.3}), seed=4) for _ in range(2))
    assert first.ranges == second.ranges
    np.testing.assert_array_equal(first.feasible_genes, second.feasible_genes)


def test_sample_of_a_tight_problem_is_distinct_and_feasible():
    p = problem({"latency_ms": 0.3})
    starts = check_feasible(p).feasible_genes[:1]
    found = sample_feasible(p, 30, RNG(0), starts)
    assert len(np.unique(found, axis=0)) == len(found) == 30
    np.testing.assert_array_equal(p.violations(found), 0)


def test_a_target_with_a_tight_limit_gets_its_share_of_a_sample():
    costs = [LayerCost(SPACE, "board"), LayerCost(SPACE, "phone")]
    p = problem({("latency_ms", "board"): 0.3}, costs=costs)
    assert p.allows(SPACE.sample(1000, RNG(1)))[:, 0].mean() < 0.15
    found = sample_feasible(p, 30, RNG(0), check_feasible(p).feasible_genes[:1])
    assert len(np.unique(found, axis=0)) == 30
    for some in (found, found[:10]):
        assert p.allows(some)[:, 0].sum() >= len(some) / 2


def test_one_target_that_no_network_can_serve_is_named():
    costs = [LayerCost(SPACE, "board"), LayerCost(SPACE, "phone")]
    with pytest.raises(InfeasibleConstraintError, match=r"latency_ms <= 0\.01 on 'phone'"):
        check_feasible(problem({("latency_ms", "phone"): 0.01}, costs=costs))


def test_sample_of_a_loose_problem_is_random():
    p = problem()
    found = sample_feasible(p, 400, RNG(0), SPACE.extremes("smallest"))
    expected = SPACE.sample(4000, RNG(1))
    np.testing.assert_allclose(found.mean(axis=0), expected.mean(axis=0), atol=0.25)


def test_sample_ends_where_nothing_is_feasible():
    p = problem({"latency_ms": 0.001})
    assert len(sample_feasible(p, 5, RNG(0), SPACE.extremes("smallest"))) == 0
    assert len(sample_feasible(p, 5, RNG(0), SPACE.extremes("smallest")[:0])) == 0


def test_a_search_takes_what_is_known_and_refuses_what_is_of_another_problem(monkeypatch):
    p = problem({"latency_ms": 0.3})
    known = check_feasible(p, seed=3)
    first = search(p, evaluations=8, seed=3)
    monkeypatch.setattr("strategies.feasibility.check_feasible", None)  # not looked for again
    second = search(p, evaluations=8, seed=3, feasibility=known)
    assert [o.genes for o in second.result.observations] == [
        o.genes for o in first.result.observations
    ]
    assert second.result.feasibility is known
    tight = problem({"latency_ms": float(p.bounds(known.feasible_genes).min() * 1.01)})
    others = [tight, problem(costs=[LayerCost(SPACE, "another")]), problem(space=TINY)]
    for other in others:
        with pytest.raises(BadInputError, match="of another problem"):
            search(other, evaluations=8, feasibility=known)
