"""Costs of the networks of a space on a parametric accelerator, fixed or chosen with them.

Where the device is fixed, or has few choices, the costs of every layer are tabulated for all
combinations of the genes that layer and device read; a network then costs a few look-ups. Where
that would be too many combinations, layers and devices are costed directly, row by row.

Searching over arrays and networks at the same time:

>>> from hardware_profiles import Accelerator, AcceleratorSpace
>>> from search_spaces import CNNSpace, WithPlatform
>>> devices = AcceleratorSpace(
...     base=Accelerator(name="array", rows=16, columns=16),
...     values={"rows": (8, 16, 32), "columns": (8, 16, 32), "dataflow": ("output", "weight")},
... )
>>> space = WithPlatform(base=CNNSpace(image_size=16), platform=devices.platform)
>>> model = AcceleratorCostModel(space, devices.device)
>>> genes = space.sample(100, np.random.default_rng(0))
>>> sorted(model.predict(genes))
['area_kgates', 'energy_mj', 'latency_ms']

`Problem(space, accuracy=..., costs=[model])` searches over both; accuracy is measured once for
each network, whatever the device (`SearchSpace.without_platform`).

A layer whose smallest tile is larger than a memory of the device costs an infinite latency and
energy, so that a search avoids it; on a fixed device a layer that fits in none of its variants is
an error at once, which names layer and memory, and `parts` is for a network that does not fit.

The numbers are modelled, not measured; there is nothing to time them on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deployment import emit
from hardware_profiles import Accelerator
from latency_models.accelerator.counts import LIMITS, DoesNotFitError
from latency_models.accelerator.layer_costs import LayerCosts, layer_costs
from latency_models.accelerator.sums import merge_rows
from latency_models.inputs import check_space, checked_genes
from records import BadInputError, new_folder, unknown_name, write_bytes, write_json
from search_spaces import Architecture, Expression, Genes, SearchSpace, Tabulation, least
from search_spaces.expression import Dim, choices_of, evaluate
from search_spaces.primitives import PRIMITIVES
from search_spaces.tabulate import all_genes, tabulate
from supernet import Subnet

Values = npt.NDArray[np.float64]

MOST_VARIANTS = 1 << 22
"""Variants of all layers times devices that are tabulated; it takes some seconds a million."""

_AT_ONCE = 1 << 18
_CHUNK = 4096
_SUMMED = ("latency_ms", "energy_mj")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """What one layer of one network costs on one device; accesses count values.

    Attributes:
        name: The layer's name.
        operator: Its primitive.
        macs: Multiply-accumulates in the array.
        utilisation: The share of the PEs' time in the array that multiplies; 0 where the array
            does nothing.
        cycles: With the vector unit and waiting for memories.
        registers: Accesses to registers.
        array: Values that PEs receive.
        buffers: Accesses to buffers.
        dram: Values from and to DRAM.
        latency_ms: Of the layer.
        energy_mj: Of the layer.
    """

    name: str
    operator: str
    macs: int
    utilisation: float
    cycles: float
    registers: int
    array: int
    buffers: int
    dram: int
    latency_ms: float
    energy_mj: float


class AcceleratorCostModel:
    """Latency, energy and area of networks on an accelerator; a cost model for `Problem`.

    Args:
        space: The space of networks, with the choices that the device reads.
        device: The device; its numbers may be expressions of choices of the space.
        batch_size: Images that run together.
        tabulated: Whether costs are tabulated; by default where that is affordable.

    Raises:
        BadInputError: A batch below 1, a device that reads a choice that the space does not have
            or that is not of the scope `platform`.
        DoesNotFitError: On a fixed device a layer fits in none of its variants.
    """

    metrics = ("latency_ms", "energy_mj", "area_kgates")
    latency_source = "modelled: closed formulas of the array and its memories, never measured"

    def __init__(
        self,
        space: SearchSpace,
        device: Accelerator,
        *,
        batch_size: int = 1,
        tabulated: bool | None = None,
    ) -> None:
        check_space(space)
        if not isinstance(device, Accelerator):
            raise BadInputError(
                f"an Accelerator is needed, such as eyeriss_like(), got {device!r}; for a Target "
                "there are RooflineCostModel and calibrate"
            )
        if batch_size < 1:
            raise BadInputError(f"batch_size must be at least 1, got {batch_size}")
        self.space = space
        self.device = device
        self.batch_size = batch_size
        self._device = dict(device.columns_of_table)
        _check_choices(space, device, self._device)
        devices = math.prod(len(space.choices[g].values) for g in self._device_genes)
        fits = space.layers.variants * devices <= MOST_VARIANTS
        self.is_tabulated = fits if tabulated is None else tabulated
        if device.is_fixed:
            self._refuse_layers_that_never_fit()

    @property
    def target_name(self) -> str:
        """The device's name, and the batch if it is not one image."""
        return self.device.name + (f"-b{self.batch_size}" if self.batch_size > 1 else "")

    @property
    def energy_source(self) -> str:
        """What the energy rests on, in words for reports."""
        return f"modelled: {self.device.energies.source}"

    # ---- populations ---------------------------------------------------------------------------

    def predict(self, genes: Genes) -> Mapping[str, Values]:
        """The metrics by name, arrays of length `n`, for an `n x d` array.

        Latency and energy are infinite where a layer does not fit on the device.

        Raises:
            BadInputError: Genes that are none of the space's.
        """
        genes = checked_genes(self.space, genes)
        if self.is_tabulated:
            codes = self._table.codes(genes)
            sums = {name: self._table.columns[name][codes].sum(axis=0) for name in _SUMMED}
        else:
            sums = self._direct(genes)
        return {**sums, "area_kgates": self.area_kgates(genes)}

    def latency_ms(self, genes: Genes) -> Values:
        """The latency alone, length `n`."""
        genes = checked_genes(self.space, genes)
        if not self.is_tabulated:
            return self._direct(genes)["latency_ms"]
        codes = self._table.codes(genes)
        return np.asarray(self._table.columns["latency_ms"][codes].sum(axis=0))

    def area_kgates(self, genes: Genes) -> Values:
        """The proxy for the device's area, length `n`, in thousands of gates."""
        genes = checked_genes(self.space, genes)
        return np.asarray(self._device_of(genes)["area_kgates"], np.float64)

    def bound(self, metric: str, genes: Genes, probability: float = 0.95) -> Values:
        """The prediction itself: nothing was measured that an interval could rest on."""
        if metric not in self.metrics:
            raise unknown_name("metric", metric, self.metrics)
        return self.predict(genes)[metric]

    def extremes(self, metric: str) -> tuple[tuple[float, Genes], tuple[float, Genes]] | None:
        """The least and greatest finite value over all rows of genes, exact, with their genes.

        None where costs are not tabulated.

        Raises:
            DoesNotFitError: No network fits.
        """
        if metric not in self.metrics:
            raise unknown_name("metric", metric, self.metrics)
        if not self.is_tabulated:
            return None
        if metric == "area_kgates":
            row = {"area_kgates": self._device["area_kgates"]}
            table = tabulate(self.space.choices, [row], np.float64)
        else:
            table = self._table
        values = table.columns[metric].astype(np.float64)
        fits = np.isfinite(values)
        # more than any network that fits costs, where a layer does not
        penalty = 2 * table.rows * float(values[fits].max(initial=0.0)) + 1
        low, low_genes = least(self.space, table, np.where(fits, values, penalty))
        _, high_genes = least(self.space, table, np.where(fits, -values, penalty))
        if low >= penalty:
            raise DoesNotFitError(f"no network of {self.space.name} fits on {self.device.name!r}")
        exact = self.predict(np.stack([low_genes, high_genes]))[metric]
        return (float(exact[0]), low_genes), (float(exact[1]), high_genes)

    # ---- single networks -----------------------------------------------------------------------

    def parts(self, row: Genes) -> list[LayerCost]:
        """What the layers of one network cost, in the order in which they run.

        Args:
            row: Genes of one architecture, with those of the device.

        Raises:
            DoesNotFitError: A layer does not fit; it and the memory are named.
        """
        genes = checked_genes(self.space, row)
        table = self.space.layer_table(genes)
        device = self._device_of(genes)
        layers = {name: column[table.codes[:, 0]] for name, column in table.flat.items()}
        costs = layer_costs(layers, device, self.device.energies, self.batch_size)
        pes = int(device["rows"][0]) * int(device["columns"][0])
        found = []
        for i in np.flatnonzero(layers["active"]):
            name, operator = table.names[i], list(PRIMITIVES)[layers["operator"][i]]
            if costs.lacks[i]:
                raise self._does_not_fit(name, int(costs.lacks[i]), device)
            busy = int(costs.array_cycles[i]) * pes
            found.append(
                LayerCost(
                    name=name,
                    operator=operator,
                    macs=int(costs.macs[i]),
                    utilisation=int(costs.macs[i]) / busy if busy else 0.0,
                    cycles=float(costs.cycles[i]),
                    registers=int(costs.registers[i]),
                    array=int(costs.array[i]),
                    buffers=int(costs.buffers[i]),
                    dram=int(costs.dram[i]),
                    latency_ms=float(costs.latency_ms[i]),
                    energy_mj=float(costs.energy_mj[i]),
                )
            )
        return found

    def device_of(self, row: Genes) -> Accelerator:
        """The fixed device of one row of genes."""
        (architecture,) = self.space.decode(row)
        values = dict(architecture.items)
        fixed = {
            name: value.substitute(values) if isinstance(value, Expression) else value
            for name, value in {
                **self.device.numbers,
                "dataflow": self.device.dataflow,
            }.items()
        }
        return Accelerator(
            name=self.device.name,
            energies=self.device.energies,
            **fixed,  # type: ignore[arg-type]
        )

    def record(self, genes: Genes) -> dict[str, Any]:
        """The costs of one architecture as JSON-ready values with their sources."""
        values = self.predict(genes)
        return {
            **{name: float(values[name][0]) for name in self.metrics},
            "latency_source": self.latency_source,
            "energy_source": self.energy_source,
        }

    def deploy(
        self,
        subnet: Subnet,
        architecture: Architecture,
        folder: str | Path,
        facts: Mapping[str, Any],
    ) -> Path:
        """Writes a network as ONNX, and device, costs and facts beside it in `accelerator.json`.

        There is no compiler for a modelled device, and nothing is timed.

        Raises:
            ExistingRunError: The folder holds something.
        """
        row = self.space.encode(architecture)
        device = asdict(self.device_of(row))
        record = {
            "architecture": architecture.to_json(),
            "space": self.space.to_json(),
            "device": device,
            "batch_size": self.batch_size,
            "predicted": self.record(row),
            "facts": dict(facts),
        }
        model = emit(subnet, self.batch_size).SerializeToString()
        with new_folder(folder) as new:
            write_bytes(new / "model.onnx", model)
            write_json(new / "accelerator.json", record)
        return Path(folder)

    # ---- tables --------------------------------------------------------------------------------

    @cached_property
    def _device_genes(self) -> list[int]:
        """The genes that the device reads."""
        read = frozenset[str]().union(*map(choices_of, self._device.values()))
        return [j for j, c in enumerate(self.space.choices) if c.name in read]

    @cached_property
    def _row_costs(self) -> list[LayerCosts]:
        """For each layer the costs of all its variants on all devices, `variants x devices`."""
        layers = self.space.layers
        sizes = [len(self.space.choices[g].values) for g in self._device_genes]
        every = np.zeros((math.prod(sizes), len(self.space.choices)), np.int16)
        every[:, self._device_genes] = all_genes(sizes[::-1])[:, ::-1]  # the first varies fastest
        device = self._device_of(every)
        ends = [*layers.offsets.tolist(), layers.variants]
        found: list[LayerCosts] = []
        for first, last in _groups(np.diff(ends) * len(every)):
            part = slice(ends[first], ends[last])
            columns = {name: column[part, None] for name, column in layers.columns.items()}
            costs = layer_costs(columns, device, self.device.energies, self.batch_size)
            for row in range(first, last):
                found.append(costs.at(slice(ends[row] - part.start, ends[row + 1] - part.start)))
        return found

    @cached_property
    def _table(self) -> Tabulation:
        rows = []
        for strides, costs in zip(self.space.layers.strides, self._row_costs, strict=True):
            read = [int(g) for g in np.flatnonzero(strides)]
            axes = [*read[::-1], *self._device_genes[::-1]]
            shape = [len(self.space.choices[g].values) for g in axes]
            order = sorted(range(len(axes)), key=lambda k, axes=axes: -axes[k])  # type: ignore[misc]
            values = {
                name: getattr(costs, name).reshape(shape).transpose(order).ravel()
                for name in _SUMMED
            }
            if any(value.any() for value in values.values()):
                rows.append((tuple(sorted(axes)), values))
        return merge_rows(self.space.choices, rows)

    def _device_of(self, genes: Genes) -> dict[str, npt.NDArray[Any]]:
        """The columns of the device for each row of genes, arrays of length `n`."""
        read = frozenset[str]().union(*map(choices_of, self._device.values()))
        values = {
            c.name: np.asarray(c.values)[genes[:, j]]
            for j, c in enumerate(self.space.choices)
            if c.name in read
        }
        return {name: evaluate(dim, values, len(genes)) for name, dim in self._device.items()}

    def _direct(self, genes: Genes) -> dict[str, Values]:
        """Latency and energy layer by layer, without tables."""
        sums = {name: np.zeros(len(genes)) for name in _SUMMED}
        for start in range(0, len(genes), _CHUNK):
            part = slice(start, start + _CHUNK)
            table = self.space.layer_table(genes[part])
            layers = {name: column[table.codes] for name, column in table.flat.items()}
            device = self._device_of(genes[part])
            costs = layer_costs(layers, device, self.device.energies, self.batch_size)
            for name, total in sums.items():
                total[part] = getattr(costs, name).sum(axis=0)
        return sums

    def _refuse_layers_that_never_fit(self) -> None:
        layers = self.space.layers
        rows = np.split(layers.columns["active"] > 0, layers.offsets[1:])
        for node, there, costs in zip(self.space.nodes, rows, self._row_costs, strict=True):
            lacks = costs.lacks[there, 0]
            if len(lacks) and lacks.all():
                device = self._device_of(np.zeros((1, len(self.space.choices)), np.int16))
                raise self._does_not_fit(node.name, int(lacks[0]), device)

    def _does_not_fit(
        self, layer: str, lacks: int, device: Mapping[str, npt.NDArray[Any]]
    ) -> DoesNotFitError:
        memory = LIMITS[lacks]
        unit = "values a PE" if memory.startswith("register") else "bytes"
        size = int(device[memory][0])
        return DoesNotFitError(
            f"layer {layer!r} does not fit on {self.device.name!r}: its smallest tile needs more "
            f"than {memory} = {size} {unit}; enlarge it, or choose smaller layers"
        )


def _check_choices(space: SearchSpace, device: Accelerator, columns: Mapping[str, Dim]) -> None:
    """Refuses a device that reads choices which are none of the space's platform."""
    scopes = {c.name: c.scope for c in space.choices}
    for key, dim in columns.items():
        for name in sorted(choices_of(dim)):
            if name not in scopes:
                raise unknown_name(f"choice, read by {key} of {device.name!r}", name, scopes)
            if scopes[name] != "platform":
                raise BadInputError(
                    f"{key} of {device.name!r} reads choice {name!r} of scope {scopes[name]!r}; "
                    "a device is chosen with scope='platform'"
                )


def _groups(sizes: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Neighbouring rows that are costed at once, as (first, behind the last)."""
    groups: list[tuple[int, int]] = []
    first = 0
    for row in range(len(sizes)):
        if row > first and sizes[first : row + 1].sum() > _AT_ONCE:
            groups.append((first, row))
            first = row
    return [*groups, (first, len(sizes))]
