"""The report of a target as a person reads it in the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from deployment.kit import Sustained
from experiments.console import say, show_table
from experiments.target_report import TargetReport, slowdown


def show_report(report: TargetReport) -> None:
    """Prints a target's report: the device, the measurements, the cost models, what is wrong."""
    rows = [[escape(cell) for cell in row] for row in rows_of(report)]
    title = escape(f"{report.target}: {report.device}")
    show_table(title, ("measurement", "value", "meaning"), rows, left=1, wrapped="meaning")
    fits = [
        [
            fit.space,
            str(fit.quality.networks),
            f"{fit.fastest_ms:.3g} - {fit.slowest_ms:.3g}",
            _percent(fit.quality.mape),
            _percent(fit.quality.median_error),
            _number(fit.quality.spearman),
        ]
        for fit in report.fits
    ]
    head = ("space", "networks", "latency, ms", "error (MAPE)", "median error", "Spearman")
    show_table("Cost models, on networks left out of the fit", head, fits, left=1)
    for warning in report.warnings:
        say(f"warning: {warning}")


def rows_of(report: TargetReport) -> list[tuple[str, str, str]]:
    """What was measured, its value, and what that means."""
    steady = report.steadiness
    rows = [
        ("networks", str(steady.networks), f"each in {steady.rounds} rounds"),
        (
            "noise floor",
            _percent(steady.noise_floor),
            f"what repeating changes; {report.resolution:.1%} or less is wanted",
        ),
        ("ranks repeat", _number(steady.repeat_spearman), "Spearman of two halves of the rounds"),
        ("drift", _percent(steady.drift, sign=True), "last third of the rounds against the first"),
        (
            "p50 / p90 / p99",
            f"{steady.p50:.2f} / {steady.p90:.2f} / {steady.p99:.2f}",
            "of all runs, as multiples of the network's latency (its least)",
        ),
        ("interrupted", _percent(steady.preempted), "runs that other programs broke into"),
    ]
    if report.cold_start is not None:
        cold = report.cold_start
        rows += [
            ("opening a file", f"{cold.open_ms:.3g} ms", "median over the networks"),
            (
                "first run",
                f"{cold.first_run_ms:.3g} ms",
                f"{cold.first_run_ratio:.2g} times the latency",
            ),
        ]
    if report.sustained is not None:
        rows += _sustained_rows(report.sustained)
    return rows + [(name, "", value) for name, value in report.facts.items()]


def _sustained_rows(sustained: Sustained) -> list[tuple[str, str, str]]:
    first, last, whole = sustained.blocks[0], sustained.blocks[-1], sustained.all
    return [
        (
            f"{sustained.seconds:g} s without a pause",
            f"{slowdown(sustained):.2f}",
            f"last tenth against the first: median {last.p50_ms:.3g} against {first.p50_ms:.3g} "
            f"ms, {sustained.file}",
        ),
        (
            "its p50 / p90 / p99",
            f"{whole.p50_ms:.3g} / {whole.p90_ms:.3g} / {whole.p99_ms:.3g} ms",
            f"of {whole.runs} runs, the least {whole.least_ms:.3g} ms",
        ),
        ("its temperature", _temperature(sustained), "hottest sensor, before and after"),
    ]


def _temperature(sustained: Sustained) -> str:
    before, after = _hottest(sustained.before), _hottest(sustained.after)
    return "not readable" if before is None or after is None else f"{before:.0f} -> {after:.0f} °C"


def _hottest(conditions: Mapping[str, Any]) -> float | None:
    sensors = conditions.get("temperature_c") or {}
    return max(sensors.values()) if sensors else None


def _percent(value: float, *, sign: bool = False) -> str:
    return "unknown" if math.isnan(value) else f"{value:{'+' if sign else ''}.1%}"


def _number(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.3f}"
