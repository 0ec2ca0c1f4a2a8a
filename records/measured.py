"""What an expensive evaluation returns for one candidate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from records.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A value with its dispersion, or the reason why there is none.

    Attributes:
        value: The measured value; None where the evaluation failed.
        dispersion: Its standard error, in the same unit.
        seconds: How long it took.
        status: `ok` or `failed`.
        reason: Why it failed.
    """

    value: float | None
    dispersion: float | None = None
    seconds: float = 0.0
    status: str = "ok"
    reason: str = ""

    def __post_init__(self) -> None:
        if self.status not in ("ok", "failed"):
            raise BadInputError(f"status is 'ok' or 'failed', got {self.status!r}")
        if self.status == "ok" and (self.value is None or not math.isfinite(self.value)):
            raise BadInputError(f"an evaluation that is ok has a finite value, got {self.value}")
        if self.status == "failed" and not self.reason:
            raise BadInputError("a failed evaluation needs its reason")
