from dataclasses import replace

import pytest
import torch

from supernet import SupernetEvaluator
from supernet.training import Sandwich
from supernet.training.precision import GROW_EVERY, LossScale
from tests.supernet.doubles import (
    RECIPE,
    TINY,
    draw_of,
    easy_data,
    images_of,
    perturbed,
    stepper_of,
    trained,
)

HALF = ["bf16", "fp16"]


def outcomes_of(precision):
    """What each network of a sandwich gives by itself."""
    network = perturbed(TINY)
    recipe = replace(RECIPE, precision=precision, batch_size=128)
    stepper = stepper_of(network, recipe)
    for _ in range(8):
        stepper.scale.update(False)  # down to where gradients of this size do not overflow
    for member in Sandwich(largest_alone_share=0).members(draw_of(TINY)):
        alone = [replace(member, teachers=())]
        yield stepper(alone, images_of(TINY, 128), torch.arange(128) % 4, 0, 0.5)


@pytest.mark.parametrize("precision", HALF)
def test_gradients_are_nearly_those_of_full_precision(precision):
    for full, half in zip(outcomes_of("fp32"), outcomes_of(precision), strict=True):
        assert half.kept == (True,)
        assert half.losses == pytest.approx(full.losses, rel=0.02)
        assert half.losses != full.losses
        flat = []
        for outcome in (full, half):
            assert all(g.dtype == torch.float32 for g in outcome.gradients if g is not None)
            flat.append(torch.cat([g.flatten() for g in outcome.gradients if g is not None]))
        cosine = float(flat[0] @ flat[1] / flat[0].norm() / flat[1].norm())
        assert cosine > (0.99 if precision == "bf16" else 0.999)
        assert float(flat[1].norm() / flat[0].norm()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("precision", ["fp16", pytest.param("bf16", marks=pytest.mark.slow)])
def test_half_precision_learns(precision):
    data = easy_data()
    supernet = trained(recipe=replace(RECIPE, precision=precision), epochs=7, data=data)
    assert all(p.dtype == torch.float32 for p in supernet.parameters())
    rows = TINY.extremes("largest")
    assert min(m.value for m in SupernetEvaluator(supernet, data).evaluate(rows)) > 0.9


def test_the_scale_halves_when_gradients_overflow_and_doubles_after_many_good_steps():
    scale = LossScale("fp16")
    assert scale.value == 65536
    scale.update(False)
    scale.update(False)
    assert scale.value == 16384
    for _ in range(GROW_EVERY - 1):
        scale.update(True)
    assert scale.value == 16384
    scale.update(True)
    assert scale.value == 32768
    for _ in range(GROW_EVERY - 1):
        scale.update(True)
    scale.update(False)  # the count begins anew
    scale.update(True)
    assert scale.value == 16384
    for _ in range(50):
        scale.update(False)
    assert scale.value == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_precisions_need_no_scale(precision):
    scale = LossScale(precision)
    for is_finite in (False, True):
        scale.update(is_finite)
    assert scale.value == 1


def test_the_scale_continues_from_its_state():
    scale, again = LossScale("fp16"), LossScale("fp16")
    scale.update(False)
    for _ in range(GROW_EVERY - 1):
        scale.update(True)
    again.restore(scale.state())
    again.update(True)
    assert again.value == 65536


def test_an_overflow_halves_the_scale_and_training_goes_on():
    """A scale that no gradient survives in fp16 comes down step by step."""
    steps = []

    class Huge(LossScale):
        def __init__(self, precision):
            super().__init__(precision)
            self.value = 2.0**24

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("supernet.training.run.LossScale", Huge)
        trained(recipe=replace(RECIPE, precision="fp16"), epochs=3, on_step=steps.append)
    assert [s.dropped for s in steps[:5]] == [1, 2, 3, 4, 5]
    assert steps[-10].dropped == steps[-1].dropped
