from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from records import BadInputError
from search_spaces import CNNSpace
from supernet.training import Sandwich, SinglePath
from tests.supernet.doubles import TINY, draw_of

LARGEST, SMALLEST = TINY.extremes("largest"), TINY.extremes("smallest")
SANDWICH = Sandwich(random_subnets=3, largest_alone_share=0)


def genes(members):
    return np.stack([member.genes for member in members])


def test_the_sandwich_is_the_largest_random_ones_and_the_smallest():
    for step in range(6):
        members = SANDWICH.members(draw_of(TINY, step))
        assert [m.role for m in members] == ["largest", *["random"] * 3, "smallest"]
        assert [m.teachers for m in members] == [(), *[(0,)] * 4]
        for member in members:
            assert member.graph == TINY.graph(member.genes)


def test_the_kinds_of_block_take_turns():
    for step in range(6):
        members = SANDWICH.members(draw_of(TINY, step))
        np.testing.assert_array_equal(members[0].genes, LARGEST[step % 2])
        np.testing.assert_array_equal(members[-1].genes, SMALLEST[step % 2])
    one_kind = CNNSpace(image_size=8)
    assert len(one_kind.extremes("largest")) == len(one_kind.extremes("smallest")) == 1


def test_draws_depend_on_seed_and_step_alone():
    def drawn(step, seed):
        torch.manual_seed(step)  # the global state must not matter
        np.random.seed(step)  # noqa: NPY002
        return genes(SANDWICH.members(draw_of(TINY, step, seed=seed)))

    forward = [drawn(step, 5) for step in range(20)]
    backward = [drawn(step, 5) for step in reversed(range(20))][::-1]
    np.testing.assert_array_equal(forward, backward)
    sampled = [tuple(map(tuple, members[1:-1])) for members in forward]
    assert len(set(sampled)) > 15
    assert any((drawn(s, 6) != forward[s]).any() for s in range(20))


def test_the_largest_is_alone_for_the_first_share_of_the_steps():
    sampler = Sandwich(random_subnets=2, largest_alone_share=0.25)
    counts = [len(sampler.members(draw_of(TINY, step, 8))) for step in range(8)]
    assert counts == [1, 1, 4, 4, 4, 4, 4, 4]
    assert not any(sampler.sorts_channels(draw_of(TINY, step, 8)) for step in range(8))
    assert sampler.trained_part(draw_of(TINY)) is None


def test_a_single_path_learns_the_labels():
    (member,) = SinglePath().members(draw_of(TINY, 3))
    assert (member.role, member.teachers) == ("random", ())
    assert member.graph == TINY.graph(member.genes)


def test_single_paths_are_uniform():
    """The values of each choice come equally often where the choice is active."""
    steps = 1500
    rows = genes([SinglePath().members(draw_of(TINY, s, steps))[0] for s in range(steps)])
    active = TINY.active(rows)
    for j, choice in enumerate(TINY.choices):
        counts = np.bincount(rows[active[:, j], j], minlength=len(choice.values))
        assert chisquare(counts).pvalue > 1e-3, choice.name


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"random_subnets": -1}, "random_subnets must be >= 0, got -1"),
        ({"largest_alone_share": 1.5}, "largest_alone_share must be within 0 and 1"),
        ({"largest_alone_share": float("nan")}, "largest_alone_share must be within 0 and 1"),
    ],
)
def test_sandwiches_that_cannot_be_made_are_refused(options, why):
    with pytest.raises(BadInputError, match=why):
        replace(SANDWICH, **options)
