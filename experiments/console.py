"""What a person sees while a run goes on: steps, progress bars, tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

console = Console(highlight=False)
"""Where everything is printed."""
if not console.is_terminal:
    console = Console(highlight=False, width=150)  # a file or a pipe: do not fold tables

Advance = Callable[[int, int, str], None]

LINES_EVERY_S = 60.0


class _Count(MofNCompleteColumn):
    """How many of how many are done; nothing as long as nobody knows."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


@contextmanager
def progress_bar(title: str, *, idle: str = "") -> Iterator[Advance]:
    """A progress bar; call what it gives with (done, total, a short text behind the bar).

    In a file or a pipe, such as a job's log, a line tells about it every `LINES_EVERY_S`. Where
    there was nothing to do, no bar stays, but the line `idle` is printed if there is one.
    """
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=28),
        _Count(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None, text="")
        told = time.monotonic()

        def advance(done: int, total: int, text: str = "") -> None:
            nonlocal told
            progress.update(task, completed=done, total=total, text=text)
            if not console.is_terminal and time.monotonic() - told >= LINES_EVERY_S:
                told = time.monotonic()
                say(f"{title}: {done} of {total}, {text}")

        yield advance
        if progress.tasks[0].total is None:
            progress.update(task, visible=False)
    if idle and progress.tasks[0].total is None:
        say(f"  {idle}")


def say(text: str) -> None:
    """Prints a line."""
    console.print(text, markup=False)


def show_table(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: int = 1,
    wrapped: str = "",
) -> None:
    """Prints a table; the first `left` columns are text, the others are aligned as numbers.

    The column named `wrapped` is text of any length, folded to the width that is left.
    """
    table = Table(header_style="bold", box=box.SIMPLE_HEAD)
    for index, name in enumerate(head):
        is_text = index < left or name == wrapped
        table.add_column(
            name,
            justify="left" if is_text else "right",
            no_wrap=name != wrapped,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    console.print(title, style="bold")  # not the table's: that is folded to the table's width
    console.print(table)
