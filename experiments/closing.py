"""The tables that a run prints: what is reachable, and what came out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.console import say, show_table
from experiments.precision_option import in_fp32
from strategies import Feasibility, Problem
from strategies.problem import UNMEASURED

UNITS = {"latency_ms": "ms", "energy_mj": "mJ", "peak_memory_bytes": "KiB", "flash_bytes": "KiB"}
SCALES = {"peak_memory_bytes": 1 / 1024, "flash_bytes": 1 / 1024}


def picture_of_limits(feasibility: Feasibility, problem: Problem) -> None:
    """Prints the reachable range of every metric on every target, with the limits."""
    limits = {(c.metric, c.target): c.limit for c in problem.constraints}
    rows = []
    for reachable in feasibility.ranges:
        scale = SCALES.get(reachable.metric, 1.0)
        limit = limits.get((reachable.metric, reachable.target))
        rows.append(
            [
                reachable.target,
                reachable.metric.removesuffix("_" + reachable.metric.rsplit("_", 1)[-1]),
                UNITS.get(reachable.metric, ""),
                f"{reachable.lowest * scale:.4g}",
                f"{reachable.highest * scale:.4g}",
                "exact" if reachable.exact else "best found",
                "" if limit is None else f"{limit * scale:.4g}",
            ]
        )
    show_table(
        "Reachable (predicted)",
        ["target", "metric", "unit", "lowest", "highest", "how", "limit"],
        rows,
        left=3,
    )
    for constraint in problem.unmeasured_limits:
        say(f"warning: {constraint}: {UNMEASURED}")


@contextmanager
def warned_already() -> Iterator[None]:
    """Problems made within do not log again what `picture_of_limits` says of modelled costs."""
    logger = logging.getLogger("strategies.problem")

    def is_new(record: logging.LogRecord) -> bool:
        return UNMEASURED not in (record.args or ())

    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


def closing_table(front: Mapping[str, Any]) -> None:
    """Prints every exported network: accuracy with interval, costs predicted and measured."""
    for target in front["targets"]:
        points = [point for point in front["points"] if point["target"] == target["name"]]
        is_timed = any(point["measured"]["latency_ms"] is not None for point in points)
        is_modelled = points[0]["predicted"]["latency_source"].startswith("modelled")
        threads = target["threads"]
        show_table(
            f"{target['name']}: {target['runtime']}, {threads} thread{'s' * (threads > 1)}, "
            f"batch {target['batch_size']}",
            [
                "network",
                "test accuracy % [95 %]",
                "modelled ms" if is_modelled else "predicted ms",
                *(["measured ms (least)", "error"] if is_timed else ["measured"]),
                "modelled mJ",
                "KiB",
                "parameters",
                "folder",
            ],
            [_row(point, is_timed) for point in points],
            wrapped="folder",
        )
        for point in points:
            if "precisions" in point:
                say(f"  {Path(point['file']).parent.name} in fp32: {in_fp32(point['precisions'])}")
    compromise_table(front)
    difference = max(point["relative_difference"] for point in front["points"])
    untimed = [p["target"] for p in front["points"] if p["measured"]["latency_ms"] is None]
    if untimed:
        say(
            f"latencies are predicted: no runner reaches {', '.join(dict.fromkeys(untimed))}, so "
            "no file was timed there"
        )
    say(
        f"accuracy on {front['dataset']['test']} test images, which had no part in the search; "
        f"torch and ONNX differ by {difference:.0e} of the largest logit at most"
    )


def compromise_table(front: Mapping[str, Any], known_as: str = "exported as") -> None:
    """Prints the networks for all targets at once; nothing where there are none."""
    found = front.get("compromise")
    if not found:
        return
    names = list(found["weights"])
    rows = [
        [
            f"{100 * network['validation_accuracy']:.1f}",
            *(
                text
                for name in names
                for text in (
                    f"{network['latency_ms'][name]:.4f}",
                    f"{100 * network['behind'][name]:.1f}",
                )
            ),
            ", ".join(network["exported"]),
        ]
        for network in found["networks"]
    ]
    heads = [head for name in names for head in (f"{name} ms", "behind %")]
    weights = ", ".join(f"{name} {weight:g}" for name, weight in found["weights"].items())
    is_even = len(set(found["weights"].values())) == 1
    show_table(
        "Good on all targets (validation accuracy, predicted latency"
        + (")" if is_even else f"; weights {weights})"),
        ["accuracy %", *heads, known_as],
        rows,
        left=0,
        wrapped=known_as,
    )
    worst = ", ".join(f"{100 * lost:.0f} % on {name}" for name, lost in found["regret"].items())
    say(
        "behind: what the target's own front has more at no more latency; in place of any point "
        f"of a front, the nearest of these lacks at most, of the front's range: {worst}"
    )


def _row(point: Mapping[str, Any], is_timed: bool) -> list[str]:
    low, high = point["test_interval_95"]
    predicted = point["predicted"]
    measured = point["measured"]["latency_ms"]
    return [
        point["title"] if point["kind"] == "searched" else f"baseline {point['title']}",
        f"{100 * point['test_accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
        f"{predicted['latency_ms']:.4f}",
        "not timed" if measured is None else f"{measured:.4f}",
        *(["" if measured is None else f"{100 * point['latency_error']:+.1f} %"] * is_timed),
        f"{predicted['energy_mj']:.4f}",
        f"{predicted['peak_memory_bytes'] / 1024:.0f}",
        f"{point['parameters']:,}",
        str(Path(point["file"]).parent),
    ]
