"""A search on a published table: which rows a strategy evaluates, in which order.

`python -m experiments.tabular_search --space nb201 --table T.parquet --error-from cifar100_acc
--latency lat_pixel3 --latency-known --budget 100 --out evaluated.json` writes the numbers of the
rows, from 0, as a JSON list. A strategy sees the accuracy of the rows that it evaluates and of no
others; with `--latency-learned` the same holds for latency.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.search_tables import SPACES, SearchTable, read_search_table
from records import BadInputError, HwnasError, Measured, generator, unknown_name, write_json
from search_spaces import Architecture, Genes
from strategies import NSGA2, Bayesian, PredictorGuided, Problem, RandomSearch, Strategy
from strategies.known_rows import row_keys
from strategies.protocols import LATENCY, Extreme, Floats

DEFAULT = "bayesian"
_FRUITLESS = 50
"""After so many asks in a row without a row of the table, random ones are taken."""


class TableCosts:
    """Latency as a table has it; where it is learned, of evaluated rows alone."""

    target_name = "table"
    metrics = (LATENCY,)

    def __init__(self, table: SearchTable, *, is_known: bool) -> None:
        self._table = table
        self._is_known = is_known
        self._evaluated: set[int] = set()

    def open(self, row: int) -> None:
        """Tells the latency of a row from now on."""
        self._evaluated.add(row)

    def predict(self, genes: Genes) -> Mapping[str, Floats]:
        """Latencies; infinite for networks that are not in the table.

        Raises:
            BadInputError: A latency that is learned, of a row that was not evaluated.
        """
        rows = [self._table.rows_of.get(key, [-1])[0] for key in row_keys(genes).tolist()]
        if not self._is_known and not self._evaluated.issuperset(rows):
            raise BadInputError(
                "this strategy asks for latencies of networks that it has not evaluated: use "
                "--latency-known, or another strategy"
            )
        latency = np.append(self._table.latency_ms, np.inf)
        return {LATENCY: latency[rows]}

    def bound(self, metric: str, genes: Genes, probability: float = 0.95) -> Floats:
        """The latencies: a table has no error."""
        return np.asarray(self.predict(genes)[metric])

    def extremes(self, metric: str) -> tuple[Extreme, Extreme] | None:
        """Not known without looking."""
        return None

    def deploy(
        self, subnet: Any, architecture: Architecture, folder: Path, facts: Mapping[str, Any]
    ) -> Any:
        """There is nothing to deploy.

        Raises:
            BadInputError: Always.
        """
        raise BadInputError("the networks of a table cannot be deployed")


class TableAccuracy:
    """Accuracy of single rows, kept in the order in which they were evaluated."""

    metric = "accuracy"
    weights_hash = "table"

    def __init__(self, table: SearchTable, costs: TableCosts) -> None:
        self._table = table
        self._costs = costs
        self.evaluated: list[int] = []

    def value(self, row: int) -> float:
        """Evaluates a row."""
        self.evaluated.append(row)
        self._costs.open(row)
        return float(self._table.accuracy[row])

    def evaluate(self, genes: Genes) -> Sequence[Measured]:
        """Evaluates networks; those that are not in the table fail."""
        found = []
        for key in row_keys(genes).tolist():
            rows = self._table.rows_of.get(key)
            value = self.value(rows[0]) if rows else np.nan
            known = bool(np.isfinite(value))
            found.append(
                Measured(value=value)
                if known
                else Measured(value=None, status="failed", reason="the table has no value")
            )
        return found

    def subnet(self, architecture: Architecture) -> Any:
        """The networks of a table were trained elsewhere.

        Raises:
            BadInputError: Always.
        """
        raise BadInputError("a table has no networks, only their accuracies")


Make = Callable[[Problem, Genes, bool, int], Strategy]

STRATEGIES: Mapping[str, Make] = {
    "bayesian": lambda problem, rows, known, seed: Bayesian(
        problem, seed=seed, candidates=rows, learns_latency=not known
    ),
    "predictor_guided": lambda problem, rows, known, seed: PredictorGuided(problem, seed=seed),
    "nsga2": lambda problem, rows, known, seed: NSGA2(
        problem.space, population_size=20, seed=seed
    ),
    "random": lambda problem, rows, known, seed: RandomSearch(problem.space, seed=seed),
}


def search_table(
    table: SearchTable,
    *,
    latency_known: bool,
    budget: int,
    seed: int = 0,
    strategy: str = DEFAULT,
    on_row: Callable[[int], None] | None = None,
) -> list[int]:
    """The rows that a strategy evaluates, in order.

    Args:
        table: The table.
        latency_known: Whether the latencies of all rows may be read, or of evaluated ones alone.
        budget: How many distinct rows to evaluate; all of them where the table has no more.
        seed: Derives everything random.
        strategy: A name of `STRATEGIES`.
        on_row: Called with each row after its evaluation.

    Raises:
        BadInputError: A budget below 1, or a strategy that needs latencies that are not known.
        UnknownNameError: No such strategy.
    """
    if budget < 1:
        raise BadInputError(f"the budget must be at least 1 evaluation, got {budget}")
    asked, accuracy = _made(table, latency_known, seed, strategy)
    fruitless = 0
    while len(accuracy.evaluated) < min(budget, len(table.rows_of)) and fruitless < _FRUITLESS:
        genes = asked.ask(1)
        if len(genes) == 0:
            break
        rows = table.rows_of.get(int(row_keys(genes)[0]))
        fruitless = 0 if rows else fruitless + 1
        if not rows:
            asked.tell(genes, np.full((1, 2), np.nan), np.ones(1))
            continue
        objectives = [100 - accuracy.value(rows[0]), table.latency_ms[rows[0]]]
        asked.tell(genes, np.array([objectives]))
        if on_row is not None:
            on_row(rows[0])
    return _filled(accuracy.evaluated, len(table), budget, seed)


def settings(table: SearchTable, *, latency_known: bool, strategy: str = DEFAULT) -> str:
    """What decides how `search_table` searches, but for the table, the budget and the seed.

    Raises:
        UnknownNameError: No such strategy.
    """
    asked, _ = _made(table, latency_known, 0, strategy)
    return str(getattr(asked, "settings", strategy))


def _made(
    table: SearchTable, latency_known: bool, seed: int, strategy: str
) -> tuple[Strategy, TableAccuracy]:
    """A strategy, and what its rows are evaluated by."""
    if strategy not in STRATEGIES:
        raise unknown_name("strategy", strategy, STRATEGIES)
    costs = TableCosts(table, is_known=latency_known)
    accuracy = TableAccuracy(table, costs)
    problem = Problem(table.space, accuracy, [costs])
    return STRATEGIES[strategy](problem, table.genes, latency_known, seed), accuracy


def _filled(evaluated: list[int], rows: int, budget: int, seed: int) -> list[int]:
    """As many rows as the budget allows: where a strategy finds no more, random ones follow."""
    rest = np.setdiff1d(np.arange(rows), evaluated)
    more = generator(seed, "rows left").permutation(rest)[: max(budget - len(evaluated), 0)]
    return [*evaluated, *(int(row) for row in more)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tabular_search", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--space", required=True, help=", ".join(SPACES))
    parser.add_argument("--table", required=True, type=Path, help="a parquet table")
    parser.add_argument(
        "--error-from", required=True, metavar="COLUMN", help="an accuracy in percent; maximised"
    )
    parser.add_argument("--latency", required=True, metavar="COLUMN", help="minimised")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument(
        "--latency-known", action="store_true", help="the latencies of all rows may be read"
    )
    mode.add_argument(
        "--latency-learned", action="store_true", help="those of evaluated rows alone"
    )
    parser.add_argument("--strategy", default=DEFAULT, help=", ".join(STRATEGIES))
    parser.add_argument("--budget", type=int, default=100, help="rows to evaluate")
    parser.add_argument("--seed", type=int, default=0, help="derives everything random")
    parser.add_argument("--out", required=True, type=Path, help="the JSON file to write")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a search; errors that a user can mend are one line and exit code 2."""
    given = _parser().parse_args(arguments)
    try:
        table = read_search_table(given.table, given.space, given.error_from, given.latency)
        rows = search_table(
            table,
            latency_known=given.latency_known,
            budget=given.budget,
            seed=given.seed,
            strategy=given.strategy,
        )
        write_json(given.out, rows)
    except HwnasError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
