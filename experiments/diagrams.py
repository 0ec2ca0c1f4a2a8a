"""The fronts as pictures: for the report as SVG, for a README as PNG.

Drawn with matplotlib's objects, without pyplot and its global state. The same front gives the same
bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report_data import (
    Front,
    Point,
    TargetFacts,
    items,
    keeps_limits,
    number,
    read_front,
)
from experiments.report_picture_style import (
    BLUE,
    CLOUD,
    INK,
    RED,
    STYLE,
    latency_axis,
    panel_title,
    place_labels,
    svg_text,
)
from records import replace_file


def front_svg(front: Front, target: TargetFacts) -> str:
    """One target's front as SVG: on the left what the search saw, on the right what came out.

    Left: validation accuracy over predicted latency, for every evaluated network. Right: test
    accuracy with its 95 % interval over the measured latency of the exported files. Both have the
    same axes.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.5))
        seen, kept = figure.subplots(1, 2, sharex=True, sharey=True)
        figure.subplots_adjust(left=0.062, right=0.985, top=0.86, bottom=0.13, wspace=0.06)
        _frame(seen, front, target)
        _cloud(seen, front, target)
        word = front.predicted_word(target.name)
        panel_title(seen, "What the search saw", f"validation accuracy, {word} latency")
        seen.set_xlabel(f"{word} latency in ms")
        seen.set_ylabel("accuracy in %")
        chosen = [p for p in front.searched(target.name) if p.predicted_ms and p.validation]
        chosen.sort(key=lambda p: p.predicted_ms or 0.0)
        front_line = non_dominated(chosen)
        seen.plot(
            [p.predicted_ms or 0.0 for p in front_line],
            [100 * (p.validation or 0.0) for p in front_line],
            color=BLUE,
            alpha=0.55,
            linewidth=1.3,
            drawstyle="steps-post",
            zorder=3,
        )
        for point in chosen:
            _badge(seen, point.predicted_ms or 0.0, 100 * (point.validation or 0.0), point)
        _frame(kept, front, target)
        how = "measured" if front.is_timed(target.name) else word
        panel_title(kept, "What you get", f"test accuracy with 95 % interval, {how} latency")
        kept.set_xlabel(f"{how} latency in ms" + ("" if how == "measured" else ", not timed"))
        kept.tick_params(labelleft=False)
        _delivered(kept, front, target)
        return svg_text(figure, f"The front of {target.name}")


def save_front_picture(front: Mapping[str, Any], path: Path) -> None:
    """Writes the fronts of all targets side by side as a PNG, for a README.

    Args:
        front: The content of a run's `front.json`.
        path: The file to write, atomically.

    Raises:
        BadInputError: The front is of another format.
        StorageError: The file cannot be written.
    """
    read = read_front(front)
    count = max(1, len(read.targets))
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6 * columns, 4.4 * rows + 0.5), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, target in zip(panels, read.targets, strict=False):
            _frame(axes, read, target)
            _cloud(axes, read, target)
            panel_title(axes, target.name, str(target.content.get("device") or ""))
            word = read.predicted_word(target.name)
            is_timed = read.is_timed(target.name)
            axes.set_xlabel("latency in ms" + ("" if is_timed else f", {word}, files not timed"))
            axes.set_ylabel("accuracy in %")
        for axes in panels[len(read.targets) :]:
            axes.set_axis_off()
        evaluated = [network for target in read.targets for network in _evaluated(read, target)]
        broken = not all(is_feasible for _, _, is_feasible in evaluated)
        timed = all(read.is_timed(target.name) for target in read.targets)
        handles = _legend(with_infeasible=broken, timed=timed)
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(columns + 1, 2 if broken else 3),
            frameon=False,
        )
        figure.draw_without_rendering()  # the layout is final, so labels can be placed
        figure.set_layout_engine("none")
        for axes, target in zip(panels, read.targets, strict=False):
            _delivered(axes, read, target)
        with replace_file(path) as temporary:
            figure.savefig(temporary, format="png", dpi=160, metadata={"Software": None})


