"""Tiles in rows, from left to right and from top to bottom, with lines from one to the next.

A stage stays on one row where it fits, on a band of its own colour. Two architectures to compare
run side by side in two lanes, so that tiles of the same section stand above each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.path import Path

from experiments.report_picture_style import FAINT
from experiments.tiles import GREY, LINE, Tile, write

GAP, ROW_GAP, LANE_GAP = 26.0, 20.0, 14.0
BAND_PAD, BAND_LABEL, ARC = 15.0, 14.0, 9.0
LANE_LABEL = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Tiles above each other, one in each lane, or None where a lane has none.

    Attributes:
        stage: The stage that they belong to, empty for none.
        tiles: From the first lane to the last.
    """

    stage: str
    tiles: tuple[Tile | None, ...]

    @property
    def width(self) -> float:
        return max(tile.width for tile in self.tiles if tile is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row with the left end of each of its columns and the height of each of its lanes."""

    columns: tuple[Column, ...]
    lefts: tuple[float, ...]
    heights: tuple[float, ...]

    @property
    def height(self) -> float:
        lanes = sum(self.heights) + (LANE_GAP + ARC) * (len(self.heights) - 1)
        return self.head + ARC + lanes + ARC

    @property
    def head(self) -> float:
        """The room for the names of stages."""
        return BAND_LABEL if any(column.stage for column in self.columns) else 0.0


class Flow:
    """Columns laid out in rows.

    Args:
        columns: In order.
        width: What the rows may take, in points; a wider column takes what it needs.
        lane_names: Written before each lane; none where there is one lane.
    """

    def __init__(
        self, columns: Sequence[Column], width: float, lane_names: Sequence[str] = ()
    ) -> None:
        self.lane_names = tuple(lane_names)
        self.indent = LANE_LABEL if lane_names else 4.0
        self.rows = self._rows(columns, width)
        turns = BAND_PAD + 12 + 4 * len(self.lane_names)  # room for lines to the next row
        self.width = max(row.lefts[-1] + row.columns[-1].width + turns for row in self.rows)
        self.height = sum(row.height for row in self.rows) + ROW_GAP * (len(self.rows) - 1)

    def _rows(self, columns: Sequence[Column], width: float) -> list[_Row]:
        rows: list[list[Column]] = [[]]
        for _, group in groupby(columns, lambda column: column.stage):
            stage = list(group)
            fits_here = self._length([*rows[-1], *stage]) <= width
            if rows[-1] and not fits_here and self._length(stage) <= width:
                rows.append([])
            for column in stage:
                if rows[-1] and self._length([*rows[-1], column]) > width:
                    rows.append([])
                rows[-1].append(column)
        return [self._row(row) for row in rows]

    def _length(self, columns: Sequence[Column]) -> float:
        return self._lefts(columns)[-1] + columns[-1].width + BAND_PAD

    def _lefts(self, columns: Sequence[Column]) -> list[float]:
        """The left end of each column; bands have room on both sides."""
        lefts: list[float] = []
        x, before = self.indent + BAND_PAD, None
        for column in columns:
            if before is not None:
                apart = column.stage != before.stage
                x += before.width + GAP + (BAND_PAD if apart else 0)
            lefts.append(x)
            before = column
        return lefts

    def _row(self, columns: Sequence[Column]) -> _Row:
        lanes = range(len(columns[0].tiles))
        tiles = [[c.tiles[lane] for c in columns] for lane in lanes]
        heights = (max((tile.height for tile in lane if tile), default=40.0) for lane in tiles)
        return _Row(
            columns=tuple(columns), lefts=tuple(self._lefts(columns)), heights=tuple(heights)
        )

    # ---- painting ------------------------------------------------------------------------------

    def paint(self, axes: Axes, top: float) -> None:
        """Paints the rows, the first of them at `top`."""
        before: list[tuple[float, float]] = []
        for row in self.rows:
            _paint_bands(axes, row, top)
            y = top + row.head + ARC
            begins, ends = [], []
            for lane, height in enumerate(row.heights):
                middle = y + height / 2
                if self.lane_names:
                    write(axes, 2, middle + 4, self.lane_names[lane], 12, GREY, bold=True)
                begin, end = _paint_lane(axes, row, lane, middle)
                begins.append((begin, middle))
                ends.append((end, middle))
                y += height + LANE_GAP + ARC
            if before:
                _turn(axes, before, begins, top)
            before = ends
            top += row.height + ROW_GAP


def _paint_bands(axes: Axes, row: _Row, top: float) -> None:
    placed = zip(row.lefts, row.columns, strict=True)
    for stage, group in groupby(placed, lambda pair: pair[1].stage):
        if not stage:
            continue
        pairs = list(group)
        left = pairs[0][0] - BAND_PAD
        right = pairs[-1][0] + pairs[-1][1].width + BAND_PAD
        axes.add_patch(
            FancyBboxPatch(
                (left, top), right - left, row.height, zorder=0, linewidth=0, facecolor=FAINT,
                boxstyle="round,pad=0,rounding_size=7",
            )
        )  # fmt: skip
        write(axes, left + 8, top + 11.5, stage, 7.5, GREY, bold=True)


def _paint_lane(axes: Axes, row: _Row, lane: int, middle: float) -> tuple[float, float]:
    """Paints the tiles of a lane; returns where its line enters and leaves the row."""
    begin = end = row.lefts[0]
    last = row.lefts[-1] + row.columns[-1].width
    is_first = True
    for left, column in zip(row.lefts, row.columns, strict=True):
        tile = column.tiles[lane]
        if tile is None:
            write(axes, left + column.width / 2, middle - 5, "absent", 7, LINE, side="center")
            continue
        x = left + (column.width - tile.width) / 2
        if is_first and column is row.columns[0]:
            begin = x - tile.edges[0]
        else:
            _arrow(axes, end, x - tile.edges[0], middle)
        is_first = False
        tile.paint(axes, x, middle - tile.height / 2)
        end = x + tile.width + tile.edges[1]
        if tile.has_shortcut:
            _shortcut(axes, x, x + tile.width, middle, tile)
    if end < last:
        _line(axes, [(end, middle), (last, middle)])
    return begin, max(end, last)


def _turn(
    axes: Axes,
    ends: Sequence[tuple[float, float]],
    begins: Sequence[tuple[float, float]],
    top: float,
) -> None:
    """The lines from the end of a row to the start of the next, one for each lane."""
    last = len(ends) - 1
    right_most = max(x for x, _ in ends) + BAND_PAD + 7
    left_most = min(x for x, _ in begins) - BAND_PAD - 7
    for lane, ((x, y), (begin, middle)) in enumerate(zip(ends, begins, strict=True)):
        between = top - ROW_GAP / 2 + 4 * lane - 2 * last
        right, left = right_most + 4 * (last - lane), left_most + 4 * (last - lane)
        _line(axes, [(x, y), (right, y), (right, between), (left, between), (left, middle),
                     (begin - 6, middle)])  # fmt: skip
        _arrow(axes, begin - 8, begin, middle)


def _shortcut(axes: Axes, left: float, right: float, middle: float, tile: Tile) -> None:
    """A line past a tile, from before it to a sum behind it."""
    above = max(5.5, 8.5 if tile.repeats > 1 else 0.0, tile.edges[1] + 3.5)
    rise = middle - tile.height / 2 - above
    start, stop = left - 9, right + 9
    corner = 4.0
    vertices = [
        (start, middle), (start, rise + corner), (start, rise), (start + corner, rise),
        (stop - corner, rise), (stop, rise), (stop, rise + corner), (stop, middle - 3.6),
    ]  # fmt: skip
    codes = [Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO, Path.CURVE3,
             Path.CURVE3, Path.LINETO]  # fmt: skip
    axes.add_patch(
        PathPatch(Path(vertices, codes), facecolor="none", edgecolor=LINE, linewidth=1.0)
    )
    axes.add_patch(Circle((stop, middle), 3.6, fc="white", ec=LINE, lw=1.0, zorder=5))
    for dx, dy in ((2.1, 0), (0, 2.1)):
        axes.plot([stop - dx, stop + dx], [middle - dy, middle + dy], color=LINE, lw=0.9, zorder=6)


def _arrow(axes: Axes, left: float, right: float, y: float) -> None:
    _line(axes, [(left, y), (right - 1.5, y)])
    tip = [(right - 6, y - 3.2), (right - 1, y), (right - 6, y + 3.2)]
    _line(axes, tip)


def _line(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    x, y = zip(*points, strict=True)
    axes.plot(x, y, color=LINE, linewidth=1.1, solid_joinstyle="round", zorder=1.5)
