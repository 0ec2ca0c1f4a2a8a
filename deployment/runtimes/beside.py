"""A bundle's file beside other runtimes: what each would take for the same network, here.

The rows go into a bundle's record or a report. They say what a runtime was worth on this machine;
a bundle's file stays what it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from deployment.runners.timing import Timing
from deployment.runtimes.agreement import RuntimeAgreement, agreement_with_torch
from deployment.runtimes.by_name import runtime
from deployment.runtimes.round_robin import time_in_turns
from deployment.runtimes.runtime import (
    Array,
    MissingRuntimeError,
    Opened,
    Runtime,
    RuntimeRefusalError,
)
from records import BadInputError
from supernet import Subnet

BUNDLE_FILE = "this file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One runtime beside the bundle's file.

    Attributes:
        runtime: Its name, `BUNDLE_FILE` for the file itself.
        version: Of the package; "" where it is not installed.
        status: "timed", "not installed: ...", "refused: ..." or "differs: ...".
        timing: Raw timings; None where it was not timed.
        agreement: How far it is from torch; None where it was not opened.
        ratio: Its latency over that of the bundle's file: above 1 is slower.
    """

    runtime: str
    version: str
    status: str
    timing: Timing | None = None
    agreement: RuntimeAgreement | None = None
    ratio: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For a bundle's record."""
        timing = self.timing
        return {
            "runtime": self.runtime,
            "version": self.version,
            "status": self.status,
            "latency_ms": None if timing is None else timing.latency_ms,
            "dispersion_ms": None if timing is None else _finite(timing.dispersion_ms),
            "ratio": self.ratio,
            "agreement": None if self.agreement is None else asdict(self.agreement),
        }


def time_beside(
    subnet: Subnet,
    names: Sequence[str],
    *,
    file: Opened | None = None,
    batch_size: int = 1,
    threads: int = 1,
    images: Array | None = None,
    calibration: Array | None = None,
    rounds: int = 15,
    min_seconds: float = 1.0,
    seed: int = 0,
    on_round: Callable[[int, int], None] | None = None,
) -> list[Beside]:
    """Opens a network in several runtimes, compares each with torch and times all in turns.

    A runtime that is not installed, refuses the network or computes something else is told in its
    row and not timed.

    Args:
        subnet: The network in eval mode.
        names: Of runtimes, as in `RUNTIMES`.
        file: The bundle's open file, which comes first and which ratios refer to; without one
            they refer to the first runtime that was timed.
        batch_size: Images a run.
        threads: That compute one batch.
        images: Real images for the comparison with torch.
        calibration: Training images that set the scales of int8.
        rounds: Visits to each, at least.
        min_seconds: Spreads the visits over at least this time.
        seed: Derives images and order.
        on_round: Called with (rounds done, rounds in all).

    Raises:
        UnknownNameError: A runtime that does not exist.
        BadInputError: A file of another batch size or number of threads.
    """
    runtimes = [runtime(name) for name in names]
    found = list[tuple[Beside, Opened | None]]()
    if file is not None:
        if file.shape[0] != batch_size or file.threads != threads:
            raise BadInputError(
                f"the file is open for batches of {file.shape[0]} on {file.threads} threads, the "
                f"runtimes would be for {batch_size} on {threads}: give the same"
            )
        agreement = agreement_with_torch(file, subnet, images, tolerance=None, seed=seed)
        row = Beside(runtime=BUNDLE_FILE, version="", status="timed", agreement=agreement)
        found.append((row, file))
    for one in runtimes:
        try:
            opened = one.open(subnet, batch_size, threads=threads, calibration=calibration)
        except (MissingRuntimeError, RuntimeRefusalError) as error:
            found.append((_left_out(one, error), None))
        else:
            found.append(_compared(one, opened, subnet, images, seed))
    networks = [opened for _, opened in found if opened is not None]
    if not networks:
        return [row for row, _ in found]
    timings = time_in_turns(
        networks, rounds=rounds, min_seconds=min_seconds, seed=seed, on_round=on_round
    )
    first, by_network = timings[0].latency_ms, dict(zip(map(id, networks), timings, strict=True))
    return [
        row
        if opened is None
        else replace(row, timing=(t := by_network[id(opened)]), ratio=t.latency_ms / first)
        for row, opened in found
    ]


def _left_out(one: Runtime, error: Exception) -> Beside:
    is_missing = isinstance(error, MissingRuntimeError)
    status = f"{'not installed' if is_missing else 'refused'}: {error}"
    return Beside(runtime=one.name, version=one.version, status=status)


def _compared(
    one: Runtime, opened: Opened, subnet: Subnet, images: Array | None, seed: int
) -> tuple[Beside, Opened | None]:
    """The row of an open network; it is not timed where it computes something else."""
    agreement = agreement_with_torch(opened, subnet, images, tolerance=one.tolerance, seed=seed)
    status = "timed"
    if not agreement.is_within:
        status = f"differs: by {agreement.largest_difference:.2g} of the largest logit"
    row = Beside(runtime=one.name, version=one.version, status=status, agreement=agreement)
    return row, opened if agreement.is_within else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
