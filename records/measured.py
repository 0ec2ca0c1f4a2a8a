"""What an expensive evaluation gives for one candidate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from records.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one expensive evaluation gave.

    Attributes:
        value: The finite value; None when it failed.
        dispersion: Its standard error, at least 0, if known.
        seconds: How long it took.
        status: "ok" or "failed".
        reason: Why it failed.

    Raises:
        BadInputError: An ok result without a finite value, a failed one with a value or no reason.
    """

    value: float | None
    dispersion: float | None = None
    seconds: float = 0.0
    status: Literal["ok", "failed"] = "ok"
    reason: str = ""

    def __post_init__(self) -> None:
        if self.status == "ok":
            if self.value is None or not math.isfinite(self.value):
                raise BadInputError(
                    f"an ok measurement needs a finite value, got {self.value!r}; report what "
                    "went wrong as status='failed' with value=None and a reason"
                )
        elif self.status == "failed":
            if self.value is not None or not self.reason:
                raise BadInputError("a failed measurement has value=None and a reason")
        else:
            raise BadInputError(f"status must be 'ok' or 'failed', got {self.status!r}")
