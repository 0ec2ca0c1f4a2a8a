"""How well latency on an unseen device is predicted from 3, 5, 10 and 20 measured networks.

Every device of three published tables (NAS-Bench-201, FBNet, Once-for-All) is the new device once;
all devices of its chip are left out of what is known. All rows that were not measured are the test
set. Settings of the method were chosen on the devices of `TUNED` alone; the others are shown
apart. A table is noisy, most of all on phones, so beside each device stands `explained`: the rank
correlation that a regression on thousands of this device's own latencies reaches on rows left out
of it. No predictor from architectures does better by more than chance.

Beside the method, on the same rows: MACs, ridge regression on operation counts, and ridge
regression on the other devices' tables; each on the rows that the method chose and on random ones.

    python -m experiments.benchmarks.latency_transfer TABLES_FOLDER [--seeds 10] [--json FILE]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from experiments.benchmarks.harness import benchmark_main, show
from experiments.latency_tables import SPACES, LatencyTable, device_columns, read_latency_table
from latency_models.transfer import LatencyTransfer
from latency_models.transfer.smoothing import left_out, smoothing_basis
from records import generator
from search_spaces.standard import FBNetSpace, NASBench201, OFAMobileNetV3

TUNED = ("1080ti", "2080ti", "v100", "silver_4114", "samsung_a50", "pixel3")
"""The chips on whose devices settings were chosen; all others are held out."""

SAMPLES = (3, 5, 10, 20)
Values = npt.NDArray[np.float64]

_MACS = {"nb201": NASBench201(), "fbnet": FBNetSpace.cifar100(), "ofa": OFAMobileNetV3()}
_RIDGE = 0.1  # of standardised columns, per measured row
_SMALL = 0.1  # errors are relative to the latency, at least to this share of the device's mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One prediction of one device: the figures on all rows that were not measured."""

    space: str
    device: str
    method: str
    rows: str
    samples: int
    seed: int
    spearman: float
    mape: float
    coverage: float | None = None
    half_width: float | None = None


def chip_of(device: str) -> str:
    """The chip of a device's name: the name without its batch size.

    >>> chip_of("titan_xp_32"), chip_of("essential_ph_1")
    ('titan_xp', 'essential_ph_1')
    """
    name, _, batch = device.rpartition("_")
    return name if batch in ("1", "32", "64", "256") and name != "essential_ph" else device


def score_device(
    table: LatencyTable, transfer: LatencyTransfer, space: str, device: int, seeds: int
) -> Iterator[Score]:
    """All scores of one device of a table."""
    names = [column.removeprefix("lat_") for column in table.columns]
    others = [i for i, n in enumerate(names) if chip_of(n) != chip_of(names[device])]
    known = transfer.with_sources(others)
    truth = table.latency_ms[:, device]
    macs = _MACS[space].layer_table(table.genes).macs[:, None].astype(np.float64)
    peers = {
        "MACs": macs,
        "ridge on operation counts": np.concatenate(
            [table.features.counts, table.features.work], axis=1
        ),
        "ridge on other devices": table.latency_ms[:, others],
    }
    for seed in range(seeds):
        random = generator(seed, "random rows").choice(len(truth), max(SAMPLES), replace=False)
        for kind, order in (("chosen", known.choose(max(SAMPLES), seed)), ("random", random)):
            for samples in SAMPLES:
                rows = order[:samples]
                rest = np.setdiff1d(np.arange(len(truth)), rows)
                if np.ptp(truth[rows]) == 0:
                    continue  # a clock too coarse for these rows
                label: dict[str, Any] = {"space": space, "device": names[device], "rows": kind,
                         "samples": samples, "seed": seed}  # fmt: skip
                found = known.predict(rows, truth[rows])
                inside = (found.lower_ms <= truth) & (truth <= found.upper_ms)
                half = (found.upper_ms - found.lower_ms) / 2 / found.latency_ms
                yield Score(
                    method="transfer",
                    **label,
                    **_errors(found.latency_ms[rest], truth[rest]),
                    coverage=float(inside[rest].mean()),
                    half_width=float(np.median(half[rest])),
                )
                for method, columns in peers.items():
                    if columns.shape[1]:
                        guess = _ridge(columns, rows, truth[rows])
                        yield Score(method=method, **label, **_errors(guess[rest], truth[rest]))


def _errors(predicted: Values, truth: Values) -> dict[str, Any]:
    size = np.maximum(truth, _SMALL * truth.mean())
    rank = spearmanr(predicted, truth).statistic if np.ptp(predicted) > 0 else 0.0
    return {"spearman": float(rank), "mape": float(np.mean(np.abs(predicted - truth) / size))}


