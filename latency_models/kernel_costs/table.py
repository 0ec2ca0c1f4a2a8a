"""The table of measured kernels of a target: what was timed, kept in a file, and grown.

A row is a timed file: the kernels that ran in it and its latency. Kernel files
(`deployment.kernel_tables.files`) and whole networks are rows alike; the first teach what kernels
take, the second calibrate the sum. A table belongs to a device, a runtime and its version,
threads, batch size and precision, and to no space.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment.kernel_tables.descriptions import DESCRIPTION, KernelDescription
from deployment.kernel_tables.rows import KINDS
from hardware_profiles import Target
from latency_models.costs import channel_block
from latency_models.kernel_costs.regression import Sums, sums_of
from records import BadInputError, CorruptFileError, read_json, write_json
from search_spaces.primitives import ACTIVATIONS, MIXINGS, PRIMITIVES

FORMAT = "hwnas-kernel-table-1"
KERNEL, NETWORK = "kernel", "network"

_NAMES = {"activation": ACTIVATIONS, "mixing": MIXINGS, "kind": KINDS}
"""Columns that are written as names, so that files outlive a change of the order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedFile:
    """A file that was timed.

    Attributes:
        what: `kernel` for a file around a kernel, `network` for a whole network.
        kernels: All that ran in it.
        latency_ms: For one run of the whole batch.
        dispersion_ms: How well that repeats; NaN where unknown.
    """

    what: str
    kernels: tuple[KernelDescription, ...]
    latency_ms: float
    dispersion_ms: float = float("nan")


class MeasuredKernels:
    """What was timed on a target; see the module.

    Args:
        identity: What the table belongs to, see `identity_of`.
        files: The rows.
        refused: Kernels that the runtime refuses, with the reasons.
    """

    def __init__(
        self,
        identity: dict[str, Any],
        files: Iterable[TimedFile] = (),
        refused: dict[KernelDescription, str] | None = None,
    ) -> None:
        self.identity = identity
        self.files: list[TimedFile] = []
        self.refused: dict[KernelDescription, str] = dict(refused or {})
        self.add(files)

    @classmethod
    def empty(cls, target: Target) -> MeasuredKernels:
        """A table without rows for a target."""
        return cls(identity_of(target))

    def __len__(self) -> int:
        return len(self.files)

    def add(self, files: Iterable[TimedFile]) -> None:
        """Adds rows; all of them or, where one is wrong, none.

        Raises:
            BadInputError: A latency that is not positive and finite, a row without kernels, or
                of another kind of file; the row is named.
        """
        rows = list(files)
        for place, row in enumerate(rows, start=len(self.files)):
            if row.what not in (KERNEL, NETWORK) or not row.kernels:
                raise BadInputError(f"row {place} is no kernel file or network with kernels")
            if not (math.isfinite(row.latency_ms) and row.latency_ms > 0):
                raise BadInputError(
                    f"row {place} ({row.kernels[-1].describe()} among "
                    f"{len(row.kernels)} kernels) has a latency of {row.latency_ms} ms; it must "
                    "be positive and finite: leave the row out or time it again"
                )
        self.files.extend(rows)

    def rows(self, what: str) -> list[TimedFile]:
        """The kernel files or the networks."""
        return [row for row in self.files if row.what == what]

    @property
    def kernels(self) -> frozenset[KernelDescription]:
        """All kernels that ran in kernel files."""
        return frozenset(k for row in self.rows(KERNEL) for k in row.kernels)

    def sums(self, what: str, near: Iterable[KernelDescription] = (), most: int = 0) -> Sums:
        """The rows as timed sums.

        Args:
            what: Which rows.
            near: With `most`, rows that hold one of these kernels come first.
            most: At most so many rows, the latest ones; 0 for all.
        """
        rows = self.rows(what)
        if most and len(rows) > most:
            wanted = set(near)
            rows.sort(key=lambda row: not wanted.isdisjoint(row.kernels))
            rows = rows[-most:]
        kernels = [[tuple_of(k) for k in row.kernels] for row in rows]
        return sums_of(kernels, [row.latency_ms for row in rows])

    def check(self, target: Target) -> None:
        """Refuses a target that the table was not measured for.

        Raises:
            BadInputError: Says what differs.
        """
        mine, wanted = self.identity, identity_of(target)
        differing = [
            f"{key} (table: {mine.get(key)!r}, here: {wanted[key]!r})"
            for key in wanted
            if mine.get(key) != wanted[key]
        ]
        if differing:
            raise BadInputError(
                f"the kernel table was measured for something else than {target.name!r}; "
                f"different are: {', '.join(differing)}. Measure a table for this target"
            )

    def save(self, path: str | Path) -> None:
        """Writes the table as JSON, atomically."""
        place: dict[KernelDescription, int] = {}
        files = []
        for row in self.files:
            counts: dict[int, int] = {}
            for kernel in row.kernels:
                index = place.setdefault(kernel, len(place))
                counts[index] = counts.get(index, 0) + 1
            known = math.isfinite(row.dispersion_ms)
            files.append(
                [row.what, sorted(counts.items()), row.latency_ms,
                 row.dispersion_ms if known else None]
            )  # fmt: skip
        refused = [[_to_names(k), reason] for k, reason in self.refused.items()]
        write_json(path, {
            "format": FORMAT,
            "identity": self.identity,
            "columns": list(DESCRIPTION),
            "kernels": [_to_names(kernel) for kernel in place],
            "files": files,
            "refused": refused,
        })  # fmt: skip

    @classmethod
    def load(cls, path: str | Path) -> MeasuredKernels:
        """The table that `save` wrote.

        Raises:
            MissingFileError: There is no such file.
            CorruptFileError: Damaged, another kind of file or version, or a row with a latency
                that is not positive and finite; the row is named.
        """
        value = read_json(path, kind="kernel table")
        got = value.get("format") if isinstance(value, dict) else None
        if got != FORMAT:
            raise CorruptFileError(f"{path} is no kernel table: its format is {got!r}")
        if value.get("columns") != list(DESCRIPTION):
            raise CorruptFileError(
                f"{path} describes kernels by other columns than this version; measure again"
            )
        try:
            kernels = [_from_names(row) for row in value["kernels"]]
            files = [_row(entry, kernels) for entry in value["files"]]
            refused = {_from_names(row): str(reason) for row, reason in value["refused"]}
            return cls(dict(value["identity"]), files, refused)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise CorruptFileError(f"{path} is damaged: {error}") from error


