import numpy as np
import pytest

from deployment import KINDS
from latency_models import RooflineCostModel
from latency_models.kind_extremes import KindCosts
from latency_models.lookup import JointLookup
from search_spaces.tabulate import all_genes
from tests.latency_models.doubles import CNN, HYBRID, TARGET, VIT, OneConvolution, SwapSpace

SPACES = [HYBRID, CNN, VIT, SwapSpace(image_size=8), OneConvolution()]


def table_of(space):
    return RooflineCostModel(space, TARGET).lowering.tabulation


def values_and_bits(table, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, table.variants), rng.integers(0, 1 << 13, table.variants, np.uint16)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("most_entries", [1, 40, 1 << 12, 1 << 16])
def test_joint_tables_give_the_sum_over_rows(space, most_entries):
    table = table_of(space)
    values, bits = values_and_bits(table)
    sizes = space.gene_space.sizes
    lookup = JointLookup(table, sizes, values, bits, most_entries=most_entries)
    genes = space.sample(500, np.random.default_rng(1))
    codes = table.codes(genes)
    total, united = lookup(genes)
    np.testing.assert_allclose(total, values[codes].sum(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(united, np.bitwise_or.reduce(bits[codes], axis=0))
    assert lookup.groups <= table.rows


def test_more_room_means_fewer_lookups():
    table = table_of(HYBRID)
    values, bits = values_and_bits(table)
    sizes = HYBRID.gene_space.sizes
    groups = [
        JointLookup(table, sizes, values, bits, most_entries=most).groups
        for most in (1, 64, 1 << 12)
    ]
    assert groups[0] > groups[1] > groups[2]
    assert groups[2] * 4 < table.rows


def test_flags_that_are_always_set_need_no_lookup():
    table = table_of(HYBRID)
    values, _ = values_and_bits(table)
    bits = np.full(table.variants, 5, np.uint16)
    lookup = JointLookup(table, HYBRID.gene_space.sizes, values, bits)
    _, united = lookup(HYBRID.sample(20, np.random.default_rng(0)))
    assert (united == 5).all()


def test_no_architectures_have_no_sums():
    table = table_of(CNN)
    total, united = JointLookup(table, CNN.gene_space.sizes, *values_and_bits(table))(
        CNN.sample(5, np.random.default_rng(0))[:0]
    )
    assert total.shape == united.shape == (0,)


def brute_force(costs, genes):
    codes = costs.table.codes(genes)
    bits = np.bitwise_or.reduce(costs.bits[codes], axis=0)
    occurs = (bits[:, None] >> np.arange(len(costs.first))) & 1
    return costs.values[codes].sum(axis=0) + occurs @ costs.first


@pytest.mark.parametrize("seed", range(6))
def test_extremes_with_costs_of_kinds_are_those_of_all_networks(seed):
    space = SwapSpace(image_size=8)
    rng = np.random.default_rng(seed)
    genes = space.canonical(all_genes(space.gene_space.sizes))
    table = table_of(space)
    costs = KindCosts(
        space=space,
        table=table,
        values=rng.uniform(0, 1, table.variants),
        bits=(1 << rng.integers(0, 6, table.variants)).astype(np.uint16),
        first=rng.uniform(0, 4, 6) * rng.integers(0, 2, 6),
    )
    everything = brute_force(costs, genes)
    for (value, row), expected in (
        (costs.least(), everything.min()),
        (costs.greatest(), everything.max()),
    ):
        assert value == pytest.approx(expected, rel=1e-12)
        assert brute_force(costs, row[None])[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("first", [0.0, 0.5, 100.0])
def test_greatest_network_has_a_dear_kind_only_where_it_is_worth_it(first):
    """A kind whose first kernel costs `first` and the next ones little, against dear kernels."""
    space = SwapSpace(image_size=8)
    genes = space.canonical(all_genes(space.gene_space.sizes))
    table = table_of(space)
    kernels = RooflineCostModel(space, TARGET).lowering.kernels
    nine = np.array(["nine" in kernel.name for kernel in kernels])[table.row_of_variant()]
    costs = KindCosts(
        space=space,
        table=table,
        values=np.where(nine, 0.1, 1.0) * (table.columns["active"] > 0),
        bits=np.where(nine, 2, 1).astype(np.uint16) * (table.columns["active"] > 0),
        first=np.array([0.0, first]),
    )
    value, row = costs.greatest()
    assert value == pytest.approx(brute_force(costs, genes).max(), rel=1e-12)
    codes = table.codes(row[None])[:, 0]
    assert bool((costs.bits[codes] == 2).any()) is (first > 0.1)
    assert costs.least()[0] == pytest.approx(brute_force(costs, genes).min(), rel=1e-12)


def test_bits_hold_all_kinds():
    assert len(KINDS) <= 16
