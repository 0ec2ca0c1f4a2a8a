"""One call of an evaluator, such that a row that fails spoils no other row.

This is what every executor does with a batch, in this process or in a worker.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from records import HwnasError, Measured
from search_spaces import Genes
from strategies.protocols import Evaluator

_LONGEST_REASON = 2000


class EvaluationError(HwnasError, RuntimeError):
    """Nothing can be evaluated: everything fails, answers make no sense, no worker starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An evaluation that gave nothing usable; another try may.

    Attributes:
        reason: What happened.
        seconds: How long it took.
    """

    reason: str
    seconds: float = 0.0

    def failed(self) -> Measured:
        """The result, where there is no other try."""
        reason = self.reason[:_LONGEST_REASON]
        return Measured(value=None, status="failed", reason=reason, seconds=self.seconds)


Outcome: TypeAlias = Measured | Fault


def outcomes(evaluator: Evaluator, genes: Genes) -> list[Outcome]:
    """Evaluates a batch.

    A batch in which the evaluator raises is evaluated once more row by row, so that only the rows
    at fault fail. An evaluator that says itself that a row failed has answered: that is no fault.

    Args:
        evaluator: Measures the rows.
        genes: An `n x d` array.

    Returns:
        A result or a fault for each row, in order.

    Raises:
        EvaluationError: It returned another number of results than it was given rows.
    """
    began = time.perf_counter()
    try:
        results: Sequence[Measured] = list(evaluator.evaluate(genes))
    except Exception as error:
        if len(genes) > 1:
            return [outcomes(evaluator, genes[i : i + 1])[0] for i in range(len(genes))]
        return [Fault(reason=described(error), seconds=time.perf_counter() - began)]
    if len(results) != len(genes):
        raise EvaluationError(
            f"the evaluator was given {len(genes)} architectures and returned {len(results)} "
            "results; it must return one for each, in order"
        )
    return [_judged(evaluator.metric, result) for result in results]


def described(error: BaseException) -> str:
    """An error in one text."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _judged(metric: str, result: Measured) -> Outcome:
    value = result.value
    if value is None or (math.isfinite(value) and 0 <= value <= 1):
        return result
    hint = " (divide percentages by 100)" if 1 < value <= 100 else ""
    return Fault(
        reason=f"the evaluator returned {metric} {value:g}; it must be a share in 0..1{hint}",
        seconds=result.seconds,
    )
