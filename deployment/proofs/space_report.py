"""The report of a proof: named checks with their number of cases and largest difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceCheck:
    """One thing that was checked, on a number of cases.

    Attributes:
        name: What should hold.
        passed: Whether it holds for all cases; False where there was none.
        cases: On how many it was checked.
        largest_difference: The largest deviation that was seen: relative for values, in units for
            counts.
        detail: The first failure with its architecture and layer, else what was left out.
    """

    name: str
    passed: bool
    cases: int
    largest_difference: float
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceReport:
    """What `verify_space` found.

    Attributes:
        space: The space's name.
        architectures: How many networks were looked at.
        checks: The checks, in the order in which they were made.
    """

    space: str
    architectures: int
    checks: tuple[SpaceCheck, ...]

    HEAD = ("check", "result", "cases", "largest difference", "detail")

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def __getitem__(self, name: str) -> SpaceCheck:
        """The check of that name."""
        return {check.name: check for check in self.checks}[name]

    def rows(self) -> list[list[str]]:
        """A table's rows under `HEAD`."""
        return [
            [
                check.name,
                "ok" if check.passed else "FAILED",
                f"{check.cases:,}",
                f"{check.largest_difference:.2g}",
                check.detail,
            ]
            for check in self.checks
        ]

    def __str__(self) -> str:
        """The table as plain text."""
        table = [list(self.HEAD), *self.rows()]
        widths = [max(len(row[k]) for row in table) for k in range(len(self.HEAD))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        verdict = "all checks hold" if self.ok else "NOT all checks hold"
        lines.append(f"{self.space}: {verdict} for {self.architectures} architectures")
        return "\n".join(lines)


class Tally:
    """A check in the making."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cases = 0
        self.largest = 0.0
        self.failure = ""
        self.note = ""

    @contextmanager
    def case(self, where: str) -> Iterator[None]:
        """One case; what is raised inside is its failure, and goes no further."""
        self.cases += 1
        try:
            yield
        except Exception as error:  # whatever a user's primitive raises
            self.fail(f"{where}: {type(error).__name__}: {error}")

    def difference(self, value: float, allowed: float, where: str | Callable[[], str]) -> None:
        """Notes a deviation; one above what is allowed, or NaN, is a failure."""
        if not value <= self.largest:
            self.largest = value
        if not value <= allowed:
            self.fail(where if isinstance(where, str) else where())

    def fail(self, detail: str) -> None:
        """Notes a failure; the first is kept."""
        self.failure = self.failure or detail

    def check(self) -> SpaceCheck:
        """The check that it became."""
        empty = "" if self.cases else "no case: nothing was checked"
        failure = self.failure or (empty if not self.note else "")
        return SpaceCheck(
            name=self.name,
            passed=not failure,
            cases=self.cases,
            largest_difference=self.largest,
            detail=failure or self.note,
        )


def report(space: str, architectures: int, tallies: Sequence[Tally]) -> SpaceReport:
    """The report of some tallies."""
    return SpaceReport(
        space=space, architectures=architectures, checks=tuple(t.check() for t in tallies)
    )
