"""What a kit brings back: `results.json`, read and checked row by row.

The file was made on another machine and carried about, so nothing in it is taken on trust: every
number must be a positive time, every network of the kit must be there once, unaltered, with as
many rounds as the others. A message names the row and the field that is wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from deployment.kit.manifest import manifest_id
from deployment.kit.measure import FORMAT, RESULTS_FORMAT
from deployment.runners.timing import Timing
from records import BadInputError, CorruptFileError, MissingFileError, storage_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured of one network.

    Attributes:
        file: Its name in the kit.
        space: The place of its space in the kit's list; None for a file from elsewhere.
        genes: Its genes there.
        open_ms: Opening it took.
        first_run_ms: The first run after that took.
        rounds_ms: The samples of every round, in milliseconds for one run of the whole batch.
        preempted: Share of the samples that something else interrupted; NaN where not known.
    """

    file: str
    space: int | None
    genes: tuple[int, ...]
    open_ms: float
    first_run_ms: float
    rounds_ms: tuple[tuple[float, ...], ...]
    preempted: float

    @property
    def timing(self) -> Timing:
        """The samples as every runner gives them."""
        samples = tuple(ms for visit in self.rounds_ms for ms in visit)
        return Timing(samples_ms=samples, rounds=len(self.rounds_ms), preempted=self.preempted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Count, least and quantiles of many runs of one network, in milliseconds."""

    runs: int
    least_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sustained:
    """One network run without a pause.

    Attributes:
        file: Its name in the kit.
        seconds: For how long.
        blocks: Parts of that time, in order.
        all: All of it.
        before: Temperatures, clocks and load before it, as far as they could be read.
        after: The same after it.
    """

    file: str
    seconds: float
    blocks: tuple[Spread, ...]
    all: Spread
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Results:
    """A checked `results.json`.

    Attributes:
        manifest: The kit's manifest.
        settings: How it was measured: rounds, runs, threads, provider.
        machine: What the machine says of itself.
        measurements: One for each network of the kit, in its order.
        reference_rounds_ms: Samples of the reference network, by round.
        sustained: The sustained run; None where there was none.
        probes: What the machine reached at probes, by name; empty where there were none.
        is_complete: Whether it was measured to the end.
        sittings: How often it was begun or continued.
    """

    manifest: Mapping[str, Any]
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    measurements: tuple[Measurement, ...]
    reference_rounds_ms: tuple[tuple[float, ...], ...]
    sustained: Sustained | None
    probes: Mapping[str, float]
    is_complete: bool
    sittings: int

    @cached_property
    def timings(self) -> list[Timing]:
        """The timings, in the order of the kit's networks."""
        return [measurement.timing for measurement in self.measurements]

    @property
    def threads(self) -> int:
        """Threads of a network."""
        return int(self.settings["threads"])

    @property
    def batch_size(self) -> int:
        """Images a run."""
        return int(self.settings["batch_size"])

    def of_space(self, index: int) -> list[Measurement]:
        """The measurements of one of the kit's spaces."""
        return [m for m in self.measurements if m.space == index]


def read_results(path: str | Path) -> Results:
    """Reads and checks a `results.json`.

    Raises:
        MissingFileError: There is no such file.
        CorruptFileError: It is no result of a kit, or damaged; names the row and the field.
        StorageError: It cannot be read.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"cannot read the results {path}: there is no such file") from None
    except OSError as error:
        raise storage_error(path, error, doing="read the results") from error
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(
            f"{path} is not valid JSON ({error}): was it cut off? copy it again"
        ) from error
    try:
        return _results(value)
    except BadInputError as error:
        raise CorruptFileError(f"{path}: {error}") from error


def _results(value: Any) -> Results:
    document = _mapping(value, "the file")
    if document.get("format") != RESULTS_FORMAT:
        raise BadInputError(
            f"its format is {document.get('format')!r}, not {RESULTS_FORMAT!r}: it is no result "
            "of a kit, or one of another version of hwnas"
        )
    manifest = _manifest(_get(document, "manifest"))
    settings = _mapping(_get(document, "settings"), "settings")
    for name in ("rounds", "threads", "batch_size"):
        _whole(settings.get(name), f"settings.{name}")
    measurements = _measurements(_sequence(_get(document, "models"), "models"), manifest)
    reference = _mapping(_get(document, "reference"), "reference")
    machine = dict(_mapping(_get(document, "machine"), "machine"))
    probes = {
        name: _time(number, f"probes.{name}", what="a rate")
        for name, number in _mapping(document.get("probes") or {}, "probes").items()
    }
    return Results(
        manifest=manifest,
        settings=settings,
        machine=machine,
        measurements=measurements,
        reference_rounds_ms=_rounds(reference.get("samples_ms"), "reference.samples_ms"),
        sustained=_sustained(document.get("sustained")),
        probes=probes,
        is_complete=document.get("complete") is True,
        sittings=len(_sequence(document.get("sittings", ()), "sittings")),
    )


def _manifest(value: Any) -> Mapping[str, Any]:
    manifest = _mapping(value, "manifest")
    if manifest.get("format") != FORMAT:
        raise BadInputError(
            f"manifest.format is {manifest.get('format')!r}, not {FORMAT!r}: the kit is of "
            "another version of hwnas; export it again"
        )
    if manifest.get("id") != manifest_id(manifest):
        raise BadInputError(
            "manifest.id does not fit the manifest: the kit's list of networks was altered; "
            "export the kit again"
        )
    return manifest


def _measurements(rows: Sequence[Any], manifest: Mapping[str, Any]) -> tuple[Measurement, ...]:
    """One measurement for each network of the manifest, in its order."""
    wanted = {entry["file"]: entry for entry in manifest["models"]}
    found: dict[str, tuple[int, Measurement]] = {}
    for index, value in enumerate(rows):
        place = f"models[{index}]"
        row = _mapping(value, place)
        file = str(row.get("file"))
        if file not in wanted:
            raise BadInputError(f"{place}.file is {file!r}, which is no network of the kit")
        if file in found:
            raise BadInputError(
                f"{place} is a duplicate: {file} is in models[{found[file][0]}] already"
            )
        if row.get("sha256") != wanted[file]["sha256"]:
            raise BadInputError(
                f"{place}.sha256 differs from the kit's: {file} was altered; copy the kit again "
                "and measure again"
            )
        found[file] = index, _measurement(row, place, wanted[file])
    missing = [file for file in wanted if file not in found]
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise BadInputError(f"models lack {len(missing)} of the kit's networks: {names}")
    ordered = tuple(found[file][1] for file in wanted)
    shape = [len(visit) for visit in ordered[0].rounds_ms]
    for file, (index, measurement) in found.items():
        got = [len(visit) for visit in measurement.rounds_ms]
        if got != shape:
            raise BadInputError(
                f"models[{index}].samples_ms has {len(got)} rounds of {set(got)} samples for "
                f"{file}, the others {len(shape)} of {set(shape)}"
            )
    return ordered


def _measurement(row: Mapping[str, Any], place: str, entry: Mapping[str, Any]) -> Measurement:
    rounds = _rounds(row.get("samples_ms"), f"{place}.samples_ms")
    known = [share for share in row.get("preempted") or [] if isinstance(share, int | float)]
    return Measurement(
        file=entry["file"],
        space=entry["space"],
        genes=tuple(entry["genes"]),
        open_ms=_time(row.get("open_ms"), f"{place}.open_ms"),
        first_run_ms=_time(row.get("first_run_ms"), f"{place}.first_run_ms"),
        rounds_ms=rounds,
        preempted=sum(known) / len(known) if known else math.nan,
    )


def _sustained(value: Any) -> Sustained | None:
    if value is None:
        return None
    row = _mapping(value, "sustained")
    blocks = _sequence(row.get("blocks"), "sustained.blocks")
    return Sustained(
        file=str(row.get("file")),
        seconds=_time(row.get("seconds"), "sustained.seconds", what="a duration"),
        blocks=tuple(_spread(b, f"sustained.blocks[{i}]") for i, b in enumerate(blocks)),
        all=_spread(row.get("all"), "sustained.all"),
        before=_mapping(row.get("before") or {}, "sustained.before"),
        after=_mapping(row.get("after") or {}, "sustained.after"),
    )


def _spread(value: Any, place: str) -> Spread:
    row = _mapping(value, place)
    times = {name: _time(row.get(name), f"{place}.{name}") for name in Spread.__slots__[1:]}
    return Spread(runs=_whole(row.get("runs"), f"{place}.runs"), **times)


def _rounds(value: Any, place: str) -> tuple[tuple[float, ...], ...]:
    rounds = tuple(
        tuple(
            _time(ms, f"{place}[{r}][{k}]")
            for k, ms in enumerate(_sequence(visit, f"{place}[{r}]"))
        )
        for r, visit in enumerate(_sequence(value, place))
    )
    if not rounds or not all(rounds):
        raise BadInputError(f"{place} is empty: no whole round was measured")
    return rounds


def _time(value: Any, place: str, what: str = "a time in ms") -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0):
        raise BadInputError(f"{place} is {value!r}: {what} must be positive and finite")
    return float(value)


def _whole(value: Any, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInputError(f"{place} is {value!r}: a positive whole number is needed")
    return value


def _get(document: Mapping[str, Any], key: str) -> Any:
    if key not in document:
        raise BadInputError(f"it lacks {key!r}: was it cut off? copy it again")
    return document[key]


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadInputError(f"{place} must be an object, got {type(value).__name__}")
    return value


def _sequence(value: Any, place: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise BadInputError(f"{place} must be a list, got {type(value).__name__}")
    return value
