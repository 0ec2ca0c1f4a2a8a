import math

import numpy as np
import pytest

from records import BadInputError, UnknownNameError
from search_spaces import (
    CNNSpace,
    HybridSpace,
    InfeasibleLimitError,
    layer_values,
    prune,
    prune_by_search,
    prune_layers,
)
from tests.search_spaces.conditional import DeadSpace, DeepSpace, made_up
from tests.search_spaces.doubles import TINY

SPACES = [*TINY[:3], DeepSpace(image_size=8)]


def by_brute_force(space, costs):
    """For every value of every choice the least cost of the architectures that have it."""
    rows = space.enumerate()
    active = space.active(rows)
    return {
        (c.name, value): costs[active[:, j] & (rows[:, j] == i)].min(initial=math.inf)
        for j, c in enumerate(space.choices)
        for i, value in enumerate(c.values)
    }


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
@pytest.mark.parametrize("quantile", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("seed", [0, 1])
def test_pruning_equals_brute_force(space, quantile, seed):
    values, costs = made_up(space, seed)
    limit = float(np.quantile(costs, quantile))
    leasts = by_brute_force(space, costs)
    pruned = prune(space, space.layers, values, limit)
    found = {(r.choice, r.value): r.least for r in pruned.removed}
    for choice in space.choices:
        mine = {v: leasts[choice.name, v] for v in choice.values}
        gone = {v for v in mine if mine[v] > limit}
        if len(gone) == len(mine):  # one value is kept: that of the least cost
            gone.remove(min(mine, key=mine.get))
        assert {v for name, v in found if name == choice.name} == gone
        for value in gone:
            assert found[choice.name, value] == pytest.approx(mine[value], abs=1e-9)
    assert pruned.exact
    assert pruned.limit == limit
    assert pruned.least == pytest.approx(costs.min())
    assert pruned.space.contains(space.enumerate()[costs <= limit]).all()
    again = prune(
        pruned.space, pruned.space.layers, *restricted_values(pruned.space, values), limit
    )
    assert again.removed == ()


def restricted_values(part, values):
    """The values of a cost of the base, for the layer table of its restriction."""
    table, base = part.layers, part.base
    out = np.zeros(table.variants)
    rows = part.enumerate()
    names = {node.name: i for i, node in enumerate(base.nodes)}
    mine = [names[node.name] for node in part.nodes]
    out[table.codes(rows)] = values[base.layers.codes(part.to_base(rows))][mine]
    return (out,)


def test_a_limit_at_a_value_keeps_it():
    space = CNNSpace(image_size=16)
    tight = prune_layers(space, "macs", 3e5)
    removed = tight.removed[0]
    kept = prune_layers(space, "macs", removed.least)
    assert (removed.choice, removed.value) not in {(r.choice, r.value) for r in kept.removed}
    above = prune_layers(space, "macs", removed.least - 1)
    assert removed in above.removed


def test_names_are_the_layers_metrics():
    space = HybridSpace(image_size=16)
    for name in ("macs", "parameters", "elements"):
        table, values = layer_values(space, name)
        rows = space.sample(2000, np.random.default_rng(0))
        limit = float(np.quantile(space.layer_table(rows).total(name), 0.05))
        pruned = prune_layers(space, name, limit)
        assert pruned == prune(space, table, values, limit)
        assert pruned.removed
    with pytest.raises(UnknownNameError, match=r"unknown metric of the layers 'mac'.*'macs'"):
        prune_layers(space, "mac", 1e6)


def test_the_record_prints_what_was_removed_and_why():
    space = HybridSpace(image_size=32)
    text = str(prune_layers(space, "macs", 6e5))
    assert text.splitlines()[0].startswith("HybridSpace under 600000 (least 2")
    assert f"of {space.cardinality:.4g} architectures left" in text
    assert any(
        line.split()[:4] == ["stage0.layer1.heads", "2", "least", "858432"]
        for line in text.splitlines()
    )


def test_limits_that_nothing_keeps_name_the_least_reachable():
    space = HybridSpace(image_size=16)
    rows = np.concatenate(
        [space.extremes("smallest"), space.sample(500, np.random.default_rng(0))]
    )
    least = space.layer_table(rows).macs.min()
    with pytest.raises(
        InfeasibleLimitError, match=f"least reachable is {least:g}; raise"
    ) as error:
        prune_layers(space, "macs", least - 1)
    assert error.value.nearest == least
    rng = np.random.default_rng(0)
    with pytest.raises(InfeasibleLimitError, match=f"lowest found is {least:g}; raise"):
        prune_by_search(space, macs_of(space), least - 1, rng)
    for bad in (prune_layers, lambda s, m, limit: prune_by_search(s, macs_of(s), limit, rng)):
        with pytest.raises(BadInputError, match="limit must be a number, got nan"):
            bad(space, "macs", math.nan)
    with pytest.raises(BadInputError, match="needs a finite value for each of its"):
        prune(space, space.layers, np.full(space.layers.variants, np.nan), 1)


def macs_of(space):
    return lambda genes: space.layer_table(genes).macs.astype(np.float64)


@pytest.mark.parametrize("space", [CNNSpace(), HybridSpace()], ids=lambda s: s.name)
def test_the_search_comes_near_what_is_exact_and_never_below(space):
    rng = np.random.default_rng(3)
    limit = float(np.quantile(macs_of(space)(space.sample(4000, rng)), 0.05))
    exact = prune_layers(space, "macs", limit)
    found = prune_by_search(space, macs_of(space), limit, rng)
    proven = {(r.choice, r.value): r.least for r in exact.removed}
    searched = {(r.choice, r.value): r.least for r in found.removed}
    assert proven
    assert proven.keys() <= searched.keys()  # what cannot be found cannot be kept
    assert len(searched) <= len(proven) + 1
    for key, least in proven.items():
        assert least <= searched[key] <= 1.2 * least
    assert not found.exact
    assert "lowest found" in str(found)
    assert exact.least <= found.least


def test_the_search_is_repeatable_and_reads_nan_as_infinite():
    space = TINY[0]

    def metric(genes):
        macs = macs_of(space)(genes)
        return np.where(genes[:, 0] == 1, np.nan, macs)

    first, second = (
        prune_by_search(space, metric, 1e9, np.random.default_rng(1), samples=50, rounds=3)
        for _ in range(2)
    )
    assert first == second
    assert [(r.choice, r.value) for r in first.removed] == [
        (space.choices[0].name, space.choices[0].values[1])
    ]
    with pytest.raises(BadInputError, match=r"must be an array of that length, got shape \(3,\)"):
        prune_by_search(space, lambda g: np.zeros(3), 1e9, np.random.default_rng(0))


@pytest.mark.parametrize("space", TINY, ids=lambda s: s.name)
def test_the_search_looks_at_every_value_though_no_sample_has_it(space):
    """Without random draws, only rows made for each value can show that it may stay."""
    rng = np.random.default_rng(0)
    kept = prune_by_search(space, macs_of(space), 1e12, rng, samples=0, rounds=0)
    assert kept.removed == ()
    assert kept.space.cardinality == space.cardinality


def test_values_that_no_architecture_has_are_removed_but_for_one():
    space = DeadSpace(image_size=8)
    assert space.cardinality == 3
    exact = prune(space, space.layers, np.zeros(space.layers.variants), 0)
    rng = np.random.default_rng(0)
    searched = prune_by_search(space, lambda genes: np.zeros(len(genes)), 0, rng)
    for pruned in (exact, searched):
        assert [(r.choice, r.value, r.least) for r in pruned.removed] == [
            ("dead", 2, math.inf), ("dead", 3, math.inf),
        ]  # fmt: skip
        assert pruned.space.cardinality == 3
