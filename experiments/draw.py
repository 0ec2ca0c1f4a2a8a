"""Pictures of architectures, of any space: one alone, or two with their differences marked.

    draw_architecture(space, genes, "network.svg")
    draw_difference(space, before, after, "difference.png")

Each tile is a section of the network (`experiments.sections`), named as it was declared. It says
what it is, its channels, its output as height x width x channels, and its share of the network's
multiply-accumulates, which the bar shows too. Equal sections in a row are one tile with their
number. A line past a tile is a shortcut. No cost model is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from experiments.differences import compare, is_same, notes_on
from experiments.inner_graph import inner_graph
from experiments.report_networks import KINDS
from experiments.report_picture_style import INK, STYLE
from experiments.section_text import describe
from experiments.sections import Section, sections
from experiments.tile_flow import Column, Flow
from experiments.tiles import DIFFERENT, GREY, SOFT, Tile, text_width, write
from records import BadInputError, replace_file
from search_spaces import Architecture, Graph, SearchSpace

ArchitectureLike: TypeAlias = Architecture | npt.ArrayLike

SUFFIXES = (".png", ".svg", ".pdf")
WIDTH = 800.0
"""Of a picture, in points; one whose cells are wider is wider."""

_MARGIN, _TITLE, _LINE = 14.0, 22.0, 14.0


def draw_architecture(
    space: SearchSpace, architecture: ArchitectureLike, path: str | Path
) -> None:
    """Draws one architecture.

    Args:
        space: Its space.
        architecture: The architecture, or its row of genes.
        path: The picture to write, atomically; its suffix says the format: PNG, SVG or PDF.

    Raises:
        BadInputError: Another suffix; an architecture that is not of the space.
        StorageError: The file cannot be written.
    """
    path = checked_picture(path)
    graph = space.graph(architecture)
    found = sections(graph)
    stages = _stages([section.name for section in found])
    columns = [
        Column(stage=stages[section.name], tiles=(_tile(section, graph),)) for section in found
    ]
    _save(path, space.name, [_summary(graph)], Flow(_collapsed(columns), WIDTH))


def draw_difference(
    space: SearchSpace, first: ArchitectureLike, second: ArchitectureLike, path: str | Path
) -> None:
    """Draws two architectures of a space, one above the other, and marks what differs.

    Sections of the same name stand above each other. A section is marked if any of its layers
    differs; what the tile would not show, such as another activation, is added to it.

    Args:
        space: Their space.
        first: The upper one, called A: an architecture, or its row of genes.
        second: The lower one, called B.
        path: The picture to write, atomically; its suffix says the format: PNG, SVG or PDF.

    Raises:
        BadInputError: Another suffix; an architecture that is not of the space.
        StorageError: The file cannot be written.
    """
    path = checked_picture(path)
    graphs = space.graph(first), space.graph(second)
    order = {node.name: place for place, node in enumerate(space.nodes)}
    columns = []
    compared = compare(sections(graphs[0]), sections(graphs[1]), order)
    stages = _stages([name for name, _ in compared])
    for name, pair in compared:
        tiles = [
            None if section is None else _tile(section, graph)
            for section, graph in zip(pair, graphs, strict=True)
        ]
        columns.append(Column(stage=stages[name], tiles=_marked(pair, tiles)))
    lines = [f"{lane}   {_summary(graph)}" for lane, graph in zip("AB", graphs, strict=True)]
    flow = Flow(_collapsed(columns), WIDTH, lane_names=("A", "B"))
    _save(path, f"{space.name}: two architectures", lines, flow)


def checked_picture(path: str | Path) -> Path:
    """The path of a picture to write.

    Raises:
        BadInputError: Its suffix names no format that pictures are written in.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise BadInputError(
            f"a picture is written as {', '.join(SUFFIXES)} by its suffix, got {path.name!r}"
        )
    return path


def _stages(names: Sequence[str]) -> dict[str, str]:
    """For each section the outermost scope that it shares, or may share, with others."""
    stages = {name.split(".")[0] for name in names if "." in name}
    return {name: name.split(".")[0] if name.split(".")[0] in stages else "" for name in names}


def _tile(section: Section, graph: Graph) -> Tile:
    said = describe(section)
    last = section.layers[-1]
    is_cell = said.kind == "cell"
    return Tile(
        name=section.name.split(".", 1)[-1],
        kind=said.kind,
        text="" if is_cell else said.text,
        detail="" if is_cell else said.detail,
        size=f"{last.height}x{last.width}x{last.channels}",
        share=section.macs / max(1, graph.macs),
        has_shortcut=said.has_shortcut,
        inner=inner_graph(section) if is_cell else None,
    )


