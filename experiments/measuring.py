"""Calibrating cost models and timing exported files, with every timing in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deployment import LocalRunner, Runner, Timing
from hardware_profiles import Target
from latency_models import MeasuredCostModel, calibrate, target_model
from records import Ledger, Observation
from search_spaces import Genes, SearchSpace

logger = logging.getLogger(__name__)

MIN_SECONDS = 2.5
"""Over how long the runs of a set of files are spread; momentary load lasts less."""

ATTEMPTS = 4
MAX_DRIFT = 0.02
"""Relative change of the references' latency above which timing is repeated."""

CALIBRATION = "calibration"
"""What a ledger calls latencies that a cost model is fitted to."""


def calibrated(
    space: SearchSpace,
    target: Target,
    ledger: Ledger | None,
    *,
    networks: int,
    seed: int,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> MeasuredCostModel:
    """A cost model from the ledger's timings, or from new ones (see `record_calibration`)."""
    rows = (
        []
        if ledger is None
        else [
            o
            for o in ledger.observations(metric=f"{CALIBRATION}.latency_ms", target=target.name)
            if o.space_hash == space.hash and o.value is not None
        ]
    )
    if rows:
        genes = np.array([o.genes for o in rows], np.int16)
        return MeasuredCostModel(
            space, target, genes, [o.value for o in rows if o.value is not None], LocalRunner()
        )
    return calibrate(
        space, target, networks=networks, seed=seed, budget_s=40.0, on_progress=on_progress
    )


def record_calibration(ledger: Ledger, model: MeasuredCostModel) -> None:
    """Commits the timings that a cost model was just fitted to; none for one from the ledger."""
    record_timings(
        ledger,
        model.space,
        model.target,
        model.genes[: len(model.timings)],
        model.timings,
        metric=f"{CALIBRATION}.latency_ms",
    )


def record_timings(
    ledger: Ledger,
    space: SearchSpace,
    target: Target,
    genes: Genes,
    timings: Sequence[Timing],
    *,
    metric: str = "latency_ms",
) -> None:
    """Commits measured latencies, raw samples included."""
    ledger.append(
        [
            Observation(
                genes=tuple(int(g) for g in row),
                metric=metric,
                target=target.name,
                value=timing.latency_ms,
                dispersion=timing.dispersion_ms,
                unit="ms",
                space_hash=space.hash,
                raw=timing.samples_ms,
            )
            for row, timing in zip(genes, timings, strict=True)
        ]
    )


@dataclass(frozen=True, slots=True)
class Reference:
    """Files timed before, to be timed again among others: does the machine run as it did then?

    Attributes:
        models: Serialised networks.
        latencies_ms: What they took.
    """

    models: tuple[bytes, ...]
    latencies_ms: tuple[float, ...]

    @staticmethod
    def of(cost: MeasuredCostModel, count: int = 8) -> Reference:
        """Some of the networks that a cost model was fitted to, spread over their latencies."""
        order = np.argsort(cost.measured_ms)
        rows = order[np.linspace(0, len(order) - 1, count).round().astype(int)]
        models = tuple(
            target_model(cost.space, cost.genes[i], cost.target, cost.quantisation) for i in rows
        )
        return Reference(models, tuple(float(cost.measured_ms[i]) for i in rows))


def time_with_reference(
    models: Sequence[bytes], target: Target, runner: Runner, reference: Reference, *, seed: int
) -> tuple[list[Timing], float]:
    """Times files among files that were timed before.

    While the references take longer or shorter than they did by more than `MAX_DRIFT`, all is
    timed again, at most `ATTEMPTS` times; the samples are put together.

    Returns:
        The timings, and the drift: the median ratio of the references' latency now to then.
    """
    everything = [*models, *reference.models]
    timings = time_together(everything, target, runner, seed=seed)
    for attempt in range(1, ATTEMPTS):
        if abs(_drift(timings, reference) - 1) <= MAX_DRIFT:
            break
        logger.info("drift %.3f: timing again", _drift(timings, reference))
        again = time_together(everything, target, runner, seed=seed + attempt)
        timings = [a.joined(b) for a, b in zip(timings, again, strict=True)]
    return timings[: len(models)], _drift(timings, reference)


def _drift(timings: Sequence[Timing], reference: Reference) -> float:
    now = [t.latency_ms for t in timings[-len(reference.models) :]]
    return float(np.median(np.array(now) / np.array(reference.latencies_ms)))


def time_together(
    models: Sequence[bytes], target: Target, runner: Runner, *, seed: int, rounds: int = 25
) -> list[Timing]:
    """Times exported files of a target in one shuffled round-robin."""
    return runner.time(
        models, threads=target.threads, rounds=rounds, min_seconds=MIN_SECONDS, seed=seed
    )
