"""Accuracy of all networks of a table from few of them, beside scikit-learn's own regressions.

For each table, number of training rows and seed: Kendall's tau between prediction and accuracy
over all rows that were not trained on. `stacked` is `predictors.StackedPredictor`, as
`python -m experiments.accuracy_transfer` uses it, `boosted` is `predictors.BoostedTrees`,
`pretrained` is `predictors.PretrainedPredictor` on the statistics that it has by itself; peers are
scikit-learn's Gaussian process, random forest and gradient boosting on one-hot genes, and the
order by multiply-accumulates, which needs no training at all. Rows are drawn at random; the seeds
are the same for all. The interval of the mean over seeds is 1.96 standard errors either way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from experiments.accuracy_tables import AccuracyTable, read_accuracy_table
from experiments.benchmarks.harness import add_tables, benchmark_main, show
from predictors import (
    BoostedTrees,
    Predictor,
    PretrainedPredictor,
    StackedPredictor,
    quality,
    rank_quality,
)
from records import parse_json, write_json
from search_spaces import Genes, SearchSpace

Vector = npt.NDArray[np.float64]

TABLES = {
    "nb201": ("nb201", "cifar100_acc"),
    "nb_macro": ("nb_macro", "mean_acc"),
}
"""For each space the file and the accuracy."""

OWN: Mapping[str, Callable[[SearchSpace, int], Predictor]] = {
    "stacked": lambda space, seed: StackedPredictor(space, seed=seed),
    "boosted": lambda space, seed: BoostedTrees(space, seed=seed),
    "pretrained": lambda space, seed: PretrainedPredictor(space, seed=seed),
}
"""What makes each of ours, from a space and a seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one method was worth, once.

    Attributes:
        space: The table.
        column: The accuracy.
        method: Who predicted.
        rows: On how many rows it was fitted.
        seed: Which rows.
        tau: Kendall's tau over all other rows.
        coverage: The share of them inside the 90 % interval; None where there is none.
    """

    space: str
    column: str
    method: str
    rows: int
    seed: int
    tau: float
    coverage: float | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What was computed."""
        return (self.space, self.column, self.method, self.rows, self.seed)


def peers(seed: int) -> Mapping[str, Any]:
    """Scikit-learn's regressions as one would take them off the shelf."""
    kernel = ConstantKernel() * RBF() + WhiteKernel(0.1)
    return {
        "sklearn GP": GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed),
        "sklearn forest": RandomForestRegressor(300, random_state=seed),
        "sklearn boosting": GradientBoostingRegressor(random_state=seed),
    }


def score(
    table: AccuracyTable, space: str, column: str, method: str, rows: int, seed: int
) -> Score:
    """Fits a method on some rows of a table and judges it on all others."""
    order = np.random.default_rng(seed).permutation(len(table.genes))
    seen, others = order[:rows], np.sort(order[rows:])
    genes, accuracy = table.genes, table.accuracy
    coverage = None
    if method in OWN:
        model = OWN[method](table.space, seed).fit(genes[seen], accuracy[seen])
        mean, coverage = _judged(model, genes[others], accuracy[others])
    elif method == "MACs":
        mean = table.space.layer_table(genes[others]).macs.astype(np.float64)
    else:
        columns = one_hot(table)
        mean = peers(seed)[method].fit(columns[seen], accuracy[seen]).predict(columns[others])
    tau = rank_quality(mean, accuracy[others]).kendall_tau
    return Score(
        space=space, column=column, method=method, rows=rows, seed=seed, tau=tau, coverage=coverage
    )


def _judged(model: Predictor, genes: Genes, accuracy: Vector) -> tuple[Vector, float]:
    """What is predicted, and the share of accuracies inside the 90 % interval."""
    if isinstance(model, StackedPredictor):
        found = model.interval(genes)  # its ends need not be equally far away
        return found.mean, float(((accuracy >= found.lower) & (accuracy <= found.upper)).mean())
    prediction = model.predict(genes)
    return prediction.mean, quality(prediction, accuracy).coverage_90


def one_hot(table: AccuracyTable) -> Vector:
    """Every value of every gene as a column of 0 and 1."""
    sizes = table.space.gene_space.sizes
    columns = [table.genes[:, j, None] == np.arange(size) for j, size in enumerate(sizes)]
    return np.concatenate(columns, axis=1).astype(np.float64)


def run(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Scores every method that is not scored yet, and shows the means."""
    known = _read_scores(arguments.scores)
    methods = (*arguments.methods,)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for space in arguments.spaces:
        name, column = TABLES[space]
        column = arguments.accuracy or column
        table = read_accuracy_table(arguments.tables / f"{name}.parquet", space, column)
        for seed in seeds:
            for rows in arguments.rows:
                for method in methods:
                    key = (space, column, method, rows, seed)
                    if key not in known:
                        known[key] = score(table, space, column, method, rows, seed)
                        _write_scores(arguments.scores, known)
    wanted = [
        s
        for s in known.values()
        if s.space in arguments.spaces and s.method in methods and s.seed in seeds
    ]
    return {"means": [r for space in arguments.spaces for r in _show(space, wanted)]}


def _show(space: str, scores: list[Score]) -> list[dict[str, Any]]:
    """Means over seeds with their intervals, a line a method."""
    mine = [s for s in scores if s.space == space]
    sizes = sorted({s.rows for s in mine})
    lines, records = [], []
    for column in sorted({s.column for s in mine}):
        for method in dict.fromkeys(s.method for s in mine):
            cells, covered = [], []
            for rows in sizes:
                group = [s for s in mine if (s.column, s.method, s.rows) == (column, method, rows)]
                taus = [s.tau for s in group]
                if not taus:
                    cells.append("")
                    continue
                mean, half = float(np.mean(taus)), half_width(taus)
                inside = [s.coverage for s in group if s.coverage is not None]
                cells.append(f"{mean:.3f} ± {half:.3f}")
                covered += inside
                records.append({
                    "space": space, "column": column, "method": method, "rows": rows,
                    "seeds": len(taus), "tau": mean,
                    "half_width": None if np.isnan(half) else half,
                    "coverage": float(np.mean(inside)) if inside else None,
                })  # fmt: skip
            share = f"{np.mean(covered):.0%}" if covered else ""
            lines.append([column, method, *cells, share])
    head = ["accuracy", "method", *(f"{n} rows" for n in sizes), "in 90 %"]
    show(f"{space}: Kendall's tau on all other rows", head, lines)
    return records


def half_width(values: list[float]) -> float:
    """Half the 95 % interval of a mean; NaN for a single value."""
    if len(values) < 2:
        return float("nan")
    return float(1.96 * np.std(values, ddof=1) / np.sqrt(len(values)))


def _read_scores(path: Path | None) -> dict[tuple[object, ...], Score]:
    if path is None or not path.exists():
        return {}
    return {s.key: s for s in (Score(**entry) for entry in parse_json(path.read_text()))}


def _write_scores(path: Path | None, scores: Mapping[tuple[object, ...], Score]) -> None:
    if path is not None:
        write_json(path, [asdict(s) for s in scores.values()])


METHODS: tuple[str, ...] = (*OWN, *peers(0), "MACs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The tables, how many rows and seeds, which methods."""
    add_tables(parser, "nb201.parquet and nb_macro.parquet")
    parser.add_argument("--seeds", type=int, default=10, help="choices of rows")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them")
    parser.add_argument("--rows", type=int, nargs="+", default=[20, 50, 100, 200])
    parser.add_argument("--spaces", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--accuracy", help="another column than the usual one")
    parser.add_argument("--scores", type=Path, help="a file of scores to go on with")


if __name__ == "__main__":
    benchmark_main("accuracy_predictors", run, add_arguments)