def _marked(
    pair: Sequence[Section | None], tiles: Sequence[Tile | None]
) -> tuple[Tile | None, ...]:
    """The tiles of a section with their differences."""
    (first, second), (one, other) = pair, tiles
    if first is None or second is None or one is None or other is None:
        return tuple(tile and replace(tile, different=frozenset({"all"})) for tile in tiles)
    if is_same(first, second):
        return one, other
    shown = {
        name for name in ("text", "detail", "size") if getattr(one, name) != getattr(other, name)
    }
    marked = replace(one, different=frozenset({*shown, "all"}))
    other_marked = replace(other, different=frozenset({*shown, "all"}))
    if shown or one.inner != other.inner:
        return marked, other_marked
    return (
        replace(marked, notes=notes_on(first, second)),
        replace(other_marked, notes=notes_on(second, first)),
    )


def _collapsed(columns: Sequence[Column]) -> list[Column]:
    """Equal columns in a row as one, which says how many they are."""

    def likeness(column: Column) -> tuple[Any, ...]:
        return column.stage, tuple(tile and replace(tile, name="") for tile in column.tiles)

    found = []
    for _, group in groupby(columns, likeness):
        alike = list(group)
        tiles = tuple(
            tile and _repeated(tile, [column.tiles[lane] for column in alike])
            for lane, tile in enumerate(alike[0].tiles)
        )
        found.append(Column(stage=alike[0].stage, tiles=tiles))
    return found


def _repeated(first: Tile, tiles: Sequence[Tile | None]) -> Tile:
    if len(tiles) == 1:
        return first
    last = tiles[-1]
    assert last is not None
    between = " to " if len(tiles) > 2 else ", "
    return replace(
        first,
        name=f"{first.name}{between}{last.name}",
        repeats=len(tiles),
        share=first.share * len(tiles),
    )


def _summary(graph: Graph) -> str:
    first, last = graph.layers[0], graph.layers[-1]
    return (
        f"{first.height}x{first.width}x{first.channels} to {last.channels} classes   "
        f"{_short(graph.macs)} MACs   {_short(graph.parameters)} parameters"
    )


def _short(number: int) -> str:
    """With three digits, e.g. `1.23 M`."""
    for unit, factor in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return str(number)


def _save(path: Path, title: str, lines: Sequence[str], flow: Flow) -> None:
    width = max(flow.width, *(text_width(line, 8.5) for line in lines), 330.0) + 2 * _MARGIN
    head = _TITLE + _LINE * len(lines) + 6
    height = head + flow.height + 34 + 2 * _MARGIN
    with rc_context({**STYLE, "svg.fonttype": "path"}):  # the same wherever it is shown
        figure = Figure(figsize=(width / 72, height / 72), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(-_MARGIN, width - _MARGIN)
        axes.set_ylim(height - _MARGIN, -_MARGIN)
        write(axes, 2, 12, title, 13, INK, bold=True)
        for place, line in enumerate(lines):
            write(axes, 2, _TITLE + 6 + _LINE * place, line, 8.5, SOFT)
        flow.paint(axes, head)
        _legend(axes, flow, head + flow.height + 24)
        save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure atomically, in the format of its suffix, without the time of writing."""
    facts = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    kind = path.suffix.lower().removeprefix(".")
    with replace_file(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=160, metadata=facts[kind])


def _legend(axes: Axes, flow: Flow, y: float) -> None:
    """The kinds of tiles that there are, and what the marks mean."""
    tiles = [tile for row in flow.rows for column in row.columns for tile in column.tiles if tile]
    x = 2.0
    for kind in dict.fromkeys(tile.kind for tile in tiles):
        name = KINDS[kind][2] if kind in KINDS else kind
        line, fill = next(tile for tile in tiles if tile.kind == kind).colours
        dashed = (0, (3, 2.2)) if kind == "transition" else "solid"
        axes.add_patch(
            FancyBboxPatch(
                (x, y - 8), 12, 9, boxstyle="round,pad=0,rounding_size=2.5", edgecolor=line,
                facecolor=fill, linewidth=1.0, linestyle=dashed,
            )
        )  # fmt: skip
        write(axes, x + 17, y, name, 8, GREY)
        x += 17 + text_width(name, 8) + 16
    if any(tile.different for tile in tiles):
        axes.add_patch(
            FancyBboxPatch(
                (x, y - 8), 12, 9, boxstyle="round,pad=0,rounding_size=2.5",
                edgecolor=DIFFERENT, facecolor="none", linewidth=2.0,
            )
        )  # fmt: skip
        write(axes, x + 17, y, "different", 8, GREY)
        x += 17 + text_width("different", 8) + 16
    write(axes, x, y, "%, bar: share of the multiply-accumulates", 8, GREY)
