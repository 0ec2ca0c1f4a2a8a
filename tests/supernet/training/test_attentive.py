from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare

from records import BadInputError, UnknownNameError
from supernet.training import AttentiveSampling, Recipe
from supernet.training.attentive import POOL, cost_pool
from supernet.training.source import SpaceMembers
from tests.supernet.doubles import SPACES, TINY, draw_of, images_of, perturbed

SPACE = SPACES[2]
SAMPLER = AttentiveSampling(candidates=4, bins=8, random_subnets=3, largest_alone_share=0)


def macs(space, rows):
    return space.layer_table(np.atleast_2d(rows)).macs


class Losses:
    """Made-up losses by the genes, and all rows that were asked for."""

    def __init__(self, bad=0):
        self.asked = []
        self.bad = bad

    def __call__(self, rows):
        self.asked.append(rows)
        losses = np.array([float(np.random.default_rng(row).random()) for row in rows])
        losses[: self.bad] = np.nan
        return losses


@pytest.mark.parametrize("prefer", ["best", "worst"])
def test_the_best_or_worst_of_the_candidates_is_trained(prefer):
    sampler = replace(SAMPLER, prefer=prefer)
    for step in range(10):
        losses = Losses()
        members = sampler.members(draw_of(SPACE, step, losses=losses))
        assert [m.role for m in members] == ["largest", "random", "random", "random", "smallest"]
        assert [m.teachers for m in members] == [(), (0,), (0,), (0,), (0,)]
        assert [len(rows) for rows in losses.asked] == [4, 4, 4]
        for rows, member in zip(losses.asked, members[1:-1], strict=True):
            values = Losses()(rows)
            wanted = rows[values.argmin() if prefer == "best" else values.argmax()]
            np.testing.assert_array_equal(member.genes, wanted)


@pytest.mark.parametrize("prefer", ["best", "worst"])
def test_a_candidate_without_a_finite_loss_is_not_taken(prefer):
    sampler = replace(SAMPLER, prefer=prefer)
    losses = Losses(bad=3)
    members = sampler.members(draw_of(SPACE, losses=losses))
    for rows, member in zip(losses.asked, members[1:-1], strict=True):
        np.testing.assert_array_equal(member.genes, rows[3])
    assert len(sampler.members(draw_of(SPACE, losses=Losses(bad=4)))) == 5  # some are taken


@pytest.mark.parametrize("prefer", ["best", "worst"])
def test_losses_are_those_of_the_network_on_the_first_shard(prefer):
    """Through a run's source of members, recomputed for every candidate."""
    sampler = replace(SAMPLER, prefer=prefer, candidates=3)
    network, images, labels = perturbed(SPACE), images_of(SPACE, 10), torch.arange(10) % 4
    recipe = Recipe(batch_size=10, shards=3, members=sampler)
    members = SpaceMembers(network, recipe, seed=0).draw(4, 100, images, labels)
    candidates = Losses()
    sampler.members(draw_of(SPACE, 4, losses=candidates))
    with torch.no_grad():
        for rows, member in zip(candidates.asked, members[1:-1], strict=True):
            losses = [F.cross_entropy(network(images[:4], row), labels[:4]) for row in rows]
            pick = int(np.argmin(losses) if prefer == "best" else np.argmax(losses))
            np.testing.assert_array_equal(member.genes, rows[pick])


def test_candidates_of_a_slot_are_of_one_cost_bin_and_bins_are_uniform():
    steps, bins = 200, np.zeros(8)
    draw = draw_of(SPACE)
    pool = macs(SPACE, cost_pool(draw))
    assert (np.diff(pool) >= 0).all()
    assert len(pool) == POOL
    edges = [(part[0], part[-1]) for part in np.array_split(pool, 8)]
    for step in range(steps):
        losses = Losses()
        SAMPLER.members(draw_of(SPACE, step, steps, losses=losses, cache=draw.cache))
        for rows in losses.asked:
            cost = macs(SPACE, rows)
            fits = [low <= cost.min() and cost.max() <= high for low, high in edges]
            assert any(fits)
            bins += np.array(fits) / sum(fits)
    assert chisquare(bins).pvalue > 1e-3
    assert bins.sum() == pytest.approx(3 * steps)


def test_draws_depend_on_seed_and_step_alone():
    def drawn(step, seed):
        members = SAMPLER.members(draw_of(SPACE, step, seed=seed, losses=Losses()))
        return np.stack([m.genes for m in members])

    np.testing.assert_array_equal(drawn(3, 1), drawn(3, 1))
    assert (drawn(3, 1) != drawn(4, 1)).any()
    assert (drawn(3, 1) != drawn(3, 2)).any()


def test_the_largest_alone_asks_for_no_losses():
    losses = Losses()
    sampler = replace(SAMPLER, largest_alone_share=0.5)
    assert len(sampler.members(draw_of(TINY, 49, losses=losses))) == 1
    assert losses.asked == []
    without = replace(SAMPLER, random_subnets=0)
    assert [m.role for m in without.members(draw_of(TINY))] == ["largest", "smallest"]


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'worst'"):
        AttentiveSampling(prefer="worse")
    for name, value in (("candidates", 0), ("bins", 0), ("random_subnets", -1)):
        with pytest.raises(BadInputError, match=f"{name} must be >="):
            AttentiveSampling(**{name: value})
    with pytest.raises(BadInputError, match="bins must be <= 8192, got 8193"):
        AttentiveSampling(bins=8193)
