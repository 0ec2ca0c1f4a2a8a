"""The 45 nm reference energies."""

import pytest

from hardware_profiles import (
    PJ_PER_BYTE_DRAM_45NM,
    PJ_PER_OP_45NM,
    device,
    device_names,
    with_reference_energy,
)
from hardware_profiles.energy import PJ_PER_BYTE_CACHE_45NM, cache_pj_per_byte


def test_energy_of_an_operation_is_half_a_multiply_accumulate() -> None:
    assert PJ_PER_OP_45NM["fp32"].value == pytest.approx((3.7 + 0.9) / 2)
    assert PJ_PER_OP_45NM["int8"].value == pytest.approx((0.2 + 0.1) / 2)


def test_energy_of_a_byte_grows_with_the_memory() -> None:
    sizes = [1 << bits for bits in range(10, 28)]
    energies = [cache_pj_per_byte(size).value for size in sizes]
    assert energies == sorted(energies)
    assert energies[0] == 10 / 8
    assert energies[-1] == 100 / 8 < PJ_PER_BYTE_DRAM_45NM.value
    for size, quantity in PJ_PER_BYTE_CACHE_45NM.items():
        assert cache_pj_per_byte(size) == quantity


def test_interpolated_energy_is_read_only_if_both_ends_are() -> None:
    assert cache_pj_per_byte(8 << 10).source_read
    assert not cache_pj_per_byte(16 << 10).source_read


@pytest.mark.parametrize("name", device_names())
def test_reference_fills_what_is_missing_and_says_so(name: str) -> None:
    plain = device(name)
    filled = with_reference_energy(plain)
    without = {"bf16", "int16"} - set(plain.pj_per_op)
    assert set(filled.pj_per_op) == set(plain.peak_gflops) - without
    assert plain.memory[-1].name in filled.pj_per_byte
    for own, all_ in (
        (plain.pj_per_op, filled.pj_per_op),
        (plain.pj_per_byte, filled.pj_per_byte),
    ):
        for entry, quantity in all_.items():
            if entry in own:
                assert quantity == own[entry]
            else:
                assert quantity.source.startswith("45 nm reference, not this device's process")
    assert with_reference_energy(filled) == filled


def test_microcontroller_without_dram_gets_no_dram_energy() -> None:
    filled = with_reference_energy(device("stm32h743"))
    assert filled.pj_per_byte["axi-sram"].value < 20
