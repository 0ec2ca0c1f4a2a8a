from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from records import BadInputError
from search_spaces import ViTSpace
from supernet.training import ComplexityAware
from supernet.training.attentive import cost_pool
from tests.supernet.doubles import SPACES, TINY, draw_of

SPACE = SPACES[2]
SAMPLER = ComplexityAware(levels=6, minima=3, random_subnets=3, bank_size=4)
CACHE = {}  # what depends on space and seed, for speed


def draw(step=0, total=400, **options):
    options = {"cache": CACHE, **options}
    return draw_of(SPACE, step, total, **options)


def macs(rows, space=SPACE):
    return space.layer_table(np.atleast_2d(rows)).macs


def edges(levels=6):
    parts = np.array_split(macs(cost_pool(draw())), levels)
    return [(part[0], part[-1]) for part in parts]


def test_the_level_moves_by_one_at_most_and_is_held_at_the_ends():
    walk = np.array([SAMPLER.level(draw(step)) for step in range(400)])
    moves = np.diff(walk)
    assert set(moves) == {-1, 0, 1}
    assert (walk.min(), walk.max()) == (0, 5)
    assert walk[0] == 3
    inside = moves[(walk[:-1] > 0) & (walk[:-1] < 5)]
    assert chisquare([(inside == m).sum() for m in (-1, 0, 1)]).pvalue > 1e-3
    for end, stay in ((0, 0), (5, 0)):  # twice as likely to stay
        at_end = moves[walk[:-1] == end] == stay
        assert 0.4 < at_end.mean() < 0.95


def test_the_walk_depends_on_the_seed_alone():
    walk = [SAMPLER.level(draw(step)) for step in range(400)]
    for step in (250, 3, 17):
        assert SAMPLER.level(draw(step, cache={})) == walk[step]
    cache = {}
    assert [SAMPLER.level(draw(step, seed=1, cache=cache)) for step in range(400)] != walk


def test_networks_of_a_step_are_of_one_cost_level():
    limits = edges()
    for step in range(0, 400, 7):
        members = SAMPLER.members(draw(step))
        assert [m.role for m in members] == ["random"] * 3 + ["smallest"]
        assert [m.teachers for m in members] == [(), (), (), (0, 1, 2)]
        low, high = limits[SAMPLER.level(draw(step))]
        cost = macs(np.stack([m.genes for m in members]))
        assert (low <= cost[:3]).all()
        assert (cost[:3] <= high).all()
        assert cost[3] <= low


def test_the_minimum_is_the_greatest_one_below_the_level():
    limits = edges()
    minima = [macs(SAMPLER.minimum(draw(), level))[0] for level in range(6)]
    assert minima[0] == minima[1] == macs(SPACE.extremes("smallest")).min()
    assert minima[2] == minima[3] == limits[2][0]
    assert minima[4] == minima[5] == limits[4][0]
    single = replace(SAMPLER, minima=1)
    assert {tuple(single.minimum(draw(cache={}), k)) for k in (0, 5)} == {
        tuple(SAMPLER.minimum(draw(), 0))
    }


def test_the_least_minimum_is_cheap_where_small_values_are_not():
    """Small patches are many: the smallest value of that choice makes the dearest network."""
    space = ViTSpace(image_size=12, channels=2, num_classes=4, patch_sizes=(2, 4, 6))
    smallest = space.extremes("smallest")
    seen = draw_of(space)
    pool = macs(cost_pool(seen), space)
    assert macs(smallest, space).min() > pool.min()
    assert macs(SAMPLER.minimum(seen, 0), space)[0] == pool.min()


def observed(steps, loss):
    """The memory after steps whose losses are a function of the genes."""
    memory = {}
    for step in steps:
        now = draw(step, memory=memory)
        members = SAMPLER.members(now)
        SAMPLER.observe(now, members, [loss(m.genes) for m in members])
    return memory


