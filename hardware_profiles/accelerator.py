"""A parametric accelerator: an array of processing elements (PEs), its buffers, its DRAM.

    DRAM -- buffers (weights, inputs, outputs) -- array of rows x columns PEs -- vector unit

Every PE multiplies and adds once a cycle. The buffers are double-buffered: the sizes given here
are what one layer may use while the next tile is fetched. Where a chip has one global buffer, it
is divided by fixed shares (`divided`). How a layer runs on it, `latency_models.accelerator` says.

Any number of an `Accelerator` may be an expression of choices (scope `platform`), and the
dataflow a choice of names, so a device can be searched together with a network; an
`AcceleratorSpace` (`hardware_profiles.accelerator_space`) makes such a device.

Energies are those of one access to one value. The defaults are relative: a MAC is 1, and the
others are the ratios of Chen et al., Eyeriss, ISCA 2016, table IV (recalled; read where public
code quotes them: register file 1, array 2, global buffer 6, DRAM 200; 16 bits, 65 nm). The energy
of a buffer grows with the square root of its size from the size that its number holds for; the 45
nm numbers of Horowitz, ISSCC 2014 (10 pJ at 8 KB, 100 pJ at 1 MB) grow with the power 0.47.

The area is a proxy in thousands of two-input NAND gates, for comparing devices of one kind:

    area = rows * columns * (gates of a PE + register bytes * gates a byte)
           + buffer bytes * gates a byte + vector lanes * gates of a lane

A PE of Eyeriss has 1176k / 168 = 7000 gates (16 bits, registers included; Chen et al., JSSC 2017,
table IV, read in transcript), scaled here with the bits of a value; 6 gates a byte of SRAM is a
recalled estimate for 65 nm. Wires, pads and DRAM controllers are left out.

References:
    Chen et al., Eyeriss, ISCA 2016 and JSSC 52(1), 2017.
    Jouppi et al., In-datacenter performance analysis of a tensor processing unit, ISCA 2017.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from records import BadInputError, unknown_name
from search_spaces import Dim, Expression
from search_spaces.expression import is_equal, where

DATAFLOWS = ("output", "weight", "row")
"""What stays in the PEs: outputs or weights (systolic arrays), or rows (Eyeriss)."""

BUFFERS = ("weight_buffer_bytes", "input_buffer_bytes", "output_buffer_bytes")

_AT_LEAST_ZERO = ("buffer_bytes_per_cycle", "idle_power_w")
_NOT_NUMBERS = ("name", "dataflow", "energies")
_WHOLE = ("rows", "columns", *BUFFERS, "register_weights", "register_inputs", "register_psums",
          "vector_lanes", "bytes_per_value", "psum_bytes")  # fmt: skip
PE_GATES_16_BITS = 7000.0
GATES_PER_BYTE = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessEnergies:
    """Energy of one access to one value at each level, in pJ.

    Attributes:
        mac_pj: One multiply-accumulate; also one operation of the vector unit.
        register_pj: One access to a PE's registers.
        array_pj: One value received by a PE from a neighbour or a buffer.
        buffer_pj: One access to a buffer of `buffer_reference_bytes`.
        dram_pj: One value from or to DRAM.
        buffer_reference_bytes: The buffer size that `buffer_pj` holds for.
        source: Where the numbers come from.
    """

    mac_pj: float = 1.0
    register_pj: float = 1.0
    array_pj: float = 2.0
    buffer_pj: float = 6.0
    dram_pj: float = 200.0
    buffer_reference_bytes: float = 108 * 1024.0
    source: str = "relative to a MAC of 1 pJ: ratios of Eyeriss, ISCA 2016, table IV (recalled)"

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "source":
                continue
            is_number = isinstance(value, int | float) and math.isfinite(value)
            if not is_number or value <= 0:
                raise BadInputError(f"{entry.name} must be positive and finite, got {value!r}")

    def scaled(self, mac_pj: float, source: str) -> AccessEnergies:
        """The same ratios for a MAC of another energy."""
        factor = mac_pj / self.mac_pj
        return AccessEnergies(
            mac_pj=mac_pj,
            register_pj=self.register_pj * factor,
            array_pj=self.array_pj * factor,
            buffer_pj=self.buffer_pj * factor,
            dram_pj=self.dram_pj * factor,
            buffer_reference_bytes=self.buffer_reference_bytes,
            source=source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A device of the kind above; every number but the energies may be an expression.

    Attributes:
        name: The device's name, which costs carry.
        rows: PEs in a column of the array.
        columns: PEs in a row of the array.
        dataflow: One of `DATAFLOWS`, or a choice of them.
        weight_buffer_bytes: On-chip memory for weights (and second operands of attention).
        input_buffer_bytes: For inputs.
        output_buffer_bytes: For sums that are not complete, and outputs.
        clock_ghz: Cycles of array and buffers in a nanosecond.
        dram_gbps: Bandwidth of DRAM, 10^9 bytes a second, in both directions together.
        buffer_bytes_per_cycle: What all buffers together move in a cycle; 0 does not limit.
        vector_lanes: Values that the vector unit works on in a cycle.
        bytes_per_value: Of weights, inputs and outputs.
        psum_bytes: Of sums that are not complete, in the output buffer.
        register_weights: Weights that fit in the registers of a PE (row-stationary only).
        register_inputs: Inputs, likewise.
        register_psums: Sums, likewise.
        idle_power_w: Power that flows as long as a network runs.
        energies: Energy of an access at each level.

    Raises:
        BadInputError: A number that is none of its kind.
        UnknownNameError: No such dataflow.
    """

    name: str
    rows: Dim
    columns: Dim
    dataflow: str | Expression = "output"
    weight_buffer_bytes: Dim = 64 * 1024
    input_buffer_bytes: Dim = 64 * 1024
    output_buffer_bytes: Dim = 64 * 1024
    clock_ghz: Dim = 1.0
    dram_gbps: Dim = 16.0
    buffer_bytes_per_cycle: Dim = 0
    vector_lanes: Dim = 16
    bytes_per_value: Dim = 1
    psum_bytes: Dim = 4
    register_weights: Dim = 224
    register_inputs: Dim = 12
    register_psums: Dim = 24
    idle_power_w: Dim = 0.0
    energies: AccessEnergies = field(default_factory=AccessEnergies)

    def __post_init__(self) -> None:
        if not self.name:
            raise BadInputError("an accelerator needs a name")
        if not isinstance(self.dataflow, Expression) and self.dataflow not in DATAFLOWS:
            raise unknown_name("dataflow", self.dataflow, DATAFLOWS)
        if not isinstance(self.energies, AccessEnergies):
            raise BadInputError(
                f"energies of {self.name!r} must be AccessEnergies, got {self.energies!r}"
            )
        for key, value in self.numbers.items():
            if isinstance(value, Expression):
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value):
                raise BadInputError(
                    f"{key} of {self.name!r} must be a number, and finite, got {value!r}"
                )
            if key in _WHOLE and value != int(value):
                raise BadInputError(f"{key} of {self.name!r} must be whole, got {value!r}")
            if value < 0 or (value == 0 and key not in _AT_LEAST_ZERO):
                raise BadInputError(f"{key} of {self.name!r} must be positive, got {value!r}")

    @property
    def numbers(self) -> dict[str, Dim]:
        """The numbers by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_NUMBERS}

    @property
    def columns_of_table(self) -> Mapping[str, Dim]:
        """All that a cost reads, as numbers or expressions; `dataflow` by its index."""
        dataflow = self.dataflow
        index: Dim = 0
        for place, known in enumerate(DATAFLOWS):
            index = where(is_equal(dataflow, known), place, index)
        return {**self.numbers, "dataflow": index, "area_kgates": self.area_kgates}

    @property
    def is_fixed(self) -> bool:
        """Whether nothing of the device is a choice."""
        values = (self.dataflow, *self.numbers.values())
        return not any(isinstance(value, Expression) for value in values)

    @property
    def area_kgates(self) -> Dim:
        """The proxy for the area, in thousands of gates; an expression where sizes are."""
        registers = self.register_weights + self.register_inputs + self.register_psums
        stationary = where(is_equal(self.dataflow, "row"), registers, 0) * self.bytes_per_value
        pe = self.bytes_per_value * (PE_GATES_16_BITS / 2) + stationary * GATES_PER_BYTE
        buffers: Dim = 0
        for buffer in BUFFERS:
            buffers = buffers + getattr(self, buffer)
        lane = self.bytes_per_value * (PE_GATES_16_BITS / 2)
        gates = self.rows * self.columns * pe + buffers * GATES_PER_BYTE + self.vector_lanes * lane
        return gates * 1e-3


def divided(
    global_buffer_bytes: Dim, *, weights: int = 1, inputs: int = 1, outputs: int = 1
) -> dict[str, Dim]:
    """One global buffer divided by fixed shares, as keyword arguments of `Accelerator`.

    Args:
        global_buffer_bytes: The size of the whole.
        weights: Parts for weights, of all parts.
        inputs: For inputs.
        outputs: For outputs.

    Raises:
        BadInputError: A share below 1.

    >>> divided(96 * 1024, outputs=2)["output_buffer_bytes"]
    49152
    """
    shares = (weights, inputs, outputs)
    if min(shares) < 1:
        raise BadInputError(f"every buffer needs a share of at least 1, got {shares}")
    total = sum(shares)
    return {
        name: global_buffer_bytes * share // total
        for name, share in zip(BUFFERS, shares, strict=True)
    }


def eyeriss_like(name: str = "eyeriss-like", **changes: Dim) -> Accelerator:
    """A row-stationary array with the numbers of Eyeriss (Chen et al., JSSC 2017).

    12 x 14 PEs at 200 MHz, 16 bits; filter, input and sum registers of 448, 24 and 48 bytes; a
    global buffer of 108 KB of which 8 KB are for weights (table IV, read in transcript, and
    section V, recalled), divided here between inputs and sums in halves. The bandwidth to DRAM
    (1 GB/s) is not from the paper. `changes` are attributes of `Accelerator`.
    """
    given: dict[str, Dim] = {
        "rows": 12, "columns": 14, "clock_ghz": 0.2, "dram_gbps": 1.0,
        "weight_buffer_bytes": 8 * 1024, "input_buffer_bytes": 50 * 1024,
        "output_buffer_bytes": 50 * 1024, "bytes_per_value": 2, "psum_bytes": 2,
        "vector_lanes": 14,
    }  # fmt: skip
    return Accelerator(name=name, dataflow="row", **{**given, **changes})  # type: ignore[arg-type]


def tpu_like(name: str = "tpu-like", *, side: Dim = 256, **changes: Dim) -> Accelerator:
    """A weight-stationary systolic array with the numbers of the first TPU (Jouppi et al., 2017).

    256 x 256 PEs of 8 bits at 700 MHz, 24 MB for activations, 4 MB of accumulators of 32 bits,
    weights from DRAM at 30 GB/s (recalled). Unlike the TPU, weights of the next tile are not
    loaded while this one runs.
    """
    given: dict[str, Dim] = {
        "rows": side, "columns": side, "clock_ghz": 0.7, "dram_gbps": 30.0,
        "weight_buffer_bytes": 256 * 1024, "input_buffer_bytes": 24 << 20,
        "output_buffer_bytes": 4 << 20, "vector_lanes": side,
    }  # fmt: skip
    values = {**given, **changes}
    return Accelerator(name=name, dataflow="weight", **values)  # type: ignore[arg-type]
