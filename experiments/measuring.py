"""Calibrating cost models and timing exported files, with every timing in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from deployment import LocalRunner, Runner, Timing
from hardware_profiles import Target
from latency_models import MeasuredCostModel, calibrate
from records import Ledger, Observation
from search_spaces import Genes, SearchSpace

MIN_SECONDS = 2.5
"""Over how long the runs of a set of files are spread; momentary load lasts less."""

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


def time_together(
    models: Sequence[bytes], target: Target, runner: Runner, *, seed: int, rounds: int = 25
) -> list[Timing]:
    """Times exported files of a target in one shuffled round-robin."""
    return runner.time(
        models, threads=target.threads, rounds=rounds, min_seconds=MIN_SECONDS, seed=seed
    )
