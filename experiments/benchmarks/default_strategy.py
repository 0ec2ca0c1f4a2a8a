"""Which strategy to take by default, chosen on all spaces but one and judged on that one.

It reads the searches of `large_space` and runs our strategies on published tables in the same way
(NAS-Bench-201 with four latencies, NAS-Bench-Macro with MACs; latencies known). In each space a
strategy's *shortfall* is by how much its mean share (`search_scores`) lacks what the best of ours
reaches there, in points of 100, averaged over 25, 50, 100 and 200 evaluations. For each space the
strategy of the least mean shortfall on all *other* spaces is picked: what it lacks on the space
itself is what to expect in a space that nobody has tried. Spaces count alike, however many cases
they have; two of them are synthetic.

Then the trade with time: in the time in which `search`'s default makes 50 evaluations, what each
strategy reaches on average over spaces, where one evaluation takes milliseconds to seconds. Shares
are interpolated in the logarithm of the number of evaluations; nothing stands where fewer than 25
would be made, and more than the budget count as the budget. A suggestion's time is processor time.
`--seeds 0` runs nothing and shows what is kept.

    python -m experiments.benchmarks.default_strategy [TABLES_FOLDER] [--seeds 10]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from experiments.benchmarks.harness import add_tables, benchmark_main, show
from experiments.benchmarks.large_space import FOLDER, SCORES
from experiments.benchmarks.search_cases import LONG_RUN, Case, large_cases, table_cases
from experiments.benchmarks.search_scores import (
    OURS,
    POINTS,
    Searched,
    all_shares,
    read_searches,
    run_missing,
)
from records import BadInputError
from strategies.by_name import DEFAULT_STRATEGY
from strategies.protocols import Floats

TABLE_SCORES = "tables.jsonl"
EVALUATION_SECONDS = (0.001, 0.01, 0.1, 1.0, 10.0)
_EVALUATIONS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What strategies reached.

    Attributes:
        methods: The strategies.
        families: The spaces in which all of them ran.
        points: After how many evaluations.
        shares: Mean shares, a `families x methods x points` array.
        searches: How many searches a strategy has in each space, the least.
        seconds: A suggestion's mean processor time over spaces, by strategy.
    """

    methods: tuple[str, ...]
    families: tuple[str, ...]
    points: tuple[int, ...]
    shares: Floats
    searches: tuple[int, ...]
    seconds: Floats

    @property
    def shortfalls(self) -> Floats:
        """By how much each strategy lacks the best, a `families x methods` array in points."""
        best = self.shares.max(axis=1, keepdims=True)
        return np.asarray(100 * (best - self.shares).mean(axis=2))

    @property
    def ranks(self) -> Floats:
        """The mean rank over points, 1 the best, a `families x methods` array."""
        return np.asarray(rankdata(-self.shares, axis=1).mean(axis=2))


