"""What a search without delivery leaves: `front.json` with the networks of each front, a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from experiments.closing import compromise_table
from experiments.config import SearchConfig
from experiments.console import say, show_table
from experiments.front_file import (
    FRONT,
    SEARCH_FORMAT,
    compromise_record,
    dataset_record,
    precisions_record,
    search_record,
    space_record,
    target_record,
)
from experiments.precision_option import in_fp32
from experiments.stopwatch import Stopwatch
from latency_models import CostModel
from records import versions, write_json
from strategies import Front, FrontPoint
from supernet import ImageData, Supernet

IN_FP32 = "in fp32"
"""The column of the stages that stay in fp32, where the search chose them."""


def write_search(
    config: SearchConfig,
    data: ImageData,
    supernet: Supernet,
    costs: Sequence[CostModel],
    front: Front,
    watch: Stopwatch,
) -> dict[str, Any]:
    """Writes `front.json`; prints the fronts and returns the file.

    Raises:
        StorageError: The disk refuses.
    """
    points = [point for cost in costs for point in _points(front, cost)]
    record = {
        "format": SEARCH_FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": config.seed,
        "config": config.to_json(),
        "versions": versions(),
        "seconds": watch.total(),
        "dataset": dataset_record(data),
        "space": space_record(front.problem.space),
        "supernet": {
            "epochs": None if config.supernet is not None else config.training_epochs,
            "parameters": sum(p.numel() for p in supernet.parameters()),
            "weights_hash": supernet.weights_hash(),
        },
        "targets": [target_record(cost, front) for cost in costs],
        "search": search_record(front, costs),
        "compromise": compromise_record(front, points),
        "points": points,
    }
    write_json(config.out / FRONT, record)
    fronts_table(record)
    say(f"\ndata: {config.out / FRONT}   every evaluation: the run's ledger")
    return record


def _points(front: Front, cost: CostModel) -> list[dict[str, Any]]:
    """The networks of a target's front, from the fastest to the slowest."""
    own = front.for_target(cost.target_name)
    if not len(own):
        return []
    knee, best = own.knee(), own[len(own) - 1]
    titles = {knee.genes: "knee", own[0].genes: "fastest", best.genes: "most accurate"}
    return [
        {
            "name": f"{cost.target_name}-{index}",
            "target": cost.target_name,
            "title": titles.get(point.genes, "between"),
            "genes": list(point.genes),
            "architecture": point.architecture.to_json(),
            "validation_accuracy": point.accuracy,
            "standard_error": point.accuracy_dispersion,
            "predicted": cost.record(np.array(point.genes, np.int16)),
            **_size(point),
            **precisions_record(cost.space, point.architecture),
        }
        for index, point in enumerate(own)
    ]


def _size(point: FrontPoint) -> dict[str, int]:
    table = point.problem.space.layer_table(np.array([point.genes], np.int16))
    return {"parameters": int(table.parameters[0]), "macs": int(table.macs[0])}


def fronts_table(record: dict[str, Any]) -> None:
    """Prints every network of every front: accuracy, predicted costs, size."""
    for target in record["targets"]:
        points = [point for point in record["points"] if point["target"] == target["name"]]
        if not points:
            say(f"{target['name']}: no evaluated network keeps its limits")
            continue
        source = points[0]["predicted"]["latency_source"]
        networks = "network" if len(points) == 1 else "networks"
        are_chosen = "precisions" in points[0]
        show_table(
            f"{target['name']}: {len(points)} {networks}; latency: {source}",
            [
                "network",
                "",
                "accuracy %",
                "+-",
                "ms",
                "mJ",
                "KiB",
                "MACs",
                "parameters",
                *[IN_FP32] * are_chosen,
            ],
            [_row(point) for point in points],
            left=2,
            wrapped=IN_FP32,
        )
    compromise_table(record, "network")
    say(
        f"accuracy on the {record['dataset']['validation']} images that the search saw; costs are "
        "predicted"
    )


def _row(point: dict[str, Any]) -> list[str]:
    predicted, error = point["predicted"], point["standard_error"]
    return [
        point["name"],
        point["title"],
        f"{100 * point['validation_accuracy']:.1f}",
        "" if error is None else f"{100 * error:.1f}",
        f"{predicted['latency_ms']:.4f}",
        f"{predicted['energy_mj']:.4f}",
        f"{predicted['peak_memory_bytes'] / 1024:.0f}",
        f"{point['macs']:,}",
        f"{point['parameters']:,}",
        *([in_fp32(point["precisions"])] if "precisions" in point else []),
    ]
