"""Costs of networks in patches: against the plan's own counts, and as a search sees them."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from hardware_profiles import Quantity, Target, device
from latency_models import (
    EndToEndCosts,
    PatchedCosts,
    PatchPlan,
    RooflineCostModel,
    device_limits,
    with_measured_energy,
)
from latency_models.measured import MeasuredCostModel
from records import BadInputError, UnknownNameError
from search_spaces import CNNSpace
from strategies import Problem, check_feasible
from tests.latency_models.test_memory_patches import TinySpace

SPACE = TinySpace(image_size=40)
ROWS = SPACE.enumerate()
SMALL = Target(profile=device("stm32f746"), runtime="tflite-micro", precision="int8")
LAUNCH_US = 3.0


def q(value):
    return Quantity(value=value, source="test")


def bare(launch=None):
    """A device of which nothing is known but its peak, and what a start takes."""
    profile = replace(
        device("stm32f746"), memory=(), kernel_launch_us=None if launch is None else q(launch)
    )
    return Target(profile=profile, runtime="tflite-micro", precision="int8")


@pytest.fixture(scope="module")
def costs():
    return PatchedCosts(RooflineCostModel(SPACE, SMALL), until="last", patches=3)


def test_overlap_is_the_work_that_the_plan_counts_twice():
    target = bare()
    costs = PatchedCosts(RooflineCostModel(SPACE, target), until="last", patches=3)
    extra = PatchPlan(SPACE, "last", 3).costs(ROWS).extra_macs
    expected = 2 * extra / (target.peak_gflops().value * 1e6)
    np.testing.assert_allclose(costs.overlap_ms(ROWS), expected, rtol=1e-5)
    assert (expected > 0).all()


def test_every_patch_starts_the_kernels_inside():
    starting = PatchedCosts(RooflineCostModel(SPACE, bare(LAUNCH_US)), until="last", patches=3)
    without = PatchedCosts(RooflineCostModel(SPACE, bare()), until="last", patches=3)
    more = starting.overlap_ms(ROWS) - without.overlap_ms(ROWS)
    deep = ROWS[:, 2]  # stem, inner, back with the sum, (deep), last
    np.testing.assert_allclose(more, 8 * (4 + deep) * LAUNCH_US * 1e-3, rtol=1e-4)


def test_peak_is_the_plans_without_weights_on_a_microcontroller(costs):
    plan = PatchPlan(SPACE, "last", 3).costs(ROWS)
    np.testing.assert_array_equal(costs.peak_memory_bytes(ROWS), plan.peak_activation_bytes)
    twice = PatchedCosts(
        RooflineCostModel(SPACE, replace(SMALL, batch_size=2)), until="last", patches=3
    )
    np.testing.assert_array_equal(twice.peak_memory_bytes(ROWS), 2 * plan.peak_activation_bytes)
    pi = Target(profile=device("raspberry-pi-4"), precision="fp32")
    with_weights = PatchedCosts(RooflineCostModel(SPACE, pi), until="last", patches=3)
    np.testing.assert_array_equal(
        with_weights.peak_memory_bytes(ROWS),
        4 * plan.peak_activation_bytes + with_weights.flash_bytes(ROWS),
    )


def test_a_limit_on_ram_is_kept_in_patches_that_no_whole_network_keeps(costs, caplog):
    whole = costs.whole
    needed = costs.peak_memory_bytes(ROWS)
    limit = float(needed.min())
    assert (whole.peak_memory_bytes(ROWS) > limit).all()
    limits = {**device_limits(SMALL), "peak_memory_bytes": limit}

    class Evaluator:
        space = SPACE
        name = "none"

        def evaluate(self, genes):
            return np.zeros(len(genes))

    with caplog.at_level(logging.WARNING):
        found = check_feasible(Problem(SPACE, Evaluator(), [costs], limits=limits), 0)
    assert any(r.metric == "peak_memory_bytes" and r.lowest <= limit for r in found.ranges)
    with pytest.raises(Exception, match="peak_memory_bytes"):
        check_feasible(Problem(SPACE, Evaluator(), [whole], limits=limits), 0)


def test_every_way_to_ask_gives_the_same(costs):
    every, predicted = costs.costs(ROWS), costs.predict(ROWS)
    for name, values in predicted.items():
        np.testing.assert_allclose(values, getattr(every, name), rtol=1e-12)
        np.testing.assert_allclose(costs.bound(name, ROWS), values, rtol=1e-12)
    np.testing.assert_allclose(costs.kernel_sum_ms(ROWS), every.latency_ms, rtol=1e-6)
    for row in ROWS:
        total = sum(part.latency_ms for part in costs.parts(row))
        assert total == pytest.approx(costs.latency_ms(row)[0], rel=1e-5)
    assert costs.latency_ms(ROWS[:0]).shape == (0,)
    added = costs.predict(ROWS)["energy_mj"] - costs.whole.predict(ROWS)["energy_mj"]
    assert (added > 0).all()
    assert "up to last in 3 x 3 patches" in costs.record(ROWS[0])["latency_source"]
    assert "up to last in 3 x 3 patches" in costs.record(ROWS[0])["energy_source"]


def test_no_extremes_but_of_the_flash(costs):
    for mine, theirs in zip(
        costs.extremes("flash_bytes"), costs.whole.extremes("flash_bytes"), strict=True
    ):
        assert mine[0] == theirs[0]
    assert [costs.extremes(m) for m in ("latency_ms", "energy_mj", "peak_memory_bytes")] == [
        None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(("until", "patches"), [("last", 1), ("inner", 2), ("last", 32)])
def test_a_network_that_is_not_cut_runs_as_a_whole(until, patches):
    """One patch; a shortcut around the cut; maps smaller than the patches are many."""
    costs = PatchedCosts(RooflineCostModel(SPACE, SMALL), until=until, patches=patches)
    cut = costs.plan.can_be_cut(ROWS) if patches > 1 else np.zeros(len(ROWS), bool)
    if until == "inner":
        assert not cut.any()
    if patches == 32:
        assert 0 < cut.sum() < len(ROWS)
    for metric, values in costs.predict(ROWS[~cut]).items():
        np.testing.assert_array_equal(values, costs.whole.predict(ROWS[~cut])[metric])
    if cut.any():
        assert (costs.overlap_ms(ROWS[cut]) > 0).all()


def test_measured_latencies_and_energies_grow_with_the_overlap():
    space = CNNSpace(image_size=16)
    target = Target(profile=device("raspberry-pi-4"))
    genes = space.sample(60, np.random.default_rng(0))
    fitted = MeasuredCostModel(
        space, target, genes, 3 * RooflineCostModel(space, target).latency_ms(genes) + 0.1
    )
    until = "stage1.layer0.depthwise.conv"
    costs = PatchedCosts(with_measured_energy(fitted, genes, np.full(60, 2.0)), until, 2)
    more = costs.overlap_ms(genes) / fitted.latency_ms(genes)
    assert ((more > 0) & (more < 2)).all()
    factor = fitted.bound("latency_ms", genes) / fitted.latency_ms(genes)
    np.testing.assert_allclose(
        costs.bound("latency_ms", genes), factor * costs.latency_ms(genes), rtol=1e-9
    )
    assert costs.unmeasured == ()
    assert costs.latency_source.startswith("predicted: fitted to 60 networks")
    ended = EndToEndCosts(costs, {16: 1.5})
    np.testing.assert_allclose(ended.latency_ms(genes), costs.latency_ms(genes) + 1.5)


def test_what_cannot_be_is_refused(costs):
    with pytest.raises(UnknownNameError, match="layer"):
        PatchedCosts(costs.whole, "first", 2)
    with pytest.raises(BadInputError, match="PatchedCosts"):
        PatchedCosts(costs, "last", 2)
    with pytest.raises(BadInputError, match="needs the whole map"):
        PatchedCosts(costs.whole, "classifier", 2)
