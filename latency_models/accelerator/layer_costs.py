"""Time and energy of layers on an accelerator, from what is counted of them.

Memories and array work at the same time (double buffering), so the slowest sets the pace of a
product or of the vector unit's work:

    cycles = max(array or vector cycles,
                 bytes through the buffers / bytes a cycle,
                 bytes from and to DRAM * clock / bandwidth)

The parts of a layer, and the layers, follow one another; every product reads its operands from
DRAM and writes its result there. The energy is

    energy = sum over levels of accesses * energy of an access + idle power * time

A buffer's energy of an access grows with the square root of its size (`AccessEnergies`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from hardware_profiles import AccessEnergies
from hardware_profiles.accelerator import BUFFERS
from latency_models.accelerator.counts import Counts, Device, Integers
from latency_models.accelerator.product import count
from latency_models.accelerator.work import Columns, products, vector_work

Floats = npt.NDArray[np.float64]
_REALS = ("clock_ghz", "dram_gbps", "buffer_bytes_per_cycle", "idle_power_w", "area_kgates")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCosts:
    """Costs of layers on devices, arrays of one shape; sums over a layer's products.

    Attributes:
        macs: Multiply-accumulates in the array.
        array_cycles: Cycles of the array if it never waits.
        cycles: Cycles with the vector unit and waiting for memories; infinite where a layer does
            not fit.
        registers: Accesses to registers of PEs.
        array: Values that PEs receive.
        buffers: Accesses to buffers.
        dram: Values from and to DRAM.
        latency_ms: `cycles` at the device's clock.
        energy_mj: Infinite where a layer does not fit.
        lacks: Index of `LIMITS`: which memory is too small for the smallest tile; 0 for none.
    """

    macs: Integers
    array_cycles: Integers
    cycles: Floats
    registers: Integers
    array: Integers
    buffers: Integers
    dram: Integers
    latency_ms: Floats
    energy_mj: Floats
    lacks: Integers

    def at(self, rows: slice) -> LayerCosts:
        """The costs of some layers, rows of two-dimensional arrays."""
        return LayerCosts(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def layer_costs(
    layers: Columns, device: Columns, energies: AccessEnergies, batch_size: int = 1
) -> LayerCosts:
    """Costs of layers on devices.

    Args:
        layers: Columns of the layer table, integer arrays of one shape.
        device: Columns of an `Accelerator` (`columns_of_table`) that broadcast with them.
        energies: Of an access.
        batch_size: Images that run together.

    Returns:
        Arrays of the broadcast shape.
    """
    shape = np.broadcast_shapes(layers["operator"].shape, device["rows"].shape)
    flat = {
        name: np.broadcast_to(np.asarray(column, np.int64), shape).ravel()
        for name, column in layers.items()
    }
    devices: dict[str, npt.NDArray[Any]] = {
        name: np.broadcast_to(
            np.asarray(column, np.float64 if name in _REALS else np.int64), shape
        ).ravel()
        for name, column in device.items()
    }
    work = vector_work(flat, batch_size)
    buffer_pj = {name: _buffer_pj(devices[name], energies) for name in BUFFERS}
    operations, size = work.operations, devices["bytes_per_value"]
    sums = {name: np.zeros(len(size), np.int64) for name in
            ("macs", "cycles", "registers", "array", "lacks")}  # fmt: skip
    buffers, dram = work.buffers.copy(), work.dram.copy()
    vector_cycles = -(-operations // devices["vector_lanes"])
    cycles = _paced(vector_cycles, work.buffers * size, work.dram * size, devices)
    energy = (
        operations * energies.mac_pj
        + work.buffers * buffer_pj["output_buffer_bytes"]
        + work.dram * energies.dram_pj
    )
    for here, product in products(flat, batch_size):
        mine = {name: column[here] for name, column in devices.items()}
        counts = count(product, mine)
        for name, total in sums.items():
            if name != "lacks":
                total[here] += getattr(counts, name)
        sums["lacks"][here] = np.where(sums["lacks"][here], sums["lacks"][here], counts.lacks)
        buffers[here] += counts.buffers
        dram[here] += counts.dram
        cycles[here] += _paced(
            counts.cycles, _buffer_bytes(counts, mine), counts.dram * size[here], mine
        )
        energy[here] += _energy_pj(counts, energies, [buffer_pj[name][here] for name in BUFFERS])
    lost = np.where(sums["lacks"] > 0, np.inf, 1.0)
    latency_ms = cycles * lost / (devices["clock_ghz"] * 1e6)
    energy_mj = energy * lost * 1e-9 + devices["idle_power_w"] * cycles / (
        devices["clock_ghz"] * 1e6
    )
    values: dict[str, npt.NDArray[Any]] = {
        "macs": sums["macs"],
        "array_cycles": sums["cycles"],
        "cycles": cycles * lost,
        "registers": sums["registers"],
        "array": sums["array"],
        "buffers": buffers,
        "dram": dram,
        "latency_ms": latency_ms,
        "energy_mj": energy_mj,
        "lacks": sums["lacks"],
    }
    return LayerCosts(**{name: value.reshape(shape) for name, value in values.items()})


def _buffer_pj(size_bytes: Integers, energies: AccessEnergies) -> Floats:
    scale = np.sqrt(size_bytes / energies.buffer_reference_bytes)
    return np.asarray(energies.buffer_pj * scale)


def _buffer_bytes(counts: Counts, device: Device) -> Integers:
    operands = (counts.weight_buffer + counts.input_buffer) * device["bytes_per_value"]
    return np.asarray(operands + counts.output_buffer * device["psum_bytes"])


def _paced(
    cycles: Integers, buffer_bytes: Integers, dram_bytes: Integers, device: Device
) -> Floats:
    """The cycles of the slowest: the unit that computes, the buffers, or DRAM."""
    rate = device["buffer_bytes_per_cycle"]
    with np.errstate(divide="ignore", invalid="ignore"):
        buffers = np.where(rate > 0, buffer_bytes / rate, 0.0)
    dram = dram_bytes * device["clock_ghz"] / device["dram_gbps"]
    return np.asarray(np.maximum(np.maximum(cycles, buffers), dram))


def _energy_pj(counts: Counts, energies: AccessEnergies, buffer_pj: list[Floats]) -> Floats:
    levels = (
        (counts.macs, energies.mac_pj),
        (counts.registers, energies.register_pj),
        (counts.array, energies.array_pj),
        (counts.weight_buffer, buffer_pj[0]),
        (counts.input_buffer, buffer_pj[1]),
        (counts.output_buffer, buffer_pj[2]),
        (counts.dram, energies.dram_pj),
    )
    total: Floats = np.zeros(counts.macs.shape)
    for accesses, energy in levels:
        total = total + accesses * energy
    return total
