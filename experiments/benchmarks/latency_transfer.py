"""How well latency on an unseen device is predicted from 3, 5, 10 and 20 measured networks.

Every device of three published tables (NAS-Bench-201, FBNet, Once-for-All) is the new device once;
all devices of its chip are left out of what is known. All rows that were not measured are the test
set. Settings of the method were chosen on the devices of `TUNED` alone; the others are shown
apart. A table is noisy, most of all on phones, so beside each device stands `explained`: the rank
correlation that a ridge regression on all of this device's other latencies reaches on rows left
out of it. `--ceiling` adds boosted trees fitted to 80 % of the device's own rows, scored on the
rest. No predictor from architectures is likely to do better than the greater of the two.

Beside the method, on the same rows: MACs, ridge regression on operation counts, and ridge
regression on the other devices' tables; each on the rows that the method chose and on random
ones. On the chosen rows also the mean of the other devices' smoothed tables, which needs no
measurement, and the one of them that correlates best with what was measured.

`--scores FILE` keeps each score as a line; a run with the same file goes on where it stopped.

    python -m experiments.benchmarks.latency_transfer TABLES_FOLDER [--seeds 10] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor

from experiments.benchmarks.harness import add_tables, benchmark_main, show
from experiments.latency_tables import SPACES, LatencyTable, device_columns, read_latency_table
from latency_models.transfer import LatencyTransfer, TransferredLatencies
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
    """One prediction of one device: the figures on all rows that were not measured.

    `half_width` is the median half width of the 90 % interval in terms of the latency.
    """

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
    table: LatencyTable, transfer: LatencyTransfer, space: str, device: int, seeds: Sequence[int]
) -> Iterator[Score]:
    """All scores of one device of a table."""
    names = [column.removeprefix("lat_") for column in table.columns]
    others = [i for i, n in enumerate(names) if chip_of(n) != chip_of(names[device])]
    known = transfer.with_sources(others)
    truth = table.latency_ms[:, device]
    smooth = known.smoothed_ms / known.smoothed_ms.mean(axis=0)
    peers = {
        "MACs": _MACS[space].layer_table(table.genes).macs[:, None].astype(np.float64),
        "ridge on operation counts": np.concatenate(
            [table.features.counts, table.features.work], axis=1
        ),
        "ridge on other devices": table.latency_ms[:, others],
    }
    for seed in seeds:
        random = generator(seed, "random rows").choice(len(truth), max(SAMPLES), replace=False)
        for kind, order in (("chosen", known.choose(max(SAMPLES), seed)), ("random", random)):
            for samples in SAMPLES:
                rows = order[:samples]
                measured = truth[rows]
                if np.ptp(measured) == 0:
                    continue  # a clock too coarse for these rows
                rest = np.setdiff1d(np.arange(len(truth)), rows)
                label: dict[str, Any] = {"space": space, "device": names[device], "rows": kind,
                         "samples": samples, "seed": seed}  # fmt: skip
                found = known.predict(rows, measured)
                yield Score(
                    method="transfer",
                    **label,
                    **_errors(found.latency_ms[rest], truth[rest]),
                    **_interval(found, truth, rest),
                )
                guesses = {n: _ridge(columns, rows, measured) for n, columns in peers.items()}
                if kind == "chosen":
                    guesses["mean of other devices"] = smooth.mean(axis=1)
                    guesses["most similar device"] = smooth[
                        :, _most_similar(smooth[rows], measured)
                    ]
                for method, guess in guesses.items():
                    scaled = guess * measured.mean() / guess[rows].mean()
                    yield Score(method=method, **label, **_errors(scaled[rest], truth[rest]))


def _most_similar(sources: Values, measured: Values) -> int:
    """Which column correlates best with what was measured."""
    centred = sources - sources.mean(axis=0)
    lengths = np.sqrt((centred**2).sum(axis=0))
    products = centred.T @ (measured - measured.mean())
    return int(np.argmax(products / np.where(lengths > 0, lengths, 1.0)))


def _interval(
    found: TransferredLatencies, truth: Values, rest: npt.NDArray[np.intp]
) -> dict[str, Any]:
    inside = (found.lower_ms <= truth) & (truth <= found.upper_ms)
    size = np.maximum(found.latency_ms, _SMALL * truth.mean())
    half = (found.upper_ms - found.lower_ms) / 2 / size
    return {"coverage": float(inside[rest].mean()), "half_width": float(np.median(half[rest]))}


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
    kept = _read_scores(arguments.scores)
    for space in arguments.spaces:
        path = arguments.tables / f"{space}.parquet"
        table = read_latency_table(path, space, device_columns(path))
        transfer = LatencyTransfer(table.features, table.genes, table.latency_ms)
        names = [column.removeprefix("lat_") for column in table.columns]
        reachable = {"explained": dict(zip(names, _explained(table), strict=True))}
        if arguments.ceiling:
            reachable["own rows, 80 %"] = dict(zip(names, _own_rows(table), strict=True))
        scores: list[Score] = []
        for device, name in enumerate(names):
            mine = [s for s in kept if (s.space, s.device) == (space, name)]
            mine = [s for s in mine if s.seed < arguments.seeds]
            todo = sorted(set(range(arguments.seeds)) - {s.seed for s in mine})
            for seed in todo:
                new = list(score_device(table, transfer, space, device, [seed]))
                _keep_scores(arguments.scores, new)
                mine += new
            scores += mine
            _show_device(mine, name, {kind: known[name] for kind, known in reachable.items()})
        figures[space] = {
            **reachable,
            "devices": _per_device(scores),
            "means": _show_means(space, scores, reachable),
        }
    return figures


def _read_scores(path: Path | None) -> list[Score]:
    if path is None or not path.exists():
        return []
    return [Score(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _keep_scores(path: Path | None, scores: Sequence[Score]) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(asdict(score)) + "\n" for score in scores))


def _explained(table: LatencyTable) -> list[float]:
    """For each device the rank correlation of a regression on all other rows."""
    guess = left_out(smoothing_basis(table.features), table.latency_ms)
    return [
        float(spearmanr(guess[:, d], table.latency_ms[:, d]).statistic)
        for d in range(guess.shape[1])
    ]


def _own_rows(table: LatencyTable) -> list[float]:
    """For each device that of boosted trees fitted to 80 % of its rows, on the other rows."""
    f = table.features
    columns = np.concatenate([f.counts, f.work, f.choices, f.numbers], axis=1)
    order = generator(0, "own rows").permutation(len(columns))
    fitted, rest = np.split(order, [int(0.8 * len(order))])
    found = []
    for truth in table.latency_ms.T:
        trees = HistGradientBoostingRegressor(
            max_iter=300, learning_rate=0.08, max_leaf_nodes=15, l2_regularization=1.0
        )
        guess = trees.fit(columns[fitted], truth[fitted]).predict(columns[rest])
        found.append(float(spearmanr(guess, truth[rest]).statistic))
    return found


def _show_device(scores: Sequence[Score], device: str, reachable: Mapping[str, float]) -> None:
    mine = [s for s in scores if s.method == "transfer" and s.rows == "chosen"]
    parts = [f"{n}: {_text(_mean(s.spearman for s in mine if s.samples == n))}" for n in SAMPLES]
    known = ", ".join(f"{kind} {value:.3f}" for kind, value in reachable.items())
    print(f"{device:18s} {'  '.join(parts)}  ({known})", flush=True)


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


def _show_means(
    space: str, scores: Sequence[Score], reachable: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Means over devices, over the tuned and the held-out half, and the worst device."""
    records: list[dict[str, Any]] = []
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
    for kind, known in reachable.items():
        worst = min(known, key=known.__getitem__)
        records.append({
            "method": kind, "rows": "own", "samples": None, "spearman": _mean(known.values()),
            "tuned": _mean(v for d, v in known.items() if chip_of(d) in TUNED),
            "held_out": _mean(v for d, v in known.items() if chip_of(d) not in TUNED),
            "worst_device": worst, "worst": known[worst], "mape": None, "coverage": None,
            "half_width": None,
        })  # fmt: skip
    head = ["method", "rows", "N", "Spearman", "tuned", "held out", "worst", "MAPE", "in 90 %"]
    lines = [
        [r["method"], r["rows"], r["samples"] or "", *(_text(r[k]) for k in ("spearman", "tuned",
         "held_out")), f"{r['worst']:.3f} {r['worst_device']}",
         "" if r["mape"] is None else f"{r['mape']:.1%}",
         "" if r["coverage"] is None else f"{r['coverage']:.0%}"]
        for r in records
    ]  # fmt: skip
    show(f"{space}: latency of an unseen device", head, lines)
    return records


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else None


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The tables, how many seeds, which spaces, what else."""
    add_tables(parser, "nb201, fbnet, ofa.parquet")
    parser.add_argument("--seeds", type=int, default=10, help="choices of rows per device")
    parser.add_argument("--spaces", nargs="+", choices=list(SPACES), default=list(SPACES))
    parser.add_argument("--ceiling", action="store_true", help="fit own rows of each device too")
    parser.add_argument("--scores", type=Path, help="a file of scores to go on with")


if __name__ == "__main__":
    benchmark_main("latency_transfer", run, add_arguments)
