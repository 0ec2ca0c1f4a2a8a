from dataclasses import replace

import numpy as np
import pytest

from deployment import Lowering
from hardware_profiles import PJ_PER_BYTE_DRAM_45NM, PJ_PER_OP_45NM, MemoryLevel, Target
from latency_models import Ceiling, RooflineCostModel
from tests.latency_models.doubles import HYBRID, PROFILE, OneConvolution, level, quantity, sampled

SPACE = OneConvolution()
ROW = np.array([[0]], np.int16)

# The network: convolution to 16 channels at 8x8, mean, linear map to 10 classes.
OPERATIONS = 2 * np.array([64 * 16 * 27, 0, 160])
MOVED = 4 * np.array([64 * 3 + 64 * 16 + 16 * 27, 64 * 16 + 16, 16 + 10 + 16 * 10 + 10])


def ceiling_of(profile, **use):
    """The ceilings of the three kernels: arrays of length 3, and the rest as it is."""
    lowering = Lowering(SPACE)
    ceiling = Ceiling.of(Target(profile=profile, **use), lowering)
    codes = lowering.tabulation.codes(ROW)[:, 0]
    fields = ("launch_ms", "compute_ms", "memory_ms", "energy_mj")
    return replace(ceiling, **{name: getattr(ceiling, name)[codes] for name in fields})


def with_memory(*levels, **changes):
    energies = {lvl.name: quantity(7.0 * (k + 1)) for k, lvl in enumerate(levels)}
    return replace(PROFILE, memory=levels, pj_per_byte=energies, **changes)


def test_compute_bound_by_hand():
    slow = replace(PROFILE, peak_gflops_per_thread={"fp32": quantity(1.0)})
    ceiling = ceiling_of(slow)
    np.testing.assert_allclose(ceiling.compute_ms, OPERATIONS / 1e6)
    assert ceiling.latency_ms[0] == pytest.approx(0.002 + 55296 / 1e6)


def test_memory_bound_by_hand():
    ceiling = ceiling_of(with_memory(level("dram", None, 0.1, 0.2)))
    np.testing.assert_allclose(ceiling.memory_ms, MOVED / 1e5)
    assert ceiling.latency_ms[0] == pytest.approx(0.002 + 6592 / 1e5)


def test_kernel_takes_the_longer_of_both():
    ceiling = ceiling_of(PROFILE)
    np.testing.assert_allclose(
        ceiling.latency_ms, 0.002 + np.maximum(ceiling.compute_ms, ceiling.memory_ms)
    )
    assert ceiling.compute_ms[0] > ceiling.memory_ms[0]  # the convolution
    assert ceiling.compute_ms[1] == 0 < ceiling.memory_ms[1]  # the mean


def test_nearest_level_that_holds_a_kernel_sets_its_bandwidth():
    # 784 bytes of the linear map, 4160 of the mean, 6592 of the convolution
    caches = level("near", 784, 50.0, 120.0), level("far", 4160, 20.0, 70.0)
    profile = with_memory(*caches, level("dram", None, 5.0, 12.0))
    one = ceiling_of(profile)
    np.testing.assert_allclose(one.memory_ms, MOVED / 1e6 / np.array([5.0, 20.0, 50.0]))
    two = ceiling_of(profile, threads=2)
    np.testing.assert_allclose(two.memory_ms, MOVED / 1e6 / np.array([10.0, 40.0, 100.0]))
    four = ceiling_of(profile, threads=4)
    np.testing.assert_allclose(four.memory_ms, MOVED / 1e6 / np.array([12.0, 70.0, 120.0]))
    smaller = level("near", 783, 50.0, 120.0), level("far", 4159, 20.0, 70.0)
    profile = with_memory(*smaller, level("dram", None, 5.0, 12.0))
    np.testing.assert_allclose(
        ceiling_of(profile).memory_ms, MOVED / 1e6 / np.array([5.0, 5.0, 20.0])
    )


def test_bandwidth_of_all_cores_stands_in_for_one():
    profile = with_memory(level("near", 5000, None, 30.0), level("dram", None, None, 12.0))
    np.testing.assert_allclose(
        ceiling_of(profile).memory_ms, MOVED / 1e6 / np.array([12.0, 30.0, 30.0])
    )


