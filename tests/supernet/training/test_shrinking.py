from dataclasses import dataclass, replace

import numpy as np
import pytest

from records import BadInputError
from search_spaces import SearchSpace
from search_spaces.blocks import classifier, conv_norm_act
from search_spaces.standard import NASBench201
from supernet.training import Phase, ProgressiveShrinking
from supernet.training.shrinking import PHASES
from tests.supernet.doubles import SPACES, TINY, draw_of

SPACE = SPACES[2]
SAMPLER = ProgressiveShrinking(subnets=200)
STEPS = {0: 0, 29: 0, 30: 1, 49: 1, 50: 2, 74: 2, 75: 3, 99: 3}
"""Steps of 100 and their phases, of shares 0.3, 0.2, 0.25 and 0.25."""

OPENS = [(), (".kernel",), (".kernel", ".depth"), ("",)]
"""The endings of the choices of numbers that are open in each phase."""


def values(rows, space=SPACE):
    """For every choice by name the values that occur among the networks that have it."""
    active = space.active(rows)
    return {
        choice.name: {choice.values[g] for g in rows[active[:, j], j]}
        for j, choice in enumerate(space.choices)
    }


def drawn(step, sampler=SAMPLER, space=SPACE, total=100):
    return sampler.members(draw_of(space, step, total, graph=len))  # no graph is looked at


def test_the_largest_is_alone_while_nothing_is_open():
    for step in (0, 1, 29):
        (member,) = drawn(step)
        assert member.role == "largest"
        np.testing.assert_array_equal(member.genes, SPACE.extremes("largest")[step % 2])


@pytest.mark.parametrize("step", [s for s, phase in STEPS.items() if phase > 0])
def test_closed_choices_stay_at_their_largest_and_open_ones_vary(step):
    phase = STEPS[step]
    assert SAMPLER.phase(draw_of(SPACE, step)) == phase
    members = drawn(step)
    assert [m.role for m in members] == ["largest"] + ["random"] * 200
    assert all(m.teachers == (0,) for m in members[1:])
    seen = values(np.stack([m.genes for m in members[1:]]))
    for choice in SPACE.choices:
        is_open = choice.is_categorical or choice.name.endswith(OPENS[phase])
        assert seen[choice.name] == set(choice.values if is_open else choice.values[-1:])


def test_without_in_place_distillation_only_the_sampled_networks_train():
    sampler = replace(SAMPLER, in_place=False, subnets=3)
    members = drawn(60, sampler)
    assert [(m.role, m.teachers) for m in members] == [("random", ())] * 3
    assert [m.role for m in drawn(10, sampler)] == ["largest"]


def test_draws_depend_on_seed_and_step_alone():
    def genes(step):
        return np.stack([m.genes for m in drawn(step)])

    np.testing.assert_array_equal(genes(80), genes(80))
    assert (genes(80) != genes(81)).any()


@dataclass(frozen=True, kw_only=True)
class WidthsOnly(SearchSpace):
    """A space that the second and third phase open nothing of."""

    def build(self, net, images):
        x = conv_norm_act(net, images, net.choice("width", (8, 16)), kernel=3, activation="relu")
        return classifier(net, x, self.num_classes)


def test_a_phase_that_opens_nothing_of_the_space_is_as_the_one_before():
    space = WidthsOnly(image_size=8)
    counts = [len(drawn(step, space=space)) for step in (10, 40, 60, 80)]
    assert counts == [1, 1, 1, 201]


def test_choices_by_name_alone_are_opened_by_the_last_phase():
    space = NASBench201(image_size=8, num_classes=4)
    assert all(choice.is_categorical for choice in space.choices)
    assert len(drawn(60, space=space)) == 1
    seen = values(np.stack([m.genes for m in drawn(80, space=space)[1:]]), space)
    assert all(len(found) > 1 for found in seen.values())


# ---- channels ----------------------------------------------------------------------------------


def sorted_at(sampler, total=100):
    return [s for s in range(total) if sampler.sorts_channels(draw_of(SPACE, s, total))]


def test_channels_are_sorted_when_the_phase_begins():
    assert sorted_at(SAMPLER) == [75]
    assert sorted_at(SAMPLER, 10) == [8]  # 0.75 of ten steps are over after the eighth
    phases = (Phase(share=0.5, sort_channels=True), Phase(share=0.5, sort_channels=True))
    assert sorted_at(ProgressiveShrinking(phases=phases)) == [0, 50]


def test_channels_are_sorted_for_a_phase_without_steps_of_its_own():
    phases = (Phase(share=0.5), Phase(share=0.0, sort_channels=True), Phase(share=0.5))
    assert sorted_at(ProgressiveShrinking(phases=phases)) == [50]
    short = (Phase(share=0.5), Phase(share=0.05, sort_channels=True), Phase(share=0.45))
    assert sorted_at(ProgressiveShrinking(phases=short), total=4) == [2]


def test_what_was_open_before_is_what_is_trained():
    phases = (
        Phase(share=0.4),
        Phase(share=0.2, opens=("*.expansion",)),
        Phase(share=0.4, opens=("*",), sort_channels=True),
    )
    sampler = ProgressiveShrinking(phases=phases)
    part = sampler.trained_part(draw_of(SPACE, 60))
    offered = {c.name: c.values for c in SPACE.choices}
    assert {c.name: c.values for c in part.choices} == {
        name: found for name, found in offered.items() if name.endswith((".expansion", ".block"))
    }
    earlier = part.to_base(part.sample(5, np.random.default_rng(0)))
    for name, found in values(earlier).items():
        if not name.endswith((".expansion", ".block")):
            assert found <= {offered[name][-1]}
    only_widths = WidthsOnly(image_size=8)
    assert sampler.trained_part(draw_of(only_widths, 60)) is None
    whole = sampler.trained_part(draw_of(SPACE, 80))
    assert {c.name: c.values for c in whole.choices} == offered


class Rigid(SearchSpace):
    """A space whose declaration does not take plain values for choices."""

    def build(self, net, images):
        width = net.choice("width", (8, 16))
        kernel = net.choice("kernel", (3, 5))
        x = conv_norm_act(net, images, width, kernel=kernel, activation="relu")
        with net.when(width.equals(8)):
            x = net.activation(x, "relu", name="second")
        return classifier(net, x, self.num_classes)


def test_a_space_that_cannot_be_restricted_keeps_all_its_widths():
    space = Rigid(image_size=8)
    with pytest.raises(BadInputError):
        space.freeze({"width": 16})
    assert SAMPLER.trained_part(draw_of(space, 75)) is space


# ---- refused -----------------------------------------------------------------------------------


def test_shares_that_do_not_add_up_are_refused():
    with pytest.raises(BadInputError, match=r"must add up to 1, got 0\.7"):
        ProgressiveShrinking(phases=PHASES[1:])
    with pytest.raises(BadInputError, match="share of a phase must be within 0 and 1"):
        ProgressiveShrinking(phases=(Phase(share=1.2), Phase(share=-0.2)))
    with pytest.raises(BadInputError, match="subnets must be >= 1"):
        ProgressiveShrinking(subnets=0)


def test_shares_that_add_up_but_for_rounding_are_taken():
    phases = tuple(Phase(share=share) for share in (0.1, 0.2, 0.7))
    sampler = ProgressiveShrinking(phases=phases)
    found = [sampler.phase(draw_of(TINY, step, 10)) for step in range(10)]
    assert found[0] == 0
    assert found[-1] == 2
    assert found == sorted(found)