def run(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Runs what is missing on tables, and shows what to choose."""
    tables: list[Case] = list(table_cases(arguments.tables))
    if not tables:
        print(f"there is no table in {arguments.tables}: the large spaces alone are compared")
    methods = arguments.methods
    plan = (
        (case, method, seed, arguments.budget)
        for seed in range(arguments.seeds)
        for case in tables
        for method in methods
    )
    run_missing(plan, arguments.folder / TABLE_SCORES)
    searches = list(read_searches(arguments.folder / TABLE_SCORES).values())
    large = list(read_searches(arguments.scores or arguments.folder / SCORES).values())
    known = {one.case.split()[0] for one in large}
    cases = large_cases(
        arguments.folder,
        [family for family in ("ofa", "hybrid", "digits") if family in known],
        arguments.supernet,
        arguments.long_run,
    )
    figures = gather([*tables, *cases], [*searches, *large], methods, arguments.budget)
    return {
        "shares": _show_shares(figures),
        "left_out": _show_left_out(figures),
        "trade": _show_trade(figures),
    }


def gather(
    cases: Sequence[Case],
    searches: Sequence[Searched],
    methods: Sequence[str],
    budget: int = POINTS[-1],
) -> Figures:
    """Mean shares of strategies in each space, over the (case, seed) that all of them ran.

    Raises:
        BadInputError: There is no space in which all strategies ran to the budget.
    """
    points = tuple(point for point in POINTS if point <= budget)
    found = {
        key: values[: len(points)]
        for key, values in all_shares(cases, searches).items()
        if key[0] in methods and len(values) >= len(points) > 0
    }
    seconds = {one.key: one.seconds for one in searches}
    families, means, counts, times = [], [], [], []
    for family in dict.fromkeys(case.family for case in cases):
        names = {case.name for case in cases if case.family == family}
        runs = dict.fromkeys((case, seed) for _, case, seed in found if case in names)
        complete = [run for run in runs if all((method, *run) in found for method in methods)]
        if not complete:
            continue
        families.append(family)
        means.append([np.mean([found[m, *run] for run in complete], axis=0) for m in methods])
        times.append([np.mean([seconds[m, *run] for run in complete]) for m in methods])
        counts.append(len(complete))
    if not families:
        raise BadInputError(
            f"no space has searches of {', '.join(methods)} with {budget} evaluations: run "
            "`python -m experiments.benchmarks.large_space` first"
        )
    return Figures(
        methods=tuple(methods),
        families=tuple(families),
        points=points,
        shares=np.array(means),
        searches=tuple(counts),
        seconds=np.array(times).mean(axis=0),
    )


def leave_one_out(figures: Figures) -> Iterator[tuple[str, str, str]]:
    """For each space: the strategy picked on the others, and the one that is best there."""
    shortfalls = figures.shortfalls
    for place, family in enumerate(figures.families):
        others = np.delete(shortfalls, place, axis=0)
        if len(others):
            picked = figures.methods[int(others.mean(axis=0).argmin())]
            yield family, picked, figures.methods[int(shortfalls[place].argmin())]


def reached_in_time(figures: Figures, evaluation_seconds: float, evaluations: int) -> Floats:
    """The mean share over spaces that each strategy reaches in the default's time.

    Args:
        figures: What strategies reached; the default is among them.
        evaluation_seconds: How long an evaluation takes.
        evaluations: How many the default makes in that time.

    Returns:
        An array as long as `methods`; NaN where fewer than the least of `POINTS` are made.
    """
    names = [OURS.get(method, method) for method in figures.methods]
    default = figures.seconds[names.index(DEFAULT_STRATEGY)]
    made = evaluations * (evaluation_seconds + default) / (evaluation_seconds + figures.seconds)
    curves = figures.shares.mean(axis=0)
    found = [
        np.interp(np.log(n), np.log(figures.points), curve)
        for n, curve in zip(made, curves, strict=True)
    ]
    return np.where(made >= figures.points[0] - 1e-9, found, np.nan)


# ---- tables ------------------------------------------------------------------------------------


def _show_shares(figures: Figures) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for f, family in enumerate(figures.families):
        for m, method in enumerate(figures.methods):
            values = figures.shares[f, m].tolist()
            records.append({
                "space": family,
                "method": method,
                "searches": figures.searches[f],
                "share": {str(p): v for p, v in zip(figures.points, values, strict=True)},
                "shortfall": float(figures.shortfalls[f, m]),
                "rank": float(figures.ranks[f, m]),
            })  # fmt: skip
    head = ["space", "strategy", "searches", *map(str, figures.points), "shortfall", "rank"]
    lines = []
    for r in records:
        cells = [f"{share:.3f}" for share in r["share"].values()]
        tail = [f"{r['shortfall']:.2f}", f"{r['rank']:.1f}"]
        lines.append([r["space"], r["method"], r["searches"], *cells, *tail])
    show("our strategies in each space", head, lines)
    return records


def _show_left_out(figures: Figures) -> list[dict[str, Any]]:
    place = {method: m for m, method in enumerate(figures.methods)}
    row = {family: f for f, family in enumerate(figures.families)}
    records = [
        {
            "left_out": family,
            "picked": picked,
            "shortfall": float(figures.shortfalls[row[family], place[picked]]),
            "best": best,
        }
        for family, picked, best in leave_one_out(figures)
    ]
    lines = [[r["left_out"], r["picked"], f"{r['shortfall']:.2f}", r["best"]] for r in records]
    show(
        "chosen on the other spaces",
        ["left out", "picked", "lacks there (points)", "best there"],
        lines,
    )
    means = figures.shortfalls.mean(axis=0), figures.ranks.mean(axis=0), figures.seconds
    show(
        "all spaces",
        ["strategy", "mean shortfall", "mean rank", "s a suggestion"],
        [
            [method, f"{lacks:.2f}", f"{rank:.1f}", f"{seconds:.3f}"]
            for method, lacks, rank, seconds in zip(figures.methods, *means, strict=True)
        ],
    )
    return records


def _show_trade(figures: Figures) -> list[dict[str, Any]]:
    if DEFAULT_STRATEGY not in [OURS.get(method) for method in figures.methods]:
        return []
    records: list[dict[str, Any]] = []
    for seconds in EVALUATION_SECONDS:
        reached = reached_in_time(figures, seconds, _EVALUATIONS).tolist()
        values = [None if np.isnan(value) else value for value in reached]
        share = dict(zip(figures.methods, values, strict=True))
        records.append({"evaluation_seconds": seconds, "share": share})
    lines = []
    for record in records:
        cells = ["" if v is None else f"{v:.3f}" for v in record["share"].values()]
        lines.append([f"{record['evaluation_seconds']:g} s", *cells])
    show(
        f"share in the time of {_EVALUATIONS} evaluations of {DEFAULT_STRATEGY}",
        ["an evaluation", *figures.methods],
        lines,
    )
    return records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The tables, strategies and seeds, where things are kept."""
    add_tables(parser, "nb201.parquet and nb_macro.parquet")
    parser.add_argument("--methods", nargs="+", choices=list(OURS), default=list(OURS))
    parser.add_argument("--seeds", type=int, default=10, help="searches per table and latency")
    parser.add_argument("--budget", type=int, default=max(POINTS), help="evaluations a search")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="that of large_space")
    parser.add_argument("--scores", type=Path, help="the searches of large_space")
    parser.add_argument("--supernet", type=Path, help="as large_space has it")
    parser.add_argument("--long-run", type=int, default=LONG_RUN, help="as large_space has it")


if __name__ == "__main__":
    benchmark_main("default_strategy", run, add_arguments)