def of_genes(row):
    return float(np.random.default_rng(row).random())


def test_the_bank_keeps_the_best_random_networks_of_each_level():
    steps = range(60)
    memory = observed(steps, of_genes)
    seen = {}
    replayed = {}
    for step in steps:
        now = draw(step, memory=replayed)
        members = SAMPLER.members(now)
        for m in members[:3]:
            seen.setdefault(str(SAMPLER.level(now)), {})[tuple(map(int, m.genes))] = of_genes(
                m.genes
            )
        SAMPLER.observe(now, members, [of_genes(m.genes) for m in members])
    assert set(memory["bank"]) == set(seen)
    for level, known in seen.items():
        best = sorted((loss, genes) for genes, loss in known.items())[:4]
        assert [(loss, tuple(genes)) for genes, loss in memory["bank"][level]] == best


def test_the_bank_takes_the_newest_loss_and_no_bad_one():
    now = draw(0, memory={})
    members = SAMPLER.members(now)
    SAMPLER.observe(now, members, [3.0, np.nan, 1.0, 0.1])
    SAMPLER.observe(now, members, [2.0, np.inf, np.nan, 0.1])
    (bank,) = now.memory["bank"].values()
    assert [loss for _, loss in bank] == [1.0, 2.0]
    assert [genes for genes, _ in bank] == [list(map(int, members[k].genes)) for k in (2, 0)]
    without = replace(SAMPLER, bank_size=0)
    empty = draw(0, memory={})
    without.observe(empty, members, [1.0, 1.0, 1.0, 1.0])
    assert not any(empty.memory["bank"].values())


def test_networks_are_drawn_from_the_bank_by_their_losses_and_ever_more_often():
    sampler = replace(SAMPLER, bank_share=0.8, random_subnets=40)
    rows = [[int(g) for g in row] for row in SPACE.sample(3, np.random.default_rng(0))]
    losses = [0.5, 1.0, 3.0]
    bank = [list(entry) for entry in zip(rows, losses, strict=True)]
    memory = {"bank": {str(level): bank for level in range(6)}}

    def counts(steps):
        found = np.zeros(3)
        for step in steps:
            for m in sampler.members(draw(step, memory=memory, graph=len))[:-1]:
                for k, row in enumerate(rows):
                    found[k] += list(m.genes) == row
        return found

    late, early = counts(range(360, 400)), counts(range(40))
    weights = np.exp(-np.array(losses))
    assert chisquare(late, weights / weights.sum() * late.sum()).pvalue > 1e-3
    assert late.sum() / 1600 == pytest.approx(0.8 * 0.95, abs=0.04)
    assert early.sum() / 1600 == pytest.approx(0.8 * 0.05, abs=0.03)


def test_draws_depend_on_seed_step_and_memory_alone():
    memory = observed(range(30), of_genes)

    def drawn(step):
        return np.stack([m.genes for m in SAMPLER.members(draw(step, memory=memory))])

    for step in (30, 200, 399):
        np.testing.assert_array_equal(drawn(step), drawn(step))
    assert (drawn(30) != drawn(31)).any()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"levels": 1}, "levels must be >= 2"),
        ({"levels": 10_000}, "levels must be <= 8192"),
        ({"minima": 0}, "minima must be >= 1"),
        ({"random_subnets": 0}, "random_subnets must be >= 1"),
        ({"bank_size": -1}, "bank_size must be >= 0"),
        ({"bank_share": 1.1}, "bank_share must be within 0 and 1"),
    ],
)
def test_what_cannot_be_sampled_is_refused(options, why):
    with pytest.raises(BadInputError, match=why):
        ComplexityAware(**options)


def test_a_space_of_few_networks_has_levels_too():
    seen = draw_of(TINY)
    for level in range(8):
        assert (
            macs(ComplexityAware().minimum(seen, level), TINY)[0]
            <= macs(np.array_split(cost_pool(seen), 8)[level], TINY).min()
        )
