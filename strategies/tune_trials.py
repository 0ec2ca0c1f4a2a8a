"""What is under way and what came of it, for a searcher that suggests trials and hears of them.

A trial has a row of genes. It may report several times, be stopped while it is paused, fail, be
tried again, or never be heard of again. What it reported last counts. It counts as failed where
that is no number or none the strategy can use, where it lacks a metric and always did, and where
the trial failed, whatever it had reported.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from records import Observation
from strategies.protocols import Floats
from strategies.strategy import floats_from_json, floats_to_json
from strategies.tune_config import row_of
from strategies.tune_proposals import Proposals

logger = logging.getLogger(__name__)

Row: TypeAlias = tuple[int, ...]

SECONDS = "time_total_s"
"""Under which name Tune reports how long a trial has run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a trial.

    Attributes:
        row: Its genes.
        values: What it reported last, one value a metric; NaN where it failed.
        reason: Why it counts as failed; empty where it does not.
        seconds: How long it ran.
    """

    row: Row
    values: tuple[float, ...]
    reason: str = ""
    seconds: float = 0.0


class Trials:
    """The trials of one searcher.

    Args:
        proposals: Where rows come from, and who is told.
        metrics: The names of what trials report.

    Attributes:
        outcomes: What became of the trials that ended, by trial, in the order of ending.
    """

    def __init__(self, proposals: Proposals, metrics: Sequence[str]) -> None:
        self.proposals = proposals
        self.metrics = tuple(metrics)
        self.outcomes: dict[str, Outcome] = {}
        self._rows: dict[str, Row] = {}
        self._live: dict[str, Floats | None] = {}  # the last complete report of each
        self._again: list[Row] = []

    @property
    def under_way(self) -> tuple[str, ...]:
        """The trials that were suggested and have not ended."""
        return tuple(self._live)

    def next(self, trial: str) -> Row | None:
        """The genes of a new trial; None where there is none now, or with none under way, ever."""
        if self._again:
            row = self._again.pop(0)
        else:
            proposed = self.proposals.next(is_waiting=bool(self._live))
            if proposed is None:
                return None
            row = row_of(proposed)
        self._rows[trial] = row
        self._live[trial] = None
        return row

    def heard(self, trial: str, result: Mapping[str, Any]) -> None:
        """Remembers a report of a trial that goes on: the last one, if it is stopped later."""
        values = self._values(result)
        if trial in self._live and values is not None:
            self._live[trial] = values

    def ended(self, trial: str, result: Mapping[str, Any] | None, failed: bool) -> None:
        """Tells the strategy of a trial that ended."""
        if trial not in self._rows:
            logger.warning("trial %s is none that was suggested here: not counted", trial)
            return
        before = self._live.pop(trial, None)
        self.take(trial, self._rows[trial], result or {}, failed=failed, before=before)

    def take(
        self,
        trial: str,
        row: Row,
        result: Mapping[str, Any],
        *,
        failed: bool,
        before: Floats | None = None,
    ) -> None:
        """Tells the strategy what became of a row.

        Args:
            trial: A name of its own; the later of two outcomes of one name counts.
            row: The genes.
            result: What was reported.
            failed: Whether it failed, whatever was reported.
            before: The last complete report before, one value a metric, if there was one.
        """
        values = self._values(result)
        values = before if values is None else values
        if failed:
            reason = "the trial failed"
        elif values is None:
            reason = f"it never reported {' and '.join(self.metrics)}"
        else:
            reason = self.proposals.why_unusable(values)
        if reason or values is None:
            logger.warning("trial %s counts as failed: %s", trial, reason)
            values = np.full(len(self.metrics), np.nan)
        seconds = _number(result.get(SECONDS, 0.0))
        self.outcomes[trial] = Outcome(
            row=row,
            values=tuple(values.tolist()),
            reason=reason,
            seconds=seconds if seconds > 0 else 0.0,
        )
        self.proposals.tell(row, values)

    def suggest_again(self) -> None:
        """Suggests what is under way under new trials; an old one that ends after all counts."""
        self._again += [self._rows[trial] for trial in self._live]
        self._live = {}

    def observations(self, weights_hash: str) -> tuple[Observation, ...]:
        """What became of the trials as records, one for each metric of a trial."""
        return tuple(
            Observation(
                genes=outcome.row,
                metric=metric,
                value=None if outcome.reason else value,
                status="failed" if outcome.reason else "ok",
                reason=outcome.reason,
                step=step,
                seconds=outcome.seconds,
                weights_hash=weights_hash,
                space_hash=self.proposals.space.hash,
            )
            for step, outcome in enumerate(self.outcomes.values())
            for metric, value in zip(self.metrics, outcome.values, strict=True)
        )

    def state(self) -> dict[str, Any]:
        """Everything that decides what is suggested next, as JSON-ready values."""
        live = [
            [trial, None if values is None else floats_to_json(values)]
            for trial, values in self._live.items()
        ]
        outcomes = [
            [trial, list(o.row), floats_to_json(np.array(o.values)), o.reason, o.seconds]
            for trial, o in self.outcomes.items()
        ]
        return {
            "rows": [[trial, list(row)] for trial, row in self._rows.items()],
            "live": live,
            "again": [list(row) for row in self._again],
            "outcomes": outcomes,
            "proposals": self.proposals.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues where trials, made with the same arguments, had come to."""
        self.proposals.restore(state["proposals"])
        self._rows = {trial: tuple(row) for trial, row in state["rows"]}
        self._live = {
            trial: None if values is None else floats_from_json(values)
            for trial, values in state["live"]
        }
        self._again = [tuple(row) for row in state["again"]]
        self.outcomes = {
            trial: Outcome(
                row=tuple(row),
                values=tuple(floats_from_json(values).tolist()),
                reason=reason,
                seconds=seconds,
            )
            for trial, row, values, reason, seconds in state["outcomes"]
        }

    def _values(self, result: Mapping[str, Any]) -> Floats | None:
        """What a result reports of all metrics; None where it lacks one."""
        if any(name not in result for name in self.metrics):
            return None
        return np.array([_number(result[name]) for name in self.metrics])


def _number(value: object) -> float:
    """A reported value; NaN where it is no finite number."""
    if isinstance(value, bool | str | bytes):
        return math.nan
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan
