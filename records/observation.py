"""One observed fact: these genes had this value of a metric on a target, or failed and why."""

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from records.errors import BadInputError

_LARGEST_STEP = 2**63 - 1  # what a database's integer holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was measured, as it was measured; predictions are recomputed and never stored.

    Numpy scalars are turned into plain numbers, so equal observations are equal records.

    Attributes:
        genes: The architecture's row of the population, `d` codes.
        metric: What was observed, e.g. "accuracy" or "latency_ms".
        value: The finite value in `unit`; None when the observation failed.
        target: The device target it belongs to; empty when it belongs to none, as accuracy.
        unit: The value's unit, for display.
        dispersion: Spread of the repeated measurements in `unit` (at least 0), if there were any.
        status: "ok" or "failed".
        reason: Why it failed; empty when it did not need one.
        step: The search step, at least 0.
        seconds: How long the observation took.
        weights_hash: The weights it was made with.
        space_hash: The search space the genes belong to.
        raw: The single measurements behind the value, in the order taken.

    Raises:
        BadInputError: A field does not keep the above; the message names it.
    """

    genes: tuple[int, ...]
    metric: str
    value: float | None
    target: str = ""
    unit: str = ""
    dispersion: float | None = None
    status: Literal["ok", "failed"] = "ok"
    reason: str = ""
    step: int = 0
    seconds: float = 0.0
    weights_hash: str = ""
    space_hash: str = ""
    raw: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Checks every field and turns numpy scalars into plain numbers."""
        _set(self, "genes", _integers(self.genes))
        _set(self, "step", _integer("step", self.step))
        if self.reason:
            _set(self, "reason", _storable(self.reason))
        _set(self, "seconds", _finite("seconds", self.seconds))
        _set(self, "raw", tuple(_finite("raw", value) for value in self.raw))
        if self.dispersion is not None:
            _set(self, "dispersion", _finite("dispersion", self.dispersion))
        if not self.metric:
            raise BadInputError("metric must be named, got an empty text")
        if not 0 <= self.step <= _LARGEST_STEP:
            raise BadInputError(f"step must be in 0..2^63-1, got {self.step}")
        for name, number in (("seconds", self.seconds), ("dispersion", self.dispersion)):
            if number is not None and number < 0:
                raise BadInputError(f"{name} must be at least 0, got {number}")
        self._check_status()

    def _check_status(self) -> None:
        if self.status == "ok":
            if self.value is None:
                raise BadInputError(
                    f"{self.metric} is ok but has no value; an observation without one is "
                    "status='failed' with a reason"
                )
            _set(self, "value", _finite("value", self.value))
        elif self.status == "failed":
            if self.value is not None:
                raise BadInputError(f"{self.metric} failed, so value is None, got {self.value}")
            if not self.reason:
                raise BadInputError(f"{self.metric} failed, so a reason must say why")
        else:
            raise BadInputError(f"status must be 'ok' or 'failed', got {self.status!r}")


def _set(observation: Observation, name: str, value: object) -> None:
    object.__setattr__(observation, name, value)


def _storable(reason: str) -> str:
    """Spells out what a database may refuse: an error's text must not be lost.

    It may carry undecodable bytes of a device's output, or a NUL, which PostgreSQL cannot hold.
    """
    text = reason.encode("utf-8", "backslashreplace").decode("utf-8")
    return text.replace("\0", "\\x00")


def _integers(numbers: Iterable[int]) -> tuple[int, ...]:
    found = tuple(numbers)
    if set(map(type, found)) <= {int}:  # as a rule; much faster than to look at each
        return found
    return tuple(_integer("genes", number) for number in found)


def _integer(name: str, number: int) -> int:
    try:
        return int(operator.index(number))  # refuses 2.5, where int() would cut it off
    except TypeError:
        raise BadInputError(f"{name} must hold integers, got {number!r}") from None


def _finite(name: str, number: float) -> float:
    try:
        plain = float(number)
    except (TypeError, ValueError):
        raise BadInputError(f"{name} must hold numbers, got {number!r}") from None
    if not math.isfinite(plain):
        raise BadInputError(
            f"{name} must be finite, got {plain}; record what went wrong as status='failed' "
            "with value=None and a reason"
        )
    return plain
