"""How soon a search finds the front of a published table, against random search and peers.

NAS-Bench-201, error on cifar100 against the latency of each device in turn. After 25, 50, 100 and
200 evaluations: the hypervolume of what was evaluated, as a share of that of the table's true
front. The reference point is the ideal one plus 1.1 times the distance to the nadir, of the true
front, in percent of error and in milliseconds.

Ours runs with latencies known (of all rows, as a cost model gives them) and learned (of evaluated
rows alone). The peers are not told latencies: pymoo's and Optuna's NSGA-II (population 20), random
search and Optuna's TPE on all devices; Optuna's Gaussian process and BoTorch's qLogNEHVI, which
take long, on `SLOW_DEVICES`, up to 100 evaluations, with at most `SLOW_SEEDS` seeds. BoTorch's
model is a Matern process on one-hot choices, its candidates are all cells. A peer that evaluates a
cell again is not charged for it.

A mean over all searches has a 95 % interval by the bootstrap over devices (Efron & Tibshirani, An
introduction to the bootstrap, 1993): these are drawn anew, each with all its searches. So it says
how far another choice of devices and seeds might have moved the mean.

`--scores FILE` keeps each run as a line; a run with the same file goes on where it stopped. Lines
of ours say by which settings they were made, and are left out and run anew where these are others.

    python -m experiments.benchmarks.tabular_search TABLES_FOLDER --scores FILE [--seeds 10]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.benchmarks.harness import add_tables, benchmark_main, show
from experiments.benchmarks.tabular_peers import PEERS, Evaluate
from experiments.latency_tables import device_columns
from experiments.search_tables import SearchTable, read_search_table
from experiments.tabular_search import search_table, settings
from records import content_hash, generator
from strategies import hypervolume, is_non_dominated

POINTS = (25, 50, 100, 200)
SLOW = ("Optuna GP", "BoTorch qLogNEHVI")
SLOW_DEVICES = ("lat_1080ti_32", "lat_2080ti_256", "lat_silver_4114", "lat_samsung_s7")
SLOW_SEEDS = 5
SLOW_BUDGET = 100
OURS = {"ours, latency known": True, "ours, latency learned": False}
ACCURACY = "cifar100_acc"

_DRAWS = 4000

Rows = list[int]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One search.

    Attributes:
        method: Who searched.
        device: The latency column.
        seed: The seed.
        shares: The share of the true front's hypervolume after each of `POINTS` that was reached.
        seconds: The processor time of one suggestion, on average.
        settings: Of ours, what tells its settings from others (`settings_key`); else empty.
    """

    method: str
    device: str
    seed: int
    shares: tuple[float, ...]
    seconds: float
    settings: str = ""


def settings_key(table: SearchTable, method: str) -> str:
    """What tells the settings that a method of ours has now from others; empty for a peer."""
    if method not in OURS:
        return ""
    text = settings(table, latency_known=OURS[method])
    return content_hash(text)[:12]


def share_of_front(table: SearchTable) -> Callable[[Sequence[int]], float]:
    """What tells the share of the true front's hypervolume that some rows reach."""
    points = np.column_stack([100 - table.accuracy, table.latency_ms])
    front = points[is_non_dominated(points)]
    ideal, nadir = front.min(axis=0), front.max(axis=0)
    reference = ideal + 1.1 * (nadir - ideal)
    whole = hypervolume(front, reference)
    return lambda rows: hypervolume(points[list(rows)], reference) / whole


def search_once(table: SearchTable, method: str, device: str, seed: int, budget: int) -> Score:
    """Runs one method once."""
    began = time.process_time()
    if method in OURS:
        rows = search_table(table, latency_known=OURS[method], budget=budget, seed=seed)
    else:
        rows = distinct_rows(table, PEERS[method], budget, seed)
    seconds = (time.process_time() - began) / len(rows)
    share = share_of_front(table)
    shares = tuple(share(rows[:point]) for point in POINTS if point <= len(rows))
    return Score(
        method=method,
        device=device,
        seed=seed,
        shares=shares,
        seconds=seconds,
        settings=settings_key(table, method),
    )


class _BudgetSpentError(Exception):
    """Ends a peer's search."""


def distinct_rows(
    table: SearchTable, peer: Callable[[SearchTable, Evaluate, int], None], budget: int, seed: int
) -> Rows:
    """The distinct rows that a peer evaluates, in order; it is stopped when there are enough."""
    place = {tuple(row): i for i, row in enumerate(table.genes.tolist())}
    seen: dict[int, None] = {}

    def evaluate(genes: npt.ArrayLike) -> tuple[float, float]:
        row = place[tuple(int(g) for g in np.asarray(genes))]
        if row not in seen and len(seen) == budget:
            raise _BudgetSpentError
        seen[row] = None
        return float(100 - table.accuracy[row]), float(table.latency_ms[row])

    with suppress(_BudgetSpentError):
        peer(table, evaluate, seed)
    return list(seen)


