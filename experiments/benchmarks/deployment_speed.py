"""How fast hwnas's files are beside what one would deploy otherwise, on this machine.

Ten networks, drawn by seed from fronts of CNNs, ViTs and hybrids at 32 to 224 pixels
(`deployment_networks`), for batches of 1 and 8 on 1 and 2 threads: the file that kernel selection
chooses, in fp32 alone and with int8 allowed, beside torch eager, `torch.onnx.export` with
onnxruntime, onnxruntime's optimizer for transformers, OpenVINO in fp32 and int8, on three networks
`torch.compile`, and with `--litert` LiteRT; of each network all in one shuffled round-robin
(`deployment_cells`).

Ratios are latencies of a peer over that of hwnas's file in fp32: above 1, hwnas is faster. The
goals are printed beside: nowhere slower than the best of the peers in fp32 by more than 3 %; on
average 1.10 times as fast as `torch.onnx.export` with onnxruntime; on ViTs, with int8 allowed,
1.15 times as fast, for at most half a point of accuracy.

Every cell is written to `--results` as soon as it is measured, and is not measured again; so an
interrupted benchmark goes on, and may be run in parts (`--networks`, `--batch-sizes`,
`--threads`). Peers need `pip install 'hwnas[openvino]'`; what is not installed is left out.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.deployment_cells import (
    COMPILE,
    EAGER,
    EXPORT,
    FP32,
    FUSED,
    INT8,
    LARGEST_LOSS,
    LITERT,
    MAX_SECONDS,
    NAMES,
    OPENVINO,
    OPENVINO_INT8,
    OPENVINO_OWN,
    PEERS_FP32,
    timed_cell,
)
from experiments.benchmarks.deployment_networks import (
    COMPILED,
    FAMILIES,
    NETWORKS,
    drawn_network,
)
from experiments.benchmarks.harness import benchmark_main, machine, show
from experiments.console import say
from records import CorruptFileError, read_json, versions, write_json

MOST_SLOWER = 0.03
AVERAGE_GAIN = 1.10
VIT_GAIN = 1.15

Cell = dict[str, Any]
SHORT = {EAGER: "eager", EXPORT: "export", FUSED: "optimizer", OPENVINO: "OV",
         OPENVINO_OWN: "OV own", COMPILE: "compile", LITERT: "LiteRT", INT8: "int8",
         OPENVINO_INT8: "OV int8"}  # fmt: skip
"""Column heads: `torch.onnx.export`, the optimizer for transformers behind it, OpenVINO (OV)."""


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures the cells that are missing, and prints all that are there."""
    logging.basicConfig(level=logging.WARNING)
    known = _known(arguments.results)
    for name in NETWORKS:
        if name not in arguments.networks:
            continue
        wanted = [(b, t) for b in arguments.batch_sizes for t in arguments.threads]
        missing = [w for w in wanted if key_of(name, *w) not in known]
        if not missing:
            continue
        drawn = drawn_network(name, arguments.folder, arguments.supernets, arguments.seed)
        for batch_size, threads in missing:
            say(f"{name}, batch {batch_size}, threads {threads}")
            known[key_of(name, batch_size, threads)] = timed_cell(
                drawn, batch_size, threads,
                also=_also(name, batch_size, threads, arguments),
                selection_s=arguments.selection_s,
                max_seconds=arguments.cell_s,
                seed=arguments.seed,
            )  # fmt: skip
            _keep(arguments.results, known)
    cells = [known[key] for key in sorted(known, key=_order)]
    if not cells:
        return {}
    found, judged = ratios(cells), goals(cells)
    _show_cells(cells)
    _show_ratios(found)
    _show_int8(cells)
    for goal in judged:
        say(f"{goal['goal']}: {goal['found']}: {'reached' if goal['reached'] else 'not reached'}")
    return {"ratios": found, "goals": judged, "cells": cells}


def _also(name: str, batch_size: int, threads: int, arguments: argparse.Namespace) -> list[str]:
    """Which of the files that take long to make take part in a cell."""
    compiled = name in arguments.compile and (batch_size, threads) == (1, 1)
    return [COMPILE] * compiled + [LITERT] * arguments.litert


def key_of(name: str, batch_size: int, threads: int) -> str:
    """Names a cell."""
    return f"{name} b{batch_size} t{threads}"


def _order(key: str) -> tuple[int, str]:
    return NETWORKS.index(key.split()[0]), key


def _known(path: Path) -> dict[str, Cell]:
    """The cells that were measured before, on this machine; their file says by which versions."""
    if not path.exists():
        return {}
    kept = read_json(path, kind="results of deployment_speed")
    if kept.get("machine") != machine():
        raise CorruptFileError(f"{path} is of another machine: choose another file for --results")
    return dict(kept["cells"])


def _keep(path: Path, cells: Mapping[str, Cell]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"machine": machine(), "versions": versions(), "cells": dict(cells)})


def latency(cell: Cell, name: str) -> float:
    """Of one file of a cell in milliseconds; NaN where it was not timed."""
    return float(cell["files"].get(name, {}).get("latency_ms", float("nan")))


