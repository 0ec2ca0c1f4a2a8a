"""How pictures look: colours, ticks, labels that keep clear of each other, and SVG for a page.

The colours follow Okabe and Ito (Color universal design, 2008), which colour-blind people tell
apart, some of them darker so that white and small text stay readable; markers and lines
differ too.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

BLUE, RED, GREEN, ORANGE, PURPLE = "#0072B2", "#C44E00", "#007D5C", "#E69F00", "#A8558A"
INK, CLOUD, FAINT, BAND = "#1f2933", "#8a94a0", "#edf0f3", "#d3dae1"
TARGET_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED)
MARKERS = ("o", "s", "^", "D", "v")
LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))

STYLE: Any = {
    "font.family": ["DejaVu Sans"],  # matplotlib brings it along; pages replace it
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#b3bcc6",
    "axes.labelcolor": "#3c4753",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e7ebef",
    "grid.linewidth": 0.8,
    "xtick.color": "#59636e",
    "ytick.color": "#59636e",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.formatter.useoffset": False,
    "text.parse_math": False,  # names may hold dollar signs
    "svg.fonttype": "none",
    "svg.hashsalt": "hwnas",
}

Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in points."""

Side = Literal["left", "right", "center"]
"""The side of a label that is anchored."""

_LABEL_SIZE = 8.5

_NEAR: list[tuple[float, float, Side]] = [
    place for lift in (0, -9, 9, -15, 15) for place in ((11, lift, "left"), (-11, lift, "right"))
]
_FAR: list[tuple[float, float, Side]] = [
    place
    for lift in (-24, 24, -36, 36, -50, 50)
    for place in ((8, lift, "left"), (-8, lift, "right"))
]
_PLACES: list[tuple[float, float, Side]] = [
    *_NEAR, (0, 16, "center"), (0, -16, "center"), *_FAR,
]  # fmt: skip
"""Where a label may stand, in points from its point, the best first."""


def latency_axis(
    axes: Axes, low: float, high: float, *, is_log: bool, side: Literal["x", "y"] = "x"
) -> None:
    """Gives one side of the axes a range of milliseconds above 0, with round, plain ticks."""
    if side == "x":
        axes.set_xscale("log" if is_log else "linear")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log" if is_log else "linear")
        axes.set_ylim(low, high)
    axis = axes.xaxis if side == "x" else axes.yaxis
    if is_log:
        axis.set_major_locator(FixedLocator(_round_values(low, high)))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _round_values(low: float, high: float) -> list[float]:
    """Between four and ten values such as 1, 2, 5, 10 within a range."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        values = [round(s * 10.0**e, 12) for e in exponents for s in steps]
        inside = [value for value in values if low <= value <= high]
        if len(inside) >= 4:
            break
    return inside


def place_labels(
    axes: Axes,
    labels: Sequence[tuple[float, float, str, str]],
    bars: Sequence[tuple[float, float, float]],
) -> None:
    """Writes labels beside their points, each in the first place where it covers nothing.

    The axes' limits and position must be final. A label that finds no free place is put to the
    right of its point.

    Args:
        axes: Where to write.
        labels: `x`, `y`, text and colour of each point; an empty text only takes its space.
        bars: `x` and both ends of the vertical bars to keep clear of.
    """
    to_points = 72 / axes.figure.get_dpi()

    def position(x: float, y: float) -> tuple[float, float]:
        h, v = axes.transData.transform((x, y))
        return float(h) * to_points, float(v) * to_points

    taken: list[Box] = []
    for x, y, _, _ in labels:
        h, v = position(x, y)
        taken.append((h - 8, v - 8, h + 8, v + 8))
    for x, low, high in bars:
        (h, bottom), (_, top) = position(x, low), position(x, high)
        taken.append((h - 2, bottom, h + 2, top))
    frame = axes.get_window_extent()
    inside = tuple(float(end) * to_points for end in (frame.x0, frame.y0, frame.x1, frame.y1))
    for x, y, text, colour in labels:
        if not text:
            continue
        h, v = position(x, y)
        width = 0.6 * _LABEL_SIZE * len(text)  # the mean width of a letter, a little generous
        boxes = [(_box(h + dx, v + dy, width, side), dx, dy, side) for dx, dy, side in _PLACES]
        free = [place for place in boxes if _fits(place[0], inside, taken)]
        box, dx, dy, side = free[0] if free else boxes[0]
        taken.append(box)
        axes.annotate(
            text,
            (x, y),
            xytext=(dx, dy),
            textcoords="offset points",
            ha=side,
            va="center_baseline",
            color=colour,
            fontsize=_LABEL_SIZE,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            zorder=8,
        )


def _box(h: float, v: float, width: float, side: Side) -> Box:
    """The space of a label anchored at a point by that side of it."""
    left = {"left": h, "right": h - width, "center": h - width / 2}[side]
    return left, v - 5.5, left + width, v + 5.5


def _fits(box: Box, inside: Sequence[float], taken: Sequence[Box]) -> bool:
    left, bottom, right, top = box
    if left < inside[0] or bottom < inside[1] or right > inside[2] or top > inside[3]:
        return False
    return all(right < b[0] or left > b[2] or top < b[1] or bottom > b[3] for b in taken)


def panel_title(axes: Axes, title: str, subtitle: str) -> None:
    """Writes a bold title and a plain line under it, at the left above the axes."""
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=19)
    axes.annotate(
        subtitle, (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points",
        color="#59636e", fontsize=8.5,
    )  # fmt: skip


def svg_text(figure: Figure, name: str) -> str:
    """A figure as an SVG element to stand inside a page.

    Without the prologue and metadata of a file, as wide as its place, its text in the page's font,
    its identifiers made unique by `name`, which also describes it to screen readers.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :].strip()
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn, flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", name)
    drawn = re.sub(r'\bid="', f'id="{prefix}-', drawn)
    drawn = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", drawn)
    described = f'<svg class="chart" role="img" aria-label="{html.escape(name)}" '
    head, rest = drawn.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return described + head.removeprefix("<svg").strip() + ">" + rest
