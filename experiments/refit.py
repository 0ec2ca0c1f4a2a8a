"""When predicted latencies are wrong: refit, rank again, judge the refit on fresh networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiments.export import Timed, fresh_networks, time_fresh
from latency_models import CostModel, MeasuredCostModel, latency_quality
from records import Ledger

FRESH_NETWORKS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """Whether and how a cost model was refitted.

    Attributes:
        threshold: The median relative error above which it is.
        median_error: That of the exported networks, predicted before they were timed; None where
            none was.
        refitted: Whether it was exceeded.
        fresh_networks: Networks that neither fit has seen, timed to judge the refit.
        fresh_median_error_before: Their median error under the first fit.
        fresh_median_error_after: Under the second.
    """

    threshold: float
    median_error: float | None
    refitted: bool
    fresh_networks: int = 0
    fresh_median_error_before: float | None = None
    fresh_median_error_after: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def median_error(timed: Mapping[str, Sequence[Timed]]) -> float | None:
    """The median relative error over the searched networks of all targets; None if untimed."""
    errors = [
        abs(one.error)
        for own in timed.values()
        for one in own
        if one.chosen.kind == "searched" and one.error is not None
    ]
    return float(np.median(errors)) if errors else None


def refitted_costs(
    costs: Sequence[CostModel],
    timed: Mapping[str, Sequence[Timed]],
    ledger: Ledger,
    *,
    threshold: float,
    seed: int,
) -> tuple[list[CostModel], Refit]:
    """The cost models with the new measurements, and how well they predict fresh networks.

    A target whose files were not timed keeps its cost model.
    """
    after: list[CostModel] = []
    errors_before: list[float] = []
    errors_after: list[float] = []
    for cost in costs:
        own = [t for t in timed[cost.target_name] if t.chosen.kind == "searched"]
        genes = np.array([t.chosen.genes for t in own])
        latencies = [t.timing.latency_ms for t in own if t.timing is not None]
        if not latencies or not isinstance(cost, MeasuredCostModel):
            after.append(cost)
            continue
        better = cost.refitted(genes, latencies, drift=own[0].drift)
        after.append(better)
        rows = fresh_networks(cost.space, better.genes, FRESH_NETWORKS, seed)
        measured = [t.latency_ms for t in time_fresh(cost, rows, ledger, seed)]
        errors_before.append(latency_quality(cost.latency_ms(rows), measured).median_error)
        errors_after.append(latency_quality(better.latency_ms(rows), measured).median_error)
    refit = Refit(
        threshold=threshold,
        median_error=median_error(timed),
        refitted=True,
        fresh_networks=FRESH_NETWORKS * len(errors_before),
        fresh_median_error_before=float(np.mean(errors_before)),
        fresh_median_error_after=float(np.mean(errors_after)),
    )
    return after, refit
