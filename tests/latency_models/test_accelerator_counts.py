"""Closed formulas of accelerators against loop nests that are run, for many small sizes."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_profiles import DATAFLOWS
from latency_models.accelerator import Counts, Product, count, mapping
from latency_models.accelerator.counts import LIMITS
from tests.latency_models.loop_nests import run_rows, run_systolic, sets_on_the_array

COUNTED = [f.name for f in fields(Counts) if f.name != "lacks"]


@st.composite
def nests(draw, most=7):
    small = st.integers(1, most)
    nest = {name: draw(small) for name in ("filters", "channels", "rows", "columns")}
    nest["groups"] = draw(st.integers(1, 3))
    nest["kernel"] = draw(st.integers(1, 4))
    nest["dilation"] = draw(st.integers(1, 2))
    nest["stride"] = draw(st.integers(1, 3))
    span = (nest["kernel"] - 1) * nest["dilation"] + 1
    for outputs, inputs in (("rows", "in_rows"), ("columns", "in_columns")):
        whole = (nest[outputs] - 1) * nest["stride"] + span
        padding = draw(st.integers(0, min(span - 1, whole - 1)))
        nest[inputs] = whole - padding
    return nest


@st.composite
def devices(draw, flow):
    buffer = st.integers(4, 14).flatmap(lambda power: st.integers(1 << (power - 1), 1 << power))
    return {
        "rows": draw(st.integers(1, 6)),
        "columns": draw(st.integers(1, 6)),
        "dataflow": DATAFLOWS.index(flow),
        "weight_buffer_bytes": draw(buffer),
        "input_buffer_bytes": draw(buffer),
        "output_buffer_bytes": draw(buffer),
        "bytes_per_value": draw(st.integers(1, 2)),
        "psum_bytes": draw(st.integers(1, 4)),
        "register_weights": draw(st.integers(3, 30)),
        "register_inputs": draw(st.integers(2, 12)),
        "register_psums": draw(st.integers(1, 8)),
    }


def counted(nest, device):
    columns = {name: np.array([value]) for name, value in device.items()}
    counts = count(Product.of(**{name: [size] for name, size in nest.items()}), columns)
    return {f.name: int(getattr(counts, f.name)[0]) for f in fields(Counts)}


@pytest.mark.parametrize("flow", ["output", "weight"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_systolic_arrays_count_what_a_simulated_array_does(flow, data):
    nest, device = data.draw(nests()), data.draw(devices(flow))
    got = counted(nest, device)
    want = run_systolic(nest, device, flow)
    if want is None:
        assert LIMITS[got["lacks"]] in ("input_buffer_bytes", "output_buffer_bytes")
    else:
        assert got["lacks"] == 0
        assert {name: got[name] for name in COUNTED} == {name: want[name] for name in COUNTED}


def test_held_weights_and_inputs_together_save_what_either_order_alone_would_fetch():
    """All inputs and the weights of two filters fit, those of all six do not, in four tiles."""
    nest = {"groups": 1, "filters": 6, "channels": 4, "kernel": 1, "dilation": 1, "stride": 1,
            "rows": 4, "columns": 2, "in_rows": 4, "in_columns": 2}  # fmt: skip
    device = {"rows": 4, "columns": 2, "dataflow": DATAFLOWS.index("weight"),
              "weight_buffer_bytes": 8, "input_buffer_bytes": 32, "output_buffer_bytes": 4,
              "bytes_per_value": 1, "psum_bytes": 1}  # fmt: skip
    got, want = counted(nest, device), run_systolic(nest, device, "weight")
    assert {name: got[name] for name in COUNTED} == {name: want[name] for name in COUNTED}
    assert (got["dram_weights"], got["dram_inputs"]) == (24, 32)


@settings(max_examples=70, deadline=None, derandomize=True)
@given(data=st.data())
def test_row_stationary_arrays_count_what_passes_one_by_one_do(data):
    nest, device = data.draw(nests()), data.draw(devices("row"))
    got = counted(nest, device)
    if got["lacks"]:
        return
    m = mapped(nest, device)
    want = run_rows(nest, device, m)
    assert {name: got[name] for name in COUNTED} == {name: want[name] for name in COUNTED}


def mapped(nest, device):
    columns = {name: np.array([value]) for name, value in device.items()}
    m = mapping(Product.of(**{name: [size] for name, size in nest.items()}), columns)
    return {f.name: int(getattr(m, f.name)[0]) for f in fields(m)}


@settings(max_examples=70, deadline=None, derandomize=True)
@given(data=st.data())
def test_row_stationary_mappings_keep_to_array_registers_and_buffers(data):
    nest, device = data.draw(nests(12)), data.draw(devices("row"))
    m = mapped(nest, device)
    sets = sets_on_the_array(device["rows"], device["columns"], m["kernel_rows"], m["e"])
    assert m["t"] * m["r"] * m["g"] <= sets
    sums = m["e"] * nest["columns"] * m["p"] * m["t"] * m["g"]
    held = m["q"] * m["r"] * m["g"] * nest["in_columns"]
    window = (m["e"] - 1) * min(nest["stride"], span := span_of(nest)) + span
    checks = {
        "register_inputs": m["q"] * nest["kernel"] <= device["register_inputs"],
        "register_weights": m["p"] * m["q"] * nest["kernel"] <= device["register_weights"],
        "register_psums": m["p"] <= device["register_psums"],
        "output_buffer_bytes": sums <= device["output_buffer_bytes"] // device["psum_bytes"],
        "input_buffer_bytes": held * window
        <= device["input_buffer_bytes"] // device["bytes_per_value"],
    }
    if m["lacks"]:
        assert not checks[LIMITS[m["lacks"]]]
    else:
        assert all(checks.values()), checks


def span_of(nest):
    return (nest["kernel"] - 1) * nest["dilation"] + 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_sets_without_memory_limits_fill_the_array_as_laid_out_by_hand(data):
    nest, device = data.draw(nests(12)), data.draw(devices("row"))
    roomy = {name: 1 << 40 for name in device if name.endswith("_bytes") or "register" in name}
    device |= {**roomy, "bytes_per_value": 1, "psum_bytes": 1}
    m = mapped(nest, device)
    strips = device["rows"] // min(nest["kernel"], device["rows"])
    options = {}
    for most in (strips * device["columns"], device["columns"]):
        e = min(nest["rows"], most)
        sets = sets_on_the_array(device["rows"], device["columns"], m["kernel_rows"], e)
        t = min(sets, nest["filters"])
        r = max(r for r in range(1, nest["channels"] + 1) if t * r <= sets)
        laid = {"e": e, "t": t, "r": r, "p": nest["filters"], "q": nest["channels"]}
        laid["g"] = max(g for g in range(1, nest["groups"] + 1) if t * r * g <= sets)
        cycles = run_rows(nest, device, {**m, **laid})["cycles"]
        options.setdefault(cycles, laid)
    best = options[min(options)]
    assert m == {**m, **best}


def test_arrays_of_nests_and_devices_broadcast_against_each_other():
    rng = np.random.default_rng(0)
    sizes = ("filters", "channels", "rows", "columns")
    layers = {name: rng.integers(1, 20, (5, 1)) for name in sizes}
    shape = {name: rng.integers(1, 9, 7) for name in ("rows", "columns")}
    device = {
        **shape, "dataflow": rng.integers(0, 3, 7), "bytes_per_value": np.array(1),
        "psum_bytes": np.array(4), "register_weights": np.array(24),
        "register_inputs": np.array(12), "register_psums": np.array(8),
        **{f"{name}_buffer_bytes": rng.integers(100, 5000, 7)
           for name in ("weight", "input", "output")},
    }  # fmt: skip
    together = count(Product.of(**layers), device)
    for i in range(5):
        for j in range(7):
            one = {name: value[j] if value.ndim else value for name, value in device.items()}
            alone = counted({name: int(layers[name][i, 0]) for name in sizes}, one)
            for name in (*COUNTED, "lacks"):
                got = np.broadcast_to(getattr(together, name), (5, 7))
                assert got[i, j] == alone[name], name