def test_energy_by_hand():
    caches = level("near", 784, 50.0, 120.0), level("far", 4160, 20.0, 70.0)
    profile = with_memory(*caches, level("dram", None, 5.0, 12.0))
    ceiling = ceiling_of(profile)
    picojoules = 2.0 * OPERATIONS + np.array([21.0, 14.0, 7.0]) * MOVED
    np.testing.assert_allclose(ceiling.energy_mj, 1e-9 * picojoules)
    assert ceiling.static_power_w == 0.5
    assert ceiling.energy_source == "modelled: the profile's energies"
    model = RooflineCostModel(SPACE, Target(profile=profile))
    latency = float(np.sum(ceiling.latency_ms))
    expected = 1e-9 * picojoules.sum() + 0.5 * latency
    assert model.costs(ROW).energy_mj[0] == pytest.approx(expected, rel=1e-6)


def test_reference_energies_are_named_as_such():
    plain = replace(PROFILE, pj_per_op={}, pj_per_byte={}, memory=(level("dram", None, 5.0, 9.0),))
    ceiling = ceiling_of(plain)
    picojoules = PJ_PER_OP_45NM["fp32"].value * OPERATIONS + PJ_PER_BYTE_DRAM_45NM.value * MOVED
    np.testing.assert_allclose(ceiling.energy_mj, 1e-9 * picojoules)
    assert ceiling.energy_source == "modelled: 45 nm reference energies"
    assert ceiling.missing == ()


def test_smaller_precision_moves_and_takes_less():
    profile = replace(PROFILE, memory=(level("dram", None, 10.0, 25.0),), pj_per_byte={})
    whole, eighth = ceiling_of(profile), ceiling_of(profile, precision="int8")
    np.testing.assert_allclose(eighth.memory_ms, whole.memory_ms / 4)
    np.testing.assert_allclose(eighth.compute_ms, whole.compute_ms / 4)
    assert (eighth.energy_mj < whole.energy_mj / 3.9).all()


def test_missing_launch_time_is_named_and_nothing():
    ceiling = ceiling_of(replace(PROFILE, kernel_launch_us=None))
    assert ceiling.missing == ("kernel launch time",)
    assert not ceiling.launch_ms.any()


def test_missing_idle_power_is_named_and_nothing():
    ceiling = ceiling_of(replace(PROFILE, idle_power_w=None))
    assert ceiling.missing == ("idle power",)
    assert ceiling.static_power_w == 0
    assert "without static power (unknown)" in ceiling.energy_source


def test_missing_bandwidth_is_named_and_nothing():
    profile = with_memory(level("near", 5000, None, None), level("dram", None, None, None))
    ceiling = ceiling_of(profile)
    assert ceiling.missing == ("bandwidth of near", "bandwidth of dram")
    assert not ceiling.memory_ms.any()
    assert (ceiling.energy_mj > 0).all()


def test_missing_size_of_a_cache_is_named_and_the_next_level_taken():
    profile = with_memory(level("near", None, 50.0, 120.0), level("dram", None, 5.0, 12.0))
    ceiling = ceiling_of(profile)
    assert ceiling.missing == ("size of near",)
    np.testing.assert_allclose(ceiling.memory_ms, MOVED / 5e6)


def test_missing_memory_is_named():
    ceiling = ceiling_of(replace(PROFILE, memory=(), pj_per_byte={}))
    assert ceiling.missing == ("memory",)
    assert not ceiling.memory_ms.any()
    np.testing.assert_allclose(ceiling.energy_mj, 2e-9 * OPERATIONS)


def test_missing_energy_of_an_operation_is_named():
    profile = replace(PROFILE, peak_gflops={"bf16": quantity(9.0)}, peak_gflops_per_thread={})
    ceiling = ceiling_of(profile, precision="bf16")
    assert ceiling.missing == ("energy per bf16 operation",)
    assert "without bf16 operations (unknown)" in ceiling.energy_source


def test_missing_numbers_are_told_with_the_latency():
    bare = (MemoryLevel(name="dram"),)
    profile = replace(PROFILE, kernel_launch_us=None, memory=bare, pj_per_byte={})
    source = RooflineCostModel(SPACE, Target(profile=profile)).latency_source
    assert source.endswith("unknown: kernel launch time, bandwidth of dram")


def test_absent_kernels_take_nothing():
    lowering = Lowering(HYBRID)
    ceiling = Ceiling.of(Target(profile=PROFILE), lowering)
    codes = lowering.tabulation.codes(sampled(HYBRID, 100))
    absent = lowering.tabulation.columns["active"][codes] == 0
    assert absent.any()
    assert not ceiling.latency_ms[codes][absent].any()
    assert not ceiling.energy_mj[codes][absent].any()
    assert (ceiling.latency_ms[codes][~absent] > 0).all()
