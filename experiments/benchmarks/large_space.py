"""How soon a search finds the front of a space too large to enumerate, against peers.

Two spaces have a *synthetic* accuracy (`synthetic_accuracy`: made up, drawn by the seed of the
search, with noise of 0.2 points), one the accuracies of a supernet trained on digits; latencies
are modelled for two devices each (`search_cases`). Error against latency, with and without a limit
on latency. After 25, 50, 100 and 200 evaluations: the hypervolume of the networks that a user
would take, without noise, as a share of that of the best front known (`search_scores`); means with
95 % intervals over cases and seeds, the mean rank, and the processor time of a suggestion.

Ours run through `search` as by default, in batches of eight; peers run alone, one network at a
time. `PredictorGuided`, `Bayesian` and BoTorch know latencies before a network is evaluated; the
others, marked "told", are told them with the error, but what misses the limit costs nobody an
evaluation. Optuna's Gaussian process and BoTorch, which take seconds for a suggestion, run up to
100 evaluations with at most `SLOW_SEEDS` seeds. BoTorch's acquisition is maximised over bred
candidates, see `large_space_peers`.

Everything is kept under `--folder`: the supernet (or `--supernet FILE`), its accuracies, the
reference fronts (NSGA-II with 200,000 evaluations of the function without noise, for each function
and device), and one line a search in `scores.jsonl` (or `--scores FILE`); run again, it goes on
where it stopped.

    python -m experiments.benchmarks.large_space [--seeds 10] [--budget 200] [--spaces ofa hybrid]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.harness import benchmark_main, show
from experiments.benchmarks.large_space_peers import KNOWS_LATENCY, PEERS, SLOW, is_installed
from experiments.benchmarks.search_cases import LONG_RUN, TARGETS, Case, large_cases
from experiments.benchmarks.search_scores import (
    OURS,
    POINTS,
    Searched,
    all_shares,
    mean_and_interval,
    ranks,
    run_missing,
)

FOLDER = Path("runs/large_space")
SCORES = "scores.jsonl"
SLOW_SEEDS = 3
SLOW_BUDGET = 100
_KNOWN = ("PredictorGuided", "Bayesian", *KNOWS_LATENCY)


def run(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Runs what is missing, and shows the tables."""
    methods = [m for m in arguments.methods if m in OURS or is_installed(m)]
    for method in arguments.methods:
        if method not in methods:
            print(f"{method} is not installed: it is left out")
    cases = large_cases(arguments.folder, arguments.spaces, arguments.supernet, arguments.long_run)
    scores = arguments.scores or arguments.folder / SCORES
    searches = run_missing(planned(cases, methods, arguments.seeds, arguments.budget), scores)
    return {
        family: {
            "all": show_means(mine, searches, methods, f"{family}, all"),
            "limited": show_means(
                [c for c in mine if c.limit() < np.inf], searches, methods, f"{family}, limited"
            ),
            "slow": show_slow(mine, searches, methods, family),
        }
        for family in arguments.spaces
        if (mine := [case for case in cases if case.family == family])
    }


def planned(
    cases: Sequence[Case], methods: Sequence[str], seeds: int, budget: int
) -> Iterator[tuple[Case, str, int, int]]:
    """What to run, seed by seed: slow peers with fewer seeds and a smaller budget."""
    for seed in range(seeds):
        for case in cases:
            for method in methods:
                if method not in SLOW:
                    yield case, method, seed, budget
                elif seed < SLOW_SEEDS:
                    yield case, method, seed, min(SLOW_BUDGET, budget)


def show_slow(
    cases: Sequence[Case], searches: Sequence[Searched], methods: Sequence[str], family: str
) -> list[dict[str, Any]]:
    """All methods on the seeds of the slow ones, where any of these ran."""
    if not set(methods) & set(SLOW):
        return []
    early = [s for s in searches if s.seed < SLOW_SEEDS]
    return show_means(cases, early, methods, f"{family}, the first {SLOW_SEEDS} seeds")


def show_means(
    cases: Sequence[Case], searches: Sequence[Searched], methods: Sequence[str], title: str
) -> list[dict[str, Any]]:
    """Means over cases and seeds, and ranks at the last point that all methods shown reach."""
    found = all_shares(cases, searches)
    names = {case.name for case in cases}
    records: list[dict[str, Any]] = []
    for method in methods:
        mine = [found[s.key] for s in searches if s.method == method and s.case in names]
        if not mine:
            continue
        reached = min(map(len, mine))
        columns = [mean_and_interval([row[k] for row in mine]) for k in range(reached)]
        seconds = [s.seconds for s in searches if s.method == method and s.case in names]
        records.append({
            "method": method,
            "latency": "known" if method in _KNOWN else "told",
            "searches": len(mine),
            "share": {str(p): m for p, (m, _) in zip(POINTS, columns, strict=False)},
            "interval": {str(p): h for p, (_, h) in zip(POINTS, columns, strict=False)},
            "seconds": float(np.mean(seconds)),
        })  # fmt: skip
    shown = [record["method"] for record in records]
    points = min((len(record["share"]) for record in records), default=0)
    last = POINTS[points - 1] if points else 0
    rank = ranks(found, shown, last) if points else {}
    for record in records:
        record["rank"] = rank.get(record["method"])
    lines = [_line(record) for record in records]
    head = [
        "method",
        "latency",
        "searches",
        *map(str, POINTS),
        f"rank at {last}",
        "s a suggestion",
    ]
    synthetic = ", synthetic accuracy" if title.split(",")[0] != "digits" else ""
    show(f"share of the best front known, {title}{synthetic}", head, lines)
    return records


def _line(record: Mapping[str, Any]) -> list[object]:
    widths = record["interval"]
    cells = [
        f"{share:.3f}" + ("" if widths[p] is None else f" ± {widths[p]:.3f}")
        for p, share in record["share"].items()
    ]
    cells += [""] * (len(POINTS) - len(cells))
    rank = "" if record["rank"] is None else f"{record['rank']:.1f}"
    count = record["searches"]
    return [record["method"], record["latency"], count, *cells, rank, f"{record['seconds']:.3f}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The spaces and methods, how many seeds and evaluations, where things are kept."""
    methods = [*OURS, *PEERS]
    parser.add_argument("--spaces", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--seeds", type=int, default=10, help="searches per case")
    parser.add_argument("--budget", type=int, default=max(POINTS), help="evaluations a search")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where things are kept")
    parser.add_argument("--scores", type=Path, help="the file of searches; in the folder if none")
    parser.add_argument("--supernet", type=Path, help="a trained supernet for digits")
    parser.add_argument(
        "--long-run", type=int, default=LONG_RUN, help="evaluations for a reference front"
    )


if __name__ == "__main__":
    benchmark_main("large_space", run, add_arguments)