def run(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Runs what is missing, and shows means over devices and seeds."""
    path = arguments.tables / "nb201.parquet"
    devices = arguments.devices or list(device_columns(path))
    first = read_search_table(path, "nb201", ACCURACY, devices[0])
    keys = {method: settings_key(first, method) for method in (*OURS, *PEERS)}
    kept = [s for s in _read_scores(arguments.scores) if s.settings == keys.get(s.method)]
    if importlib.util.find_spec("botorch") is None:
        print("BoTorch is not installed: it is left out")
    for seed in range(arguments.seeds):
        for device in devices:
            table = read_search_table(path, "nb201", ACCURACY, device)
            for method, budget in _planned(arguments.methods, device, seed, arguments.budget):
                if any((s.method, s.device, s.seed) == (method, device, seed) for s in kept):
                    continue
                score = search_once(table, method, device, seed, budget)
                kept.append(score)
                _keep_score(arguments.scores, score)
                text = "  ".join(f"{share:.3f}" for share in score.shares)
                print(f"{seed} {device:18s} {method:22s} {text}", flush=True)
    mine = [s for s in kept if s.device in devices and s.seed < arguments.seeds]
    return {"means": _show(mine, "all devices"), "slow": _show(_comparable(mine), "slow devices")}


def _planned(
    methods: Sequence[str], device: str, seed: int, budget: int
) -> Iterator[tuple[str, int]]:
    for method in methods:
        if method not in SLOW:
            yield method, budget
        elif (
            device in SLOW_DEVICES
            and seed < SLOW_SEEDS
            and (method != SLOW[1] or importlib.util.find_spec("botorch") is not None)
        ):
            yield method, min(SLOW_BUDGET, budget)


def _comparable(scores: Sequence[Score]) -> list[Score]:
    """The searches on the devices and seeds of the slow peers."""
    return [s for s in scores if s.device in SLOW_DEVICES and s.seed < SLOW_SEEDS]


def _show(scores: Sequence[Score], title: str) -> list[dict[str, Any]]:
    """Means over devices and seeds; a point that some search did not reach is left out."""
    records: list[dict[str, Any]] = []
    for method in dict.fromkeys(s.method for s in scores):
        mine = [s for s in scores if s.method == method]
        reached = min(len(s.shares) for s in mine)
        shares = np.array([s.shares[:reached] for s in mine])
        of = [s.device for s in mine]
        points = [str(point) for point in POINTS]
        records.append({
            "method": method,
            "searches": len(mine),
            "share": dict(zip(points, shares.mean(axis=0).tolist(), strict=False)),
            "interval": dict(zip(points, intervals(shares, of).tolist(), strict=False)),
            "least": dict(zip(points, shares.min(axis=0).tolist(), strict=False)),
            "seconds": float(np.mean([s.seconds for s in mine])),
        })  # fmt: skip
    _table(f"share of the front's hypervolume and 95 % interval, {title}", records, _mean_cell)
    _table(f"the least share, {title}", records, lambda r, p: f"{r['least'][p]:.3f}")
    return records


def _table(
    title: str, records: Sequence[Mapping[str, Any]], cell: Callable[[Mapping[str, Any], str], str]
) -> None:
    lines = []
    for r in records:
        cells = [cell(r, point) for point in r["share"]]
        cells += [""] * (len(POINTS) - len(cells))
        lines.append([r["method"], r["searches"], *cells, f"{r['seconds']:.3f}"])
    show(title, ["method", "searches", *(str(point) for point in POINTS), "s each"], lines)


def _mean_cell(record: Mapping[str, Any], point: str) -> str:
    low, high = record["interval"][point]
    return f"{record['share'][point]:.3f} ({low:.3f}-{high:.3f})"


def intervals(shares: npt.NDArray[np.float64], devices: Sequence[str]) -> Floats:
    """95 % intervals of the means of the columns, by the bootstrap over devices.

    Args:
        shares: A row for each search.
        devices: The device of each row. Where all are one, its searches are drawn instead.

    Returns:
        A row of (low, high) for each column.
    """
    known = sorted(set(devices))
    place = np.array([known.index(device) for device in devices])
    if len(known) == 1:
        place = np.arange(len(shares))
    units = int(place.max()) + 1
    sums = np.zeros((units, shares.shape[1]))
    np.add.at(sums, place, shares)
    counts = np.bincount(place, minlength=units)
    drawn = generator(0, "bootstrap of devices").integers(units, size=(_DRAWS, units))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)[:, None]
    return np.asarray(np.quantile(means, [0.025, 0.975], axis=0).T)


def _read_scores(path: Path | None) -> list[Score]:
    if path is None or not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Score(**{**line, "shares": tuple(line["shares"])}) for line in lines]


def _keep_score(path: Path | None, score: Score) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(score)) + "\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The tables, which methods and devices, how many seeds and evaluations."""
    add_tables(parser, "nb201.parquet")
    methods = [*OURS, *PEERS]
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--devices", nargs="+", help="latency columns; all by default")
    parser.add_argument("--seeds", type=int, default=10, help="searches per device")
    parser.add_argument("--budget", type=int, default=max(POINTS), help="evaluations a search")
    parser.add_argument("--scores", type=Path, help="a file of searches to go on with")


if __name__ == "__main__":
    benchmark_main("tabular_search", run, add_arguments)
