"""Targets: how a device may be used, and the peaks that hold for that use."""

from dataclasses import replace
from typing import Any

import pytest

from hardware_profiles import (
    MemoryLevel,
    Profile,
    Quantity,
    Target,
    device,
    local_target,
    machine_fingerprint,
)
from hardware_profiles import target as target_module
from records import BadInputError, UnknownNameError


def number(value: float) -> Quantity:
    return Quantity(value=value, source="data sheet", source_read=True)


def pi(**changes: Any) -> Profile:
    return replace(device("raspberry-pi-4"), **changes)


def test_name_holds_device_threads_and_batch_size() -> None:
    assert Target(profile=pi()).name == "raspberry-pi-4-t1-b1"
    assert Target(profile=pi(), threads=2, batch_size=16).name == "raspberry-pi-4-t2-b16"
    phone = Target(profile=device("xiaomi-mi-9"), precision="int8", threads=4)
    assert phone.name == "xiaomi-mi-9-t4-b1-int8"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"threads": 5}, BadInputError, "more than the 4 cores of 'raspberry-pi-4'"),
        ({"threads": 0}, BadInputError, "threads must be a positive whole number, got 0"),
        ({"batch_size": 1.5}, BadInputError, "batch_size must be a positive whole number"),
        ({"batch_size": True}, BadInputError, "batch_size must be"),
        ({"precision": "fp8"}, UnknownNameError, "unknown precision 'fp8'"),
        ({"precision": "bf16"}, BadInputError, "no peak for bf16; it has one for: fp32"),
        ({"runtime": "tensorrt"}, UnknownNameError, "onnxruntime"),
    ],
)
def test_impossible_use_is_refused(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Target(**({"profile": pi()} | changes))


def test_npu_needs_its_own_runtime_and_precision() -> None:
    coral = device("coral-usb-accelerator")
    with pytest.raises(UnknownNameError, match="tflite"):
        Target(profile=coral)
    assert Target(profile=coral, runtime="tflite", precision="int8").peak_gflops().value == 4000


def test_peak_is_one_core_times_threads_at_most_the_device() -> None:
    assert [Target(profile=pi(), threads=t).peak_gflops().value for t in (1, 2, 3, 4)] == [
        12,
        24,
        36,
        48,
    ]
    uneven = device("xiaomi-mi-9")  # one core is faster than the other three
    peaks = [Target(profile=uneven, threads=t).peak_gflops().value for t in (1, 2, 3, 4)]
    assert peaks == pytest.approx([45.44, 90.88, 136.32, 161.6])


def test_peak_without_a_peak_of_one_core() -> None:
    shared = Target(profile=pi(peak_gflops_per_thread={}), threads=1).peak_gflops()
    assert shared.value == 12
    assert shared.source.startswith("1 of 4 cores of: ")
    assert Target(profile=pi(peak_gflops_per_thread={}, cores=None)).peak_gflops().value == 48
    gpu = device("gtx-1080-ti")
    assert Target(profile=gpu).peak_gflops() == gpu.peak_gflops["fp32"]


def test_main_memory_bandwidth() -> None:
    assert Target(profile=pi()).main_memory_bandwidth() == pi().memory[-1].bandwidth_gbps
    both = MemoryLevel(name="dram", bandwidth_gbps=number(20), bandwidth_gbps_per_thread=number(9))
    bandwidths = [
        Target(profile=pi(memory=(both,)), threads=t).main_memory_bandwidth() for t in (1, 2, 3)
    ]
    assert [b.value for b in bandwidths if b is not None] == [9, 18, 20]
    one = MemoryLevel(name="dram", bandwidth_gbps_per_thread=number(9))
    only = Target(profile=pi(memory=(one,)), threads=2).main_memory_bandwidth()
    assert only is not None
    assert only.value == 18
    assert Target(profile=pi(memory=())).main_memory_bandwidth() is None


def test_last_level_cache() -> None:
    assert Target(profile=pi()).last_level_cache_bytes() == 1 << 20
    assert Target(profile=pi(memory=pi().memory[-1:])).last_level_cache_bytes() is None
    unknown = (MemoryLevel(name="l2"), MemoryLevel(name="dram"))
    assert Target(profile=pi(memory=unknown)).last_level_cache_bytes() is None


def test_local_target_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    here = pi(name="local", machine=machine_fingerprint())
    monkeypatch.setattr(target_module, "local_profile", lambda: here)
    target = local_target(threads=1, batch_size=16)
    assert target.name == "local-t1-b16"
    assert target.is_local
    assert not Target(profile=pi()).is_local
    assert not Target(profile=pi(machine="another")).is_local
    assert len({target, local_target(batch_size=16)}) == 1


def test_a_name_is_no_profile() -> None:
    with pytest.raises(BadInputError, match=r"profile must be a Profile.*got 'raspberry-pi-4'"):
        Target(profile="raspberry-pi-4")  # type: ignore[arg-type]
