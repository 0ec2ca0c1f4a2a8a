"""An executor with the real pool and workers that answer at once, in the pool's own thread.

What it costs is what loop, strategy, ledger and pool cost for so many workers, without messages.
"""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces import Genes
from strategies.executor import Session
from strategies.executor_evaluation import outcomes
from strategies.executor_pool import Pool
from strategies.executor_workers import Answered, PooledExecutor, Ready, Report, Worker
from strategies.protocols import Evaluator


@dataclass(frozen=True, slots=True, kw_only=True)
class InstantWorkers(PooledExecutor):
    """Evaluates within the call that hands a batch out; see `PooledExecutor` for the settings."""

    @property
    def name(self) -> str:
        return f"{self.workers} instant workers"

    def open(self, evaluator: Evaluator) -> Session:
        return Pool(lambda name, report: _Instant(name, report, evaluator), self)


class _Instant(Worker):
    def __init__(self, name: str, report: Report, evaluator: Evaluator) -> None:
        self.name = name
        self._report = report
        self._evaluator = evaluator
        report(Ready(self))

    def evaluate(self, genes: Genes) -> None:
        self._report(Answered(self, outcomes(self._evaluator, genes)))

    def kill(self) -> None:
        pass
