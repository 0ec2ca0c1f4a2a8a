"""Rows for a command line."""

from dataclasses import astuple, replace

from hardware_profiles import KINDS, device, device_names, device_rows, number_rows, profile_lines
from hardware_profiles.describe import UNKNOWN

WIDTH = 120


def test_one_row_for_each_device_grouped_by_kind() -> None:
    rows = device_rows(device(name) for name in reversed(device_names()))
    assert sorted(row.name for row in rows) == device_names()
    assert all(isinstance(cell, str) and cell for row in rows for cell in astuple(row))
    order = [(KINDS.index(row.kind), row.name) for row in rows]
    assert order == sorted(order)
    pi = next(row for row in rows if row.name == "raspberry-pi-4")
    assert astuple(pi) == (
        "board-cpu",
        "raspberry-pi-4",
        "2019",
        "48",
        UNKNOWN,
        UNKNOWN,
        "5.56",
        "2.2 - 5.4",
        "100 %",
    )


def test_the_table_of_all_devices_fits_a_wide_terminal() -> None:
    rows = [astuple(row) for row in device_rows(device(name) for name in device_names())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    assert sum(widths) + 3 * len(widths) <= WIDTH


def test_sixteen_bits_name_their_precision_unless_it_is_fp16() -> None:
    rows = {row.name: row for row in device_rows(device(name) for name in device_names())}
    assert rows["a100-sxm4-40gb"].fp16 == "312,000"
    assert rows["tpu-v3"].fp16 == "123,000 bf16"
    assert rows["eyeriss"].fp16 == "67.2 int16"
    assert rows["xeon-gold-6226"].fp16 == UNKNOWN
    assert rows["xeon-gold-6226"].fp32 == "2,074"


def test_int8_only_devices_show_integer_operations() -> None:
    (row,) = device_rows([device("coral-usb-accelerator")])
    assert (row.fp32, row.fp16, row.int8) == (UNKNOWN, UNKNOWN, "4,000")
    assert row.watt == f"{UNKNOWN} - 2"


def test_unknown_numbers_are_marked() -> None:
    bare = replace(
        device("raspberry-pi-4"),
        peak_gflops={},
        memory=(),
        idle_power_w=None,
        peak_power_w=None,
    )
    (row,) = device_rows([bare])
    assert (row.fp32, row.memory, row.watt) == (UNKNOWN, UNKNOWN, UNKNOWN)


def test_one_row_for_each_number() -> None:
    profile = device("rtx-2080-ti")
    rows = number_rows(profile)
    assert len(rows) == len(list(profile.quantities()))
    by_number = {row.number: row for row in rows}
    assert by_number["peak_gflops.fp32"].value == "14,200"
    assert by_number["peak_gflops.fp32"].provenance == "read"
    assert by_number["peak_gflops.int8"].provenance == "recalled"
    assert by_number["peak_gflops.int8"].unit == "GOP/s"
    assert by_number["memory.l2.size_bytes"].unit == "byte"
    assert all(row.source for row in rows)


def test_lines_tell_what_no_number_says() -> None:
    lines = profile_lines(device("raspberry-pi-4"))
    assert lines[0] == (
        "board-cpu of Raspberry Pi, 2019; 100 % of 9 numbers read in their source or measured"
    )
    assert lines[1] == "runtimes: onnxruntime, tflite, ncnn"
    assert lines[2] == "instruction sets: asimd"
    assert lines[3].startswith("The main memory bandwidth is what STREAM reaches")
    bare = replace(device("raspberry-pi-4"), runtimes={"tflite": "2.1"}, notes="")
    assert profile_lines(replace(bare, instruction_sets=()))[1:] == ["runtimes: tflite 2.1"]
    assert len(profile_lines(replace(bare, runtimes={}, instruction_sets=()))) == 1
