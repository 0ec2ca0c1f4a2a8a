"""Rows for a command line."""

from dataclasses import astuple, replace

from hardware_profiles import device, device_names, device_rows, number_rows
from hardware_profiles.describe import UNKNOWN


def test_one_row_for_each_device() -> None:
    rows = device_rows(device(name) for name in device_names())
    assert [row.name for row in rows] == device_names()
    assert all(isinstance(cell, str) and cell for row in rows for cell in astuple(row))
    pi = next(row for row in rows if row.name == "raspberry-pi-4")
    assert astuple(pi) == (
        "raspberry-pi-4",
        "board-cpu",
        "48 GFLOP/s fp32",
        "5.56 GB/s",
        "2.2 - 5.4 W",
        "100 %",
    )


def test_int8_only_devices_show_integer_operations() -> None:
    (row,) = device_rows([device("coral-usb-accelerator")])
    assert row.peak == "4,000 GOP/s int8"
    assert row.power == f"{UNKNOWN} - 2 W"


def test_unknown_numbers_are_marked() -> None:
    bare = replace(device("raspberry-pi-4"), peak_gflops={}, memory=(), idle_power_w=None)
    (row,) = device_rows([bare])
    assert (row.peak, row.memory_bandwidth) == (UNKNOWN, UNKNOWN)
    assert row.power.startswith(UNKNOWN)


def test_one_row_for_each_number() -> None:
    profile = device("gtx-1080-ti")
    rows = number_rows(profile)
    assert len(rows) == len(list(profile.quantities()))
    by_number = {row.number: row for row in rows}
    assert by_number["peak_gflops.fp32"].value == "11,340"
    assert by_number["peak_gflops.fp32"].provenance == "read"
    assert by_number["peak_gflops.int8"].provenance == "recalled"
    assert by_number["memory.l2.size_bytes"].unit == "byte"
    assert all(row.source for row in rows)
