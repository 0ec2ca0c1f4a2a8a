"""A section of a network as a tile of a picture: what is written on it, and how it is painted.

Lengths are points; `y` goes downwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from experiments.inner_graph import InnerGraph
from experiments.layered_layout import Placement, place_nodes
from experiments.report_networks import KINDS
from experiments.report_picture_style import INK, RED

GREY, SOFT, LINE = "#59636e", "#3c4753", "#8a94a0"
DIFFERENT = RED

_OTHER = ("#8c6d1f", "#f7f1de", "other")
_NAME, _TEXT, _SMALL = 7.0, 9.0, 7.5
_PAD, _LEAST = 8.0, 66.0
_CHIP, _DOT = 15.0, 11.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """What is written on a tile.

    Attributes:
        name: The section's name, without that of the stage.
        kind: One of `KINDS`, or another.
        text: What it is.
        detail: Its sizes.
        size: Its output.
        share: Its share of the network's multiply-accumulates, 0 to 1; 0 is not written.
        has_shortcut: Whether a shortcut leads past it.
        inner: The inside of a cell.
        notes: What else is different in it, where two architectures are compared.
        different: What of it is different: `text`, `detail`, `size`, `all`; empty for none.
        repeats: How many equal ones in a row it stands for.
    """

    name: str
    kind: str
    text: str
    detail: str = ""
    size: str = ""
    share: float = 0.0
    has_shortcut: bool = False
    inner: InnerGraph | None = None
    notes: tuple[str, ...] = ()
    different: frozenset[str] = frozenset()
    repeats: int = 1

    @property
    def width(self) -> float:
        """As wide as what is written on it."""
        wide = max(
            text_width(self.name, _NAME) + (22 if self.repeats > 1 else 0),
            text_width(self.text, _TEXT, bold=True),
            text_width(self.detail, _SMALL),
            text_width(self.size, _SMALL) + (30 if self.share else 0),
            *(text_width(note, _SMALL) for note in self.notes),
            self._inside.width if self._inside else 0.0,
        )
        return max(_LEAST, wide + 2 * _PAD)

    @property
    def height(self) -> float:
        lines = 13.0 + (13 if self.text else 0) + (11 if self.detail else 0)
        inside = self._inside.height + 8 if self._inside else 0.0
        return lines + 11 * len(self.notes) + inside + 20

    @property
    def edges(self) -> tuple[float, float]:
        """How far the mark of a difference stands out on the left, and at the top and right."""
        if not self.different:
            return 0.0, 0.0
        return 4.0, 8.0 if self.repeats > 1 else 4.0

    @property
    def colours(self) -> tuple[str, str]:
        """Of the line and of the fill."""
        line, fill, _ = KINDS.get(self.kind, _OTHER)
        return line, fill

    @property
    def _inside(self) -> Placement | None:
        return None if self.inner is None else _place_inside(self.inner)

    def paint(self, axes: Axes, x: float, y: float) -> None:
        """Paints the tile with its upper left corner at (x, y)."""
        line, fill = self.colours
        width, height = self.width, self.height
        dashed = (0, (3, 2.2)) if self.kind == "transition" else "solid"
        for behind in (4.0, 2.0) if self.repeats > 1 else ():
            _box(axes, x + behind, y - behind, width, height, line, fill, linewidth=0.8)
        if self.different:
            more = 4.0 if self.repeats > 1 else 0.0
            _box(axes, x - 3, y - 3 - more, width + 6 + more, height + 6 + more, DIFFERENT, "none",
                 linewidth=2.2)  # fmt: skip
        _box(axes, x, y, width, height, line, fill, linewidth=1.2, linestyle=dashed)
        left, row = x + _PAD, y + 10.5
        write(axes, left, row, self.name, _NAME, GREY)
        if self.repeats > 1:
            right = x + width - _PAD + 2
            write(axes, right, row, f"×{self.repeats}", _TEXT, line, bold=True, side="right")
        lines = [
            ("text", self.text, _TEXT, INK, True),
            ("detail", self.detail, _SMALL, SOFT, False),
        ]
        lines += [("note", note, _SMALL, DIFFERENT, False) for note in self.notes]
        row += 1.5
        for part, words, size, colour, bold in lines:
            if words:
                row += 11.5
                changed = part in self.different
                write(axes, left, row, words, size, DIFFERENT if changed else colour, bold=bold)
        inside = self._inside
        if self.inner is not None and inside is not None:
            _paint_inside(axes, self.inner, inside, x + (width - inside.width) / 2, row + 9, line)
        base = y + height - 9
        changed = "size" in self.different
        write(axes, left, base, self.size, _SMALL, DIFFERENT if changed else GREY)
        if self.share:
            shown = f"{100 * self.share:.0f} %" if self.share >= 0.005 else "< 1 %"
            write(axes, x + width - _PAD, base, shown, _SMALL, line, bold=True, side="right")
            bar = max(0.5, (width - 2 * _PAD) * self.share)
            axes.add_patch(Rectangle((left, base + 3), bar, 2.2, color=line, linewidth=0))


def write(
    axes: Axes,
    x: float,
    y: float,
    words: str,
    size: float,
    colour: str,
    *,
    bold: bool = False,
    side: str = "left",
) -> None:
    """Writes on a base line."""
    weight = "bold" if bold else "normal"
    axes.text(x, y, _times(words), fontsize=size, color=colour, fontweight=weight, ha=side)


@lru_cache(maxsize=4096)
def text_width(words: str, size: float, *, bold: bool = False) -> float:
    """The width of a line of text."""
    if not words:
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return float(TextPath((0, 0), _times(words), size=size, prop=font).get_extents().width)


def _times(words: str) -> str:
    """Sizes with a proper multiplication sign: `3x3` becomes `3×3`."""
    return re.sub(r"(?<=\d)x(?=\d)", "×", words)


def _box(
    axes: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    line: str,
    fill: str,
    **style: Any,
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=5", edgecolor=line,
            facecolor=fill, **style,
        )
    )  # fmt: skip


# ---- the inside of a cell --------------------------------------------------------------------


@lru_cache(maxsize=256)
def _place_inside(inner: InnerGraph) -> Placement:
    sizes = [_node_size(text) for text in inner.texts]
    return place_nodes(sizes, inner.edges, gap=16, spacing=6)


def _node_size(text: str) -> tuple[float, float]:
    if not text:
        return 5.0, 5.0
    if len(text) == 1:
        return _DOT, _DOT
    return text_width(text, _SMALL) + 10, _CHIP


def _paint_inside(
    axes: Axes, inner: InnerGraph, placed: Placement, x: float, y: float, colour: str
) -> None:
    for path in placed.paths:
        _curve(axes, [(x + a, y + b) for a, b in path])
    for text, (a, b) in zip(inner.texts, placed.centres, strict=True):
        width, height = _node_size(text)
        if not text:
            axes.add_patch(Circle((x + a, y + b), 2.5, color=colour, linewidth=0, zorder=3))
            continue
        if len(text) == 1:
            axes.add_patch(
                Circle((x + a, y + b), width / 2, fc="white", ec=colour, lw=0.9, zorder=3)
            )
            axes.text(x + a, y + b, text, fontsize=8, color=colour, ha="center",
                      va="center_baseline", zorder=4)  # fmt: skip
            continue
        nothing = text == "zeros"
        axes.add_patch(
            FancyBboxPatch(
                (x + a - width / 2, y + b - height / 2), width, height,
                boxstyle="round,pad=0,rounding_size=3.5", facecolor="white", zorder=3,
                edgecolor=LINE if nothing else colour, linewidth=0.9,
                linestyle=(0, (2, 1.6)) if nothing else "solid",
            )
        )  # fmt: skip
        axes.text(x + a, y + b, _times(text), fontsize=_SMALL, color=LINE if nothing else INK,
                  ha="center", va="center_baseline", zorder=4)  # fmt: skip


def _curve(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A smooth line through the points, horizontal in each."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (x0 + x1) / 2
        vertices += [(middle, y0), (middle, y1), (x1, y1)]
        codes += [Path.CURVE4] * 3
    axes.add_patch(
        PathPatch(Path(vertices, codes), facecolor="none", edgecolor=LINE, linewidth=1.0, zorder=2)
    )