def non_dominated(points: Sequence[Point]) -> list[Point]:
    """The points more accurate on validation than all faster ones, from the fastest on."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.predicted_ms or 0.0, -(p.validation or 0.0))):
        if not found or (point.validation or 0.0) > (found[-1].validation or 0.0):
            found.append(point)
    return found


def _frame(axes: Axes, front: Front, target: TargetFacts) -> None:
    """Sets the axes to what matters: all delivered networks, and most of those evaluated."""
    cloud = _evaluated(front, target)
    points = [p for p in front.points if p.target == target.name]
    limit = target.limits.get("latency_ms")
    times = [x for x, _, _ in cloud] + [
        t for p in points for t in (p.predicted_ms, p.measured_ms) if t
    ]
    times += [limit] if limit else []
    low, high = min(times, default=0.1), max(times, default=1.0)
    is_log = high > 4 * low
    pad = (high / low) ** 0.06 if is_log else 1.0
    span = 0.06 * (high - low) or 0.1 * high
    low, high = (low / pad, high * pad) if is_log else (max(0.0, low - span), high + span)
    latency_axis(axes, low, high, is_log=is_log)
    heights = [
        100 * a for p in points for a in (p.validation, p.test, *(p.test_interval or ())) if a
    ]
    if cloud:  # the worst are left out: they would flatten everything else
        shares = [100 * y for _, y, _ in cloud]
        heights += [float(np.quantile(shares, 0.25)), max(shares)]
    bottom, top = min(heights, default=0.0), max(heights, default=100.0)
    margin = max(0.4, 0.07 * (top - bottom))
    axes.set_ylim(max(0.0, bottom - margin), min(100 + margin, top + margin))
    if limit:
        axes.axvline(limit, color=INK, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"limit {limit:g} ms",
            (limit, 0),
            xycoords=("data", "axes fraction"),
            xytext=(4, 5),
            textcoords="offset points",
            rotation=90,
            va="bottom",
            color=INK,
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        )


def _cloud(axes: Axes, front: Front, target: TargetFacts) -> None:
    """Every evaluated network, faint; a cross where it broke a limit."""
    cloud = _evaluated(front, target)
    for feasible, marker in ((True, "o"), (False, "x")):
        chosen = [(x, 100 * y) for x, y, is_feasible in cloud if is_feasible is feasible]
        if chosen:
            x, y = zip(*chosen, strict=True)
            axes.plot(
                x, y, marker, color=CLOUD, markersize=4, alpha=0.6, zorder=2, markeredgewidth=0.9
            )
    bottom = axes.get_ylim()[0]
    hidden = sum(100 * y < bottom for _, y, _ in cloud)
    if hidden:
        axes.annotate(
            f"{hidden} more lie below ↓",
            (1, 1),
            xycoords="axes fraction",
            xytext=(0, 6),
            textcoords="offset points",
            ha="right",
            color="#59636e",
            fontsize=8.5,
        )


def _delivered(axes: Axes, front: Front, target: TargetFacts) -> None:
    """Test accuracy over measured latency, with intervals and names that do not overlap."""
    labels: list[tuple[float, float, str, str]] = []
    bars: list[tuple[float, float, float]] = []
    points = front.searched(target.name) + front.baselines(target.name)
    titles = [point.title for point in points]  # one that several share is left to the numbers
    for point in points:
        if point.known_ms is None or point.test is None:
            continue
        x, y = point.known_ms, 100 * point.test
        colour = RED if point.is_baseline else BLUE
        if point.test_interval:
            low, high = (100 * end for end in point.test_interval)
            axes.plot([x, x], [low, high], color=colour, alpha=0.45, linewidth=1.6, zorder=3)
            bars.append((x, low, high))
        _badge(axes, x, y, point)
        labels.append((x, y, point.title if titles.count(point.title) == 1 else "", colour))
    limit = target.limits.get("latency_ms")
    if limit:
        bars.append((limit, *axes.get_ylim()))
    place_labels(axes, labels, bars)


def _badge(axes: Axes, x: float, y: float, point: Point) -> None:
    """A delivered network: a numbered disc, or a diamond for a baseline."""
    colour = RED if point.is_baseline else BLUE
    marker, size = ("D", 10.5) if point.is_baseline else ("o", 13)
    order = 5 if point.is_baseline else 6
    axes.plot([x], [y], marker, color=colour, markersize=size, mec="white", mew=1.2, zorder=order)
    axes.annotate(
        point.badge,
        (x, y),
        color="white",
        ha="center",
        va="center_baseline",
        fontsize=7.5,
        fontweight="bold",
        zorder=order + 0.5,
    )


def _evaluated(front: Front, target: TargetFacts) -> list[tuple[float, float, bool]]:
    """Predicted latency, validation accuracy and feasibility of the networks evaluated."""
    found = []
    for network in items(front.content, "search", "evaluated"):
        latency_ms = number(network, "latency_ms", target.name)
        accuracy = number(network, "accuracy")
        if latency_ms and accuracy is not None:
            found.append((latency_ms, accuracy, keeps_limits(network, target.name)))
    return found


def _legend(*, with_infeasible: bool, timed: bool) -> Sequence[Line2D]:
    def mark(marker: str, colour: str, size: float, label: str) -> Line2D:
        return Line2D(
            [], [], marker=marker, color=colour, linestyle="", markersize=size, label=label
        )

    marks = [
        mark("o", BLUE, 9, "chosen: test accuracy, 95 % interval" + ", measured latency" * timed),
        mark("D", RED, 8, "hand-made baseline, likewise"),
        mark("o", CLOUD, 4, "evaluated: validation accuracy, predicted latency"),
    ]
    if with_infeasible:
        marks.append(mark("x", CLOUD, 4.5, "evaluated, breaks a limit"))
    return marks
