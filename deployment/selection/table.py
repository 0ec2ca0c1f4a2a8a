"""What was tried, as a table for people."""

from __future__ import annotations

from deployment.selection.results import STAGES, Selection, Tried

PAIRED = (
    "speed is against the default in the same rounds; ms is the least of a file's own last "
    "rounds, and rounds at other times differ: compare files by speed"
)

COLUMNS = ("stage", "variant", "ms", "+-", "speed", "error", "top-1", "accuracy", "outcome")


def selection_rows(selection: Selection) -> list[tuple[str, ...]]:
    """A row for each variant that was tried, under `COLUMNS`; the fastest first in each stage."""
    return [_row(one) for one in sorted(selection.tried, key=_place)]


def selection_table(selection: Selection) -> str:
    """The table with the outcome and the notes as lines of plain text."""
    rows = [COLUMNS, *selection_rows(selection)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * w for w in widths))
    text = [line.rstrip() for line in lines]
    paired = [PAIRED] if any(one.speedup is not None for one in selection.tried) else []
    notes = [f"- {note}" for note in selection.notes]
    return "\n".join([*text, "", *paired, selection.statement, *notes])


def _place(one: Tried) -> tuple[int, float]:
    return STAGES.index(one.stage), -(one.speedup or 0.0)


def _row(one: Tried) -> tuple[str, ...]:
    return (
        one.stage,
        one.change,
        _number(one.latency_ms, "{:.4g}"),
        _number(one.dispersion_ms, "{:.2g}"),
        _number(one.speedup, "{:.3f}x"),
        _number(one.relative_error, "{:.1e}"),
        _number(one.top1_agreement, "{:.1%}"),
        _number(one.accuracy, "{:.2%}"),
        one.status,
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None or value != value else form.format(value)
