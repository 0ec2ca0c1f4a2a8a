"""A double of executors: its workers are threads of this process."""

import threading
from dataclasses import dataclass

from strategies.executor_evaluation import EvaluationError, outcomes
from strategies.executor_pool import Pool
from strategies.executor_workers import (
    Answered,
    Died,
    PooledExecutor,
    Ready,
    Useless,
    Worker,
)


class DiesError(BaseException):
    """Raised in an evaluation, it ends the worker."""


class ThreadWorker(Worker):
    """Evaluates in a thread; when it is killed, its words are still heard, as late ones may be."""

    def __init__(self, name, report, evaluator, lives=True):
        self.name = name
        self.report = report
        self.evaluator = evaluator
        self.killed = threading.Event()
        report(Ready(self) if lives else Died(self, "no luck"))

    def evaluate(self, genes):
        threading.Thread(target=self._evaluate, args=(genes,), daemon=True).start()

    def kill(self):
        self.killed.set()

    def _evaluate(self, genes):
        try:
            self.report(Answered(self, outcomes(self.evaluator, genes)))
        except EvaluationError as error:
            self.report(Useless(self, str(error)))
        except DiesError:
            self.report(Died(self, "it died"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Threads(PooledExecutor):
    """An executor whose workers share the evaluator."""

    @property
    def name(self):
        return f"{self.workers} threads"

    def open(self, evaluator):
        return Pool(lambda name, report: ThreadWorker(name, report, evaluator), self)
