"""What all benchmarks share: arguments, the table, the JSON file, timing in turns."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.console import show_table
from records import HwnasError, versions, write_json


def benchmark_main(
    name: str,
    run: Callable[[argparse.Namespace], Mapping[str, Any]],
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Parses `--json FILE`, runs the benchmark, which prints its tables, and writes the JSON."""
    parser = argparse.ArgumentParser(prog=f"python -m experiments.benchmarks.{name}")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    if add_arguments is not None:
        add_arguments(parser)
    arguments = parser.parse_args()
    try:
        figures = run(arguments)
    except HwnasError as error:
        parser.exit(2, f"error: {error}\n")
    if arguments.json is not None:
        write_json(
            arguments.json,
            {"benchmark": name, "figures": figures, "machine": machine(), "versions": versions()},
        )


def add_tables(parser: argparse.ArgumentParser, files: str) -> None:
    """Adds the argument `tables`, the folder of published tables.

    Args:
        parser: The benchmark's.
        files: Which of them it reads, for the help.
    """
    parser.add_argument(
        "tables",
        type=Path,
        nargs="?",
        default=Path("../shared/benchdata"),
        help=f"folder with {files}",
    )


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
    }


def best_seconds(
    functions: Mapping[str, Callable[[], object]], *, rounds: int = 15
) -> dict[str, float]:
    """The least time of each function over rounds in which all take turns."""
    best = dict.fromkeys(functions, float("inf"))
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table of figures."""
    show_table(title, head, [[str(cell) for cell in row] for row in rows])
