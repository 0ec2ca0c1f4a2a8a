"""Quantities, memory levels and profiles: what they accept and what they say about themselves."""

import pickle
from typing import Any

import pytest

from hardware_profiles import MemoryLevel, Profile, Quantity
from records import BadInputError, UnknownNameError


def quantity(value: float = 1.0, **changes: Any) -> Quantity:
    return Quantity(**({"value": value, "source": "data sheet", "source_read": True} | changes))


def profile(**changes: Any) -> Profile:
    known: dict[str, Any] = {
        "name": "some-board",
        "kind": "board-cpu",
        "vendor": "someone",
        "year": 2020,
        "description": "A board.",
        "cores": quantity(4),
        "peak_gflops": {"fp32": quantity(40)},
        "memory": (
            MemoryLevel(name="l2", size_bytes=quantity(1 << 20, source_read=False)),
            MemoryLevel(name="dram", bandwidth_gbps=quantity(5)),
        ),
    }
    return Profile(**(known | changes))


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "4"])
def test_quantity_must_be_a_positive_finite_number(value: Any) -> None:
    with pytest.raises(BadInputError, match="positive finite number"):
        quantity(value)


def test_quantity_needs_a_source() -> None:
    with pytest.raises(BadInputError, match="no source"):
        quantity(source=" ")


def test_provenance_has_three_states() -> None:
    assert quantity().provenance == "read"
    assert quantity(source_read=False).provenance == "recalled"
    assert quantity(source_read=False, measured=True).provenance == "measured"
    with pytest.raises(BadInputError, match="both measured and read"):
        quantity(measured=True)


def test_share_read_counts_read_and_measured_numbers() -> None:
    assert profile().share_read == pytest.approx(3 / 4)
    measured = quantity(9, source_read=False, measured=True)
    assert profile(idle_power_w=measured).share_read == pytest.approx(4 / 5)
    assert profile(cores=None, peak_gflops={}, memory=()).share_read == 0


def test_quantities_name_every_number_once() -> None:
    full = profile(
        clock_ghz=quantity(1.5),
        pj_per_op={"fp32": quantity(2)},
        pj_per_byte={"dram": quantity(100)},
        kernel_launch_us=quantity(3),
    )
    numbers = [number for number, _, _ in full.quantities()]
    assert len(set(numbers)) == len(numbers) == 8
    assert "memory.dram.bandwidth_gbps" in numbers
    assert ("peak_gflops.fp32", "GFLOP/s", quantity(40)) in list(full.quantities())


def test_integer_operations_are_not_floating_point() -> None:
    both = profile(peak_gflops={"int8": quantity(8), "int16": quantity(4), "bf16": quantity(2)})
    units = {number: unit for number, unit, _ in both.quantities()}
    assert units["peak_gflops.int8"] == units["peak_gflops.int16"] == "GOP/s"
    assert units["peak_gflops.bf16"] == "GFLOP/s"


def test_an_accelerator_has_an_array_and_a_process() -> None:
    array = profile(
        kind="datacentre-npu",
        array_rows=quantity(128),
        array_columns=quantity(256),
        technology_nm=quantity(16),
        clock_ghz=quantity(0.7),
        max_clock_ghz=quantity(0.7),
    )
    numbers = {number: (unit, q.value) for number, unit, q in array.quantities()}
    assert numbers["array_rows"] == ("", 128)
    assert numbers["array_columns"] == ("", 256)
    assert numbers["technology_nm"] == ("nm", 16)
    assert numbers["max_clock_ghz"] == ("GHz", 0.7)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"name": "Some Board"}, BadInputError, "not a slug"),
        ({"kind": "toaster"}, UnknownNameError, "edge-npu"),
        ({"year": 20}, BadInputError, "year"),
        ({"cores": quantity(1.5)}, BadInputError, "cores must be a whole number"),
        ({"array_rows": quantity(2.5)}, BadInputError, "array_rows must be a whole number"),
        ({"array_columns": quantity(0.5)}, BadInputError, "array_columns must be a whole"),
        (
            {"clock_ghz": quantity(3), "max_clock_ghz": quantity(2.5)},
            BadInputError,
            "clock_ghz must be at most max_clock_ghz, got 3 and 2.5",
        ),
        (
            {"idle_power_w": quantity(9), "peak_power_w": quantity(8)},
            BadInputError,
            "idle_power_w must be at most peak_power_w, got 9 and 8",
        ),
        ({"peak_gflops": {"fp64": quantity()}}, UnknownNameError, "bf16"),
        ({"pj_per_op": {"int4": quantity()}}, UnknownNameError, "int8"),
        ({"pj_per_byte": {"l9": quantity()}}, UnknownNameError, "dram"),
        ({"instruction_sets": ("AVX 2",)}, BadInputError, "instruction set"),
        ({"runtimes": {"Open VINO": ""}}, BadInputError, "runtime"),
        (
            {"memory": (MemoryLevel(name="l1"), MemoryLevel(name="l1"))},
            BadInputError,
            "must differ",
        ),
    ],
)
def test_profile_says_what_is_wrong(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        profile(**changes)


def test_profile_can_be_hashed_and_sent_to_another_process() -> None:
    one = profile()
    assert {one, profile()} == {one}
    assert pickle.loads(pickle.dumps(one)) == one


def test_main_memory_is_the_last_level() -> None:
    level = profile().main_memory
    assert level is not None
    assert level.name == "dram"
    assert profile(memory=()).main_memory is None
