"""The pictures beside the fronts: the search's progress, predicted against measured latency."""

from __future__ import annotations

import math

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report_data import Front, TargetFacts, items, number, pick
from experiments.report_picture_style import (
    BAND,
    CLOUD,
    FAINT,
    LINES,
    MARKERS,
    STYLE,
    TARGET_COLOURS,
    latency_axis,
    panel_title,
    svg_text,
)


def history_svg(front: Front) -> str:
    """The hypervolume share after each evaluation as SVG, one line a target."""
    with rc_context(STYLE):
        figure = Figure(figsize=(6.6, 3.6))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.1, right=0.97, top=0.96, bottom=0.16)
        history = pick(front.content, "search", "history")
        for place, target in enumerate(front.targets):
            values = [number({"v": v}, "v") for v in items(history, target.name)]
            shares = [math.nan if v is None else 100 * v for v in values]
            axes.plot(
                range(1, len(shares) + 1),
                shares,
                color=_colour(place),
                linestyle=LINES[place % len(LINES)],
                linewidth=2,
                label=target.name,
            )
        axes.set_xlabel("networks evaluated")
        axes.set_ylabel("hypervolume share in %")
        axes.set_xlim(left=0)
        if axes.lines:
            axes.legend(loc="lower right", frameon=False)
        return svg_text(figure, "Hypervolume after each evaluation")


def agreement_svg(front: Front) -> str:
    """Predicted and measured latency as SVG: the pairs on the left, their difference right."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.1))
        pairs, errors = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.062, right=0.985, top=0.86, bottom=0.14, wspace=0.18)
        panel_title(pairs, "Predicted against measured", "the grey band is 5 % to either side")
        panel_title(errors, "The error of each prediction", "predicted / measured − 1")
        times = [t for p in front.points for t in (p.predicted_ms, p.measured_ms) if t]
        low, high = min(times, default=0.1) / 1.3, max(times, default=1.0) * 1.3
        line = np.array([low, high])
        pairs.fill_between(line, line * 0.95, line * 1.05, color=BAND, linewidth=0)
        pairs.plot(line, line, color=CLOUD, linewidth=1)
        errors.axhspan(-5, 5, color=FAINT, linewidth=0)
        errors.axhline(0, color=CLOUD, linewidth=1)
        for place, target in enumerate(front.targets):
            _agreement(pairs, errors, front, target, place)
        for axes in (pairs, errors):
            latency_axis(axes, low, high, is_log=True)
            axes.set_xlabel("measured latency in ms")
        latency_axis(pairs, low, high, is_log=True, side="y")
        pairs.set_ylabel("predicted latency in ms")
        widest = max((abs(100 * (p.latency_error or 0)) for p in front.points), default=0.0)
        errors.set_ylim(-max(6.0, widest * 1.2), max(6.0, widest * 1.2))
        errors.set_ylabel("error in %")
        if pairs.get_legend_handles_labels()[0]:
            pairs.legend(loc="upper left", frameon=False)
        return svg_text(figure, "Predicted and measured latency")


def _agreement(pairs: Axes, errors: Axes, front: Front, target: TargetFacts, place: int) -> None:
    marker, colour = MARKERS[place % len(MARKERS)], _colour(place)
    points = front.searched(target.name) + front.baselines(target.name)
    label: str | None = target.name
    for p in points:
        if not p.measured_ms or not p.predicted_ms:
            continue
        error = 100 * (p.predicted_ms / p.measured_ms - 1)
        for axes, value in ((pairs, p.predicted_ms), (errors, error)):
            axes.plot(
                [p.measured_ms],
                [value],
                marker,
                color=colour,
                markersize=7.5,
                markerfacecolor="white" if p.is_baseline else colour,
                markeredgecolor=colour if p.is_baseline else "white",
                markeredgewidth=1.6 if p.is_baseline else 1,
                linestyle="",
                label=label if axes is pairs else None,
            )
        label = None


def _colour(place: int) -> str:
    return TARGET_COLOURS[place % len(TARGET_COLOURS)]
