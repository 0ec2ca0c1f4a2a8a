"""What the main job leaves: bundles, `front.json`, the report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from experiments.closing import closing_table
from experiments.config import QuickstartConfig
from experiments.console import progress_bar, say
from experiments.data_source import data_source
from experiments.delivery import Delivered
from experiments.diagrams import save_front_picture
from experiments.export import point_record, write_bundle
from experiments.front_file import (
    FORMAT,
    FRONT,
    compromise_record,
    dataset_record,
    search_record,
    space_record,
    target_record,
)
from experiments.report import write_report
from experiments.stopwatch import Stopwatch
from records import versions, write_json
from supernet import ImageData, Supernet


def write_files(
    config: QuickstartConfig,
    data: ImageData,
    supernet: Supernet,
    delivered: Delivered,
    watch: Stopwatch,
) -> dict[str, Any]:
    """Writes everything, `front.json` last; prints the closing table and returns the file.

    Raises:
        VerificationError: A file that does not compute what torch does.
        StorageError: The disk refuses.
    """
    weights_hash = supernet.weights_hash()
    with watch.timed("bundles"):
        points = _bundles(config, data, delivered, weights_hash)
    front, costs = delivered.front, delivered.costs
    record = {
        "format": FORMAT,
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
            "weights_hash": weights_hash,
        },
        "targets": [target_record(cost, front) for cost in costs],
        "search": search_record(front, costs),
        "compromise": compromise_record(front, points),
        "points": points,
        "refit": delivered.refit.to_json(),
    }
    out = config.out
    write_report(record, out / "report.html")
    save_front_picture(record, out / "front.png")
    write_json(out / FRONT, record)
    closing_table(record)
    say(f"\nreport: {out / 'report.html'}   networks: {out / 'models'}   data: {out / FRONT}")
    return record


def _bundles(
    config: QuickstartConfig, data: ImageData, delivered: Delivered, weights_hash: str
) -> list[dict[str, Any]]:
    """Verifies and writes every network; their records."""
    everything = [one for own in delivered.timed.values() for one in own]
    points = []
    with progress_bar("verifying and writing bundles") as advance:
        for index, one in enumerate(everything):
            bundle = write_bundle(
                one,
                data,
                config.out / "models",
                weights_hash=weights_hash,
                seed=config.seed,
                source=data_source(config),
            )
            points.append(point_record(one, bundle, config.out))
            advance(index + 1, len(everything), one.chosen.name)
    return points
