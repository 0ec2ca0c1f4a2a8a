"""Files of timed networks: what a cost model was fitted to, as JSON.

The file holds measurements, never the fit. Every row is checked when it is read, because a
latency that is wrong by a slip (a zero, a copied line) would bend all predictions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deployment.quantisation.quantised import MODES
from hardware_profiles import Target
from latency_models.kernel_fit import MIN_NETWORKS, Measurements
from records import BadInputError, CorruptFileError, read_json, write_json
from search_spaces import Genes, SearchSpace

FORMAT = "hwnas-latencies-1"

Values = npt.NDArray[np.float64]


def write_measurements(
    path: str | Path, target: Target, measurements: Sequence[Measurements], quantisation: str
) -> None:
    """Writes the networks of the first space, and those of the others beside them, atomically.

    A network that occurs more than once is written once, with the mean of its latencies.
    """
    own, *others = [_section(m) for m in measurements]
    value = {
        "format": FORMAT,
        "space_hash": own["space_hash"],
        "target": target.name,
        "machine": target.profile.machine,
    }
    if target.precision == "int8":
        value["quantisation"] = quantisation
    value |= {"genes": own["genes"], "latencies_ms": own["latencies_ms"]}
    if others:
        value["others"] = others
    write_json(path, value)


def read_measurements(
    path: str | Path, spaces: Sequence[SearchSpace], target: Target
) -> tuple[str, list[tuple[Genes, Values]], int]:
    """Reads what `write_measurements` wrote.

    Args:
        path: The file.
        spaces: The space that it was written for, then others whose networks are wanted too.
        target: The target that it must be of.

    Returns:
        How int8 files were made; for each space its networks and latencies; how many networks of
        spaces that were not asked for the file holds.

    Raises:
        MissingFileError: There is no such file.
        CorruptFileError: Another kind of file, of another space or target, too few networks, or a
            row that cannot be; the message names the field or row.
    """
    value = read_json(path, kind="latency measurements")
    check_header(path, value, {
        "format": FORMAT,
        "space_hash": spaces[0].hash,
        "target": target.name,
        "machine": target.profile.machine,
    })  # fmt: skip
    quantisation = value.get("quantisation", "dynamic")
    if quantisation not in MODES:
        raise CorruptFileError(f"{path}: quantisation is {quantisation!r}, not one of {MODES}")
    others = value.get("others", [])
    if not isinstance(others, list) or not all(isinstance(other, dict) for other in others):
        raise CorruptFileError(f"{path}: others must be a list of objects")
    found = [_read(path, "", value, spaces[0])]
    known = {other.get("space_hash"): place for place, other in enumerate(others)}
    for space in spaces[1:]:
        if space.hash in known:
            place = known.pop(space.hash)
            found.append(_read(path, f"others[{place}].", others[place], space))
        else:
            found.append((np.zeros((0, len(space.choices)), np.int16), np.zeros(0)))
    left_out = sum(len(others[place].get("genes", [])) for place in known.values())
    networks = sum(len(genes) for genes, _ in found)
    if networks < MIN_NETWORKS:
        raise CorruptFileError(
            f"{path} has {networks} networks, a fit needs at least {MIN_NETWORKS}: measure more"
        )
    _check_all_different(path, np.concatenate([latencies for _, latencies in found]))
    return quantisation, found, left_out


def check_header(path: str | Path, value: Any, mine: Mapping[str, Any]) -> None:
    """Refuses a file whose fields are not those of this run.

    Raises:
        CorruptFileError: Names the field, what it is and what it has to be.
    """
    for key, want in mine.items():
        got = value.get(key) if isinstance(value, dict) else None
        if got != want:
            raise CorruptFileError(
                f"{path} does not fit: its {key} is {got!r}, here it is {want!r}; calibrate again"
            )


def positive(path: str | Path, field: str, value: Any) -> float:
    """A number that is positive and finite.

    Raises:
        CorruptFileError: It is none; names the field.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise CorruptFileError(
            f"{path}: {field} is {value!r}, which is no latency (a positive number of ms); "
            "measure this network again or take the row out"
        )
    return float(value)


def _section(measurements: Measurements) -> dict[str, Any]:
    rows, first, group = np.unique(
        measurements.genes, axis=0, return_index=True, return_inverse=True
    )
    counts = np.maximum(np.bincount(group.ravel(), minlength=len(rows)), 1)
    sums = np.bincount(group.ravel(), measurements.latencies_ms, minlength=len(rows))
    order = np.argsort(first)
    return {
        "space": measurements.space.name,
        "space_hash": measurements.space.hash,
        "genes": rows[order].tolist(),
        "latencies_ms": (sums / counts)[order].tolist(),
    }


def _read(
    path: str | Path, where: str, section: Mapping[str, Any], space: SearchSpace
) -> tuple[Genes, Values]:
    """The checked networks and latencies of one space."""
    for key in ("genes", "latencies_ms"):
        if not isinstance(section.get(key), list):
            raise CorruptFileError(f"{path}: {where}{key} must be a list, one entry a network")
    rows, values = section["genes"], section["latencies_ms"]
    if len(rows) != len(values):
        raise CorruptFileError(
            f"{path}: {where}genes has {len(rows)} rows and {where}latencies_ms {len(values)}"
        )
    latencies = [
        positive(path, f"{where}latencies_ms[{i}]", value) for i, value in enumerate(values)
    ]
    seen: dict[tuple[Any, ...], int] = {}
    for i, row in enumerate(rows):
        if not isinstance(row, list):
            raise CorruptFileError(f"{path}: {where}genes[{i}] is {row!r}, not a list of genes")
        try:
            network = tuple(space.gene_space.check([row])[0].tolist())
        except (BadInputError, ValueError, TypeError) as error:
            raise CorruptFileError(f"{path}: {where}genes[{i}]: {error}") from error
        if network in seen:
            raise CorruptFileError(
                f"{path}: {where}genes[{i}] is the same network as {where}genes[{seen[network]}]; "
                "take one of the two rows out"
            )
        seen[network] = i
    genes = np.array(rows, np.int16).reshape(len(rows), len(space.choices))
    return genes, np.array(latencies, np.float64)


def _check_all_different(path: str | Path, latencies: Values) -> None:
    if np.ptp(latencies) == 0:
        raise CorruptFileError(
            f"{path}: all {len(latencies)} latencies_ms are {latencies[0]:g}; nothing can be "
            "fitted to that: was the clock too coarse?"
        )