def identity_of(target: Target) -> dict[str, Any]:
    """What latencies of kernels depend on: the device, how it is used, the runtime's version."""
    version = target.profile.runtimes.get(target.runtime, "")
    if target.is_local:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(target.runtime)
    return {
        "device": target.profile.name,
        "machine": target.profile.machine,
        "runtime": target.runtime,
        "runtime_version": version,
        "precision": target.precision,
        "threads": target.threads,
        "batch_size": target.batch_size,
        "channel_block": channel_block(target),
    }


def tuple_of(kernel: KernelDescription) -> tuple[int, ...]:
    """A description as plain numbers, in the order of `DESCRIPTION`."""
    return tuple(getattr(kernel, name) for name in DESCRIPTION)


def _row(entry: Sequence[Any], kernels: Sequence[KernelDescription]) -> TimedFile:
    what, counts, latency, dispersion = entry
    ran = [kernels[_natural(i)] for i, n in counts for _ in range(_natural(n))]
    return TimedFile(
        what=what,
        kernels=tuple(ran),
        latency_ms=float(latency),
        dispersion_ms=float("nan") if dispersion is None else float(dispersion),
    )


def _natural(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no natural number")
    return value


def _to_names(kernel: KernelDescription) -> list[int | str]:
    row: list[int | str] = []
    for name in DESCRIPTION:
        value = getattr(kernel, name)
        if name == "operator":
            row.append(kernel.operator_name)
        else:
            row.append(_NAMES[name][value] if name in _NAMES else value)
    return row


def _from_names(row: Sequence[Any]) -> KernelDescription:
    if len(row) != len(DESCRIPTION):
        raise ValueError(f"a kernel has {len(DESCRIPTION)} columns, got {len(row)}")
    numbers = []
    for name, value in zip(DESCRIPTION, row, strict=True):
        if name == "operator":
            numbers.append(list(PRIMITIVES).index(value))
        elif name in _NAMES:
            numbers.append(_NAMES[name].index(value))
        else:
            numbers.append(_natural(value))
    return KernelDescription(*numbers)