def ratios(cells: Sequence[Cell]) -> dict[str, dict[str, list[float]]]:
    """For each family and for all: each peer's geometric mean ratio, its least, and of how many.

    A ratio is the latency of a peer over that of hwnas's file in fp32.
    """
    groups: dict[str, Callable[[Cell], bool]] = {
        family: lambda cell, own=family: cell["network"].startswith(own)  # type: ignore[misc]
        for family in FAMILIES
    }
    groups["all"] = lambda cell: True
    found: dict[str, dict[str, list[float]]] = {}
    for group, holds in groups.items():
        own = [cell for cell in cells if holds(cell)]
        found[group] = {}
        for name in NAMES[1:]:
            values = np.array([latency(cell, name) / latency(cell, FP32) for cell in own])
            values = values[np.isfinite(values)]
            if len(values):
                mean = float(np.exp(np.log(values).mean()))
                found[group][name] = [mean, float(values.min()), float(len(values))]
    return found


def goals(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The three goals, what was found, and whether it is reached."""
    best = [
        np.nanmin([latency(cell, name) for name in PEERS_FP32]) / latency(cell, FP32)
        for cell in cells
    ]
    worst = int(np.argmin(best))
    where = cells[worst]
    export = [latency(cell, EXPORT) / latency(cell, FP32) for cell in cells]
    gain = float(np.exp(np.nanmean(np.log(export))))
    found = [
        {
            "goal": f"nowhere slower than the best peer in fp32 by more than {MOST_SLOWER:.0%}",
            "found": f"at worst {1 / best[worst] - 1:+.1%} of its time on "
            f"{key_of(where['network'], where['batch_size'], where['threads'])}, slower in "
            f"{sum(b < 1 / (1 + MOST_SLOWER) for b in best)} of {len(best)} cells",
            "reached": bool(best[worst] >= 1 / (1 + MOST_SLOWER)),
        },
        {
            "goal": f"{AVERAGE_GAIN:g}x of torch.onnx.export with onnxruntime",
            "found": f"{gain:.3f}x",
            "reached": gain >= AVERAGE_GAIN,
        },
    ]
    vits = [c for c in cells if c["network"].startswith("vit") and np.isfinite(latency(c, INT8))]
    if vits:
        each = [latency(cell, EXPORT) / latency(cell, INT8) for cell in vits]
        mean = float(np.exp(np.nanmean(np.log(each))))
        loss = max(_lost(cell, INT8) for cell in vits)
        found.append(
            {
                "goal": f"{VIT_GAIN:g}x of it on ViTs with int8 allowed, for at most "
                f"{100 * LARGEST_LOSS:g} points",
                "found": f"{mean:.3f}x, at most {100 * loss:.2f} points lost",
                "reached": bool(mean >= VIT_GAIN and loss <= LARGEST_LOSS),
            }
        )
    return found


def _lost(cell: Cell, name: str) -> float:
    value = cell["files"].get(name, {}).get("accuracy_lost")
    return float("nan") if value is None else float(value)


def _show_cells(cells: Sequence[Cell]) -> None:
    rows = []
    for cell in cells:
        own = latency(cell, FP32)
        rows.append(
            [cell["network"], cell["batch_size"], cell["threads"], f"{cell['macs'] / 1e6:.1f}",
             f"{own:.3f}", *(_ratio(latency(cell, name) / own) for name in NAMES[1:])]
        )  # fmt: skip
    show(
        "Latency of hwnas's file in fp32, and of the others in multiples of it",
        ["network", "b", "t", "MMACs", "ms", *(SHORT[name] for name in NAMES[1:])],
        rows,
    )


def _show_ratios(found: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    rows = [
        [name, *(_mean_and_least(found[group].get(name)) for group in found)] for name in NAMES[1:]
    ]
    show(
        "Geometric means of the ratios, the least in brackets; above 1, hwnas's fp32 is faster",
        ["file", *found],
        rows,
    )


def _show_int8(cells: Sequence[Cell]) -> None:
    rows = []
    for cell in cells:
        chosen = cell["files"].get(INT8, {})
        rows.append(
            [cell["network"], cell["batch_size"], cell["threads"],
             "accuracy" if cell["is_trained"] else "agreement with fp32",
             chosen.get("change", chosen.get("status", "")), _points(_lost(cell, INT8)),
             _points(_lost(cell, OPENVINO_INT8))]
        )  # fmt: skip
    show(
        "What int8 costs, points; with random weights agreement with the network in fp32",
        ["network", "batch", "threads", "judged by", "chosen", "hwnas int8", "OpenVINO int8"],
        rows,
    )


def _ratio(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else ""


def _points(value: float) -> str:
    return f"{100 * value:+.2f}" if np.isfinite(value) else ""


def _mean_and_least(values: Sequence[float] | None) -> str:
    return "" if values is None else f"{values[0]:.2f} ({values[1]:.2f})"


def _arguments(parser: argparse.ArgumentParser) -> None:
    folder = Path("runs/deployment_speed")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--compile", nargs="*", default=list(COMPILED), choices=NETWORKS,
                        help="networks with torch.compile beside, batch 1, 1 thread")  # fmt: skip
    parser.add_argument("--litert", action="store_true",
                        help="LiteRT fp32 beside; ten seconds and more a file")  # fmt: skip
    parser.add_argument("--selection-s", type=float, default=30.0,
                        help="seconds for each selection of kernels")  # fmt: skip
    parser.add_argument("--cell-s", type=float, default=MAX_SECONDS,
                        help="seconds for the rounds of a cell")  # fmt: skip
    parser.add_argument("--folder", type=Path, default=folder, help="of the networks")
    parser.add_argument("--supernets", type=Path, default=Path("runs/supernet_quality"))
    parser.add_argument("--results", type=Path, default=folder / "cells.json")
    parser.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    benchmark_main("deployment_speed", run, _arguments)