def _ridge(columns: Values, rows: npt.NDArray[np.intp], measured: Values) -> Values:
    """Ridge regression on standardised columns, fitted to a few rows."""
    spread = columns.std(axis=0)
    design = (columns - columns[rows].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    kernel = design[rows] @ design[rows].T + _RIDGE * len(rows) * np.eye(len(rows))
    mean = measured.mean()
    return np.asarray(mean + design @ (design[rows].T @ np.linalg.solve(kernel, measured - mean)))


def run(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Scores every device of every table and shows means over devices and seeds."""
    figures: dict[str, Any] = {"tuned_chips": TUNED, "seeds": arguments.seeds}
    for space in arguments.spaces:
        path = arguments.tables / f"{space}.parquet"
        table = read_latency_table(path, space, device_columns(path))
        transfer = LatencyTransfer(table.features, table.genes, table.latency_ms)
        explained = _explained(table)
        scores: list[Score] = []
        for device, column in enumerate(table.columns):
            scores += score_device(table, transfer, space, device, arguments.seeds)
            _show_device(scores, column.removeprefix("lat_"), explained[device])
        figures[space] = {
            "explained": dict(zip(table.columns, explained, strict=True)),
            "devices": _per_device(scores),
            "means": _show_means(space, scores),
        }
    return figures


def _explained(table: LatencyTable) -> list[float]:
    """For each device the rank correlation of a regression on all other rows."""
    guess = left_out(smoothing_basis(table.features), table.latency_ms)
    return [
        float(spearmanr(guess[:, d], table.latency_ms[:, d]).statistic)
        for d in range(guess.shape[1])
    ]


def _show_device(scores: Sequence[Score], device: str, explained: float) -> None:
    mine = [s for s in scores if s.device == device and s.method == "transfer"]
    parts = [
        f"{n}: {_mean(s.spearman for s in mine if s.samples == n and s.rows == 'chosen'):.3f}"
        for n in SAMPLES
    ]
    print(f"{device:18s} {'  '.join(parts)}  (explained {explained:.3f})", flush=True)


def _groups(scores: Sequence[Score]) -> dict[tuple[str, str, int], list[Score]]:
    groups: dict[tuple[str, str, int], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.method, score.rows, score.samples), []).append(score)
    return groups


def _per_device(scores: Sequence[Score]) -> list[dict[str, Any]]:
    records = []
    for (method, rows, samples), group in _groups(scores).items():
        for device in dict.fromkeys(s.device for s in group):
            mine = [s for s in group if s.device == device]
            records.append({
                "device": device, "method": method, "rows": rows, "samples": samples,
                "is_tuned": chip_of(device) in TUNED,
                "spearman": _mean(s.spearman for s in mine),
                "mape": _mean(s.mape for s in mine),
                "coverage": _mean(s.coverage for s in mine),
            })  # fmt: skip
    return records


def _show_means(space: str, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Means over devices, over the tuned and the held-out half, and the worst device."""
    records = []
    for (method, rows, samples), group in _groups(scores).items():
        by_device: dict[str, list[float]] = {}
        for score in group:
            by_device.setdefault(score.device, []).append(score.spearman)
        means = {device: float(np.mean(values)) for device, values in by_device.items()}
        worst = min(means, key=means.__getitem__)
        records.append({
            "method": method, "rows": rows, "samples": samples,
            "spearman": _mean(means.values()),
            "tuned": _mean(v for d, v in means.items() if chip_of(d) in TUNED),
            "held_out": _mean(v for d, v in means.items() if chip_of(d) not in TUNED),
            "worst_device": worst, "worst": means[worst],
            "mape": _mean(s.mape for s in group),
            "coverage": _mean(s.coverage for s in group),
            "half_width": _mean(s.half_width for s in group),
        })  # fmt: skip
    head = ["method", "rows", "N", "Spearman", "tuned", "held out", "worst", "MAPE", "in 90 %"]
    lines = [
        [r["method"], r["rows"], r["samples"], *(f"{r[k]:.3f}" for k in ("spearman", "tuned",
         "held_out")), f"{r['worst']:.3f} {r['worst_device']}", f"{r['mape']:.1%}",
         "" if r["coverage"] is None else f"{r['coverage']:.0%}"]
        for r in records
    ]  # fmt: skip
    show(f"{space}: latency of an unseen device", head, lines)
    return records


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The tables, how many seeds, which spaces."""
    parser.add_argument("tables", type=Path, help="folder with nb201, fbnet, ofa.parquet")
    parser.add_argument("--seeds", type=int, default=10, help="choices of rows per device")
    parser.add_argument("--spaces", nargs="+", choices=list(SPACES), default=list(SPACES))


if __name__ == "__main__":
    benchmark_main("latency_transfer", run, add_arguments)
