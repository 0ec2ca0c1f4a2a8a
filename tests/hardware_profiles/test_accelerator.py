import numpy as np
import pytest

from hardware_profiles import (
    Accelerator,
    AcceleratorSpace,
    AccessEnergies,
    divided,
    eyeriss_like,
    tpu_like,
)
from records import BadInputError, UnknownNameError
from search_spaces.choice import Choice
from search_spaces.expression import evaluate

ROWS = Choice(name="device.rows", values=(8, 16, 32), scope="platform").value


def test_area_adds_pes_buffers_and_lanes():
    device = Accelerator(
        name="a", rows=3, columns=5, bytes_per_value=2, vector_lanes=4,
        weight_buffer_bytes=1000, input_buffer_bytes=2000, output_buffer_bytes=3000,
    )  # fmt: skip
    assert device.area_kgates == pytest.approx((15 * 7000 + 6000 * 6 + 4 * 7000) / 1000)


def test_eyeriss_has_the_published_sizes():
    device = eyeriss_like()
    assert device.rows * device.columns == 168
    buffers = device.weight_buffer_bytes + device.input_buffer_bytes + device.output_buffer_bytes
    assert buffers == 108 * 1024
    registers = device.register_weights + device.register_inputs + device.register_psums
    assert registers * device.bytes_per_value == 448 + 24 + 48
    sram = buffers + 168 * device.register_weights * device.bytes_per_value
    assert sram / 1024 == 181.5  # "on-chip SRAM"; the other scratch pads are registers
    peak_gmacs = device.rows * device.columns * device.clock_ghz
    assert 16.8 <= peak_gmacs <= 42.0  # 16.8 to 42.0 GMAC/s at 100 to 250 MHz


def test_tpu_has_the_published_peak():
    device = tpu_like()
    assert 2 * device.rows * device.columns * device.clock_ghz == pytest.approx(92e3, rel=0.01)


def test_a_device_may_be_expressions_of_choices():
    device = Accelerator(name="a", rows=ROWS, columns=512 // ROWS, **divided(ROWS * 4096))
    assert not device.is_fixed
    columns = device.columns_of_table
    values = {"device.rows": np.array([8, 16, 32])}
    for name, want in (
        ("columns", [64, 32, 16]),
        ("input_buffer_bytes", [8 * 4096 // 3, 16 * 4096 // 3, 32 * 4096 // 3]),
        ("dataflow", [0, 0, 0]),
    ):
        np.testing.assert_array_equal(evaluate(columns[name], values, 3), want)
    areas = evaluate(columns["area_kgates"], values, 3)
    for area, rows in zip(areas, (8, 16, 32), strict=True):
        fixed = Accelerator(name="a", rows=rows, columns=512 // rows, **divided(rows * 4096))
        assert area == pytest.approx(fixed.area_kgates)


def test_an_accelerator_space_chooses_dataflow_and_numbers():
    space = AcceleratorSpace(
        base=eyeriss_like(),
        values={"rows": (8, 16, 32), "dataflow": ("row", "output"), "clock_ghz": (0.5,)},
        derived={"columns": 256 // ROWS},
    )
    assert [c.name for c in space.choices] == ["device.rows", "device.dataflow"]
    assert all(c.scope == "platform" for c in space.choices)
    assert space.device.clock_ghz == 0.5
    chosen = space.chosen({"device.rows": 32, "device.dataflow": "output"})
    assert (chosen.rows, chosen.columns, chosen.dataflow) == (32, 8, "output")
    assert chosen.is_fixed
    with pytest.raises(BadInputError, match=r"no value for device\.dataflow"):
        space.chosen({"device.rows": 32})
    index = space.device.columns_of_table["dataflow"]
    values = {"device.dataflow": np.array(["row", "output"])}
    np.testing.assert_array_equal(evaluate(index, values, 2), [2, 0])


def test_energies_scale_with_a_mac():
    energies = AccessEnergies().scaled(0.3, "source")
    assert energies.dram_pj == pytest.approx(60.0)
    assert energies.source == "source"
    with pytest.raises(BadInputError, match="dram_pj must be positive"):
        AccessEnergies(dram_pj=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "rows of 'a' must be positive"),
        ({"columns": 1.5}, "columns of 'a' must be whole"),
        ({"clock_ghz": -1.0}, "clock_ghz of 'a' must be positive"),
        ({"rows": "8"}, "rows of 'a' must be a number"),
        ({"name": ""}, "needs a name"),
        ({"dataflow": "weights"}, "'weights'"),
        ({"clock_ghz": float("nan")}, "clock_ghz of 'a' must be a number, and finite"),
        ({"rows": float("inf")}, "rows of 'a' must be a number, and finite"),
        ({"energies": 3}, "must be AccessEnergies"),
    ],
)
def test_devices_that_cannot_be_are_refused(changes, message):
    with pytest.raises(BadInputError, match=message):
        Accelerator(**{"name": "a", "rows": 8, "columns": 8, **changes})


@pytest.mark.parametrize("wrong", [0, float("inf"), float("nan"), "1"])
def test_energies_that_cannot_be_are_refused(wrong):
    with pytest.raises(BadInputError, match="mac_pj must be positive and finite"):
        AccessEnergies(mac_pj=wrong)


def test_spaces_of_devices_that_cannot_be_are_refused():
    base = Accelerator(name="a", rows=8, columns=8)
    for values, message in (
        ({"row": (8, 16)}, "'row'"),
        ({"energies": (1, 2)}, "'energies'"),
        ({"dataflow": ("output", "inputs")}, "'inputs'"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            AcceleratorSpace(base=base, values=values)
    for values, message in (
        ({"rows": ()}, "needs values"),
        ({"rows": 8}, "needs values to choose from, got 8"),
        ({"dataflow": "row"}, "needs values"),
        ({"rows": (0, 8)}, "must be positive"),
    ):
        with pytest.raises(BadInputError, match=message):
            AcceleratorSpace(base=base, values=values)
    with pytest.raises(BadInputError, match="share of at least 1"):
        divided(1024, weights=0)
