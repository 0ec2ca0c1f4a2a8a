"""How good the measurements of a target are, and the cost model fitted to them.

The noise floor is what repeating the measurement would change: every network's rounds are dealt
into two interleaved halves, so that drift falls on both almost alike, and the least samples of the
halves are compared. It is what the least sample of *half* the rounds repeats to, a little worse
than what all of them do. Drift compares the least samples of the first and the last third of the
rounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from deployment import Timing, noise_floor
from deployment.kit import Results, Sustained
from hardware_profiles import Target
from latency_models import LatencyQuality, MeasuredCostModel
from records import HwnasError

RESOLUTION = 0.03
"""Relative difference of latency that a search should be able to tell: where cost models end."""

HOPELESS = 0.15
"""Noise floor above which no cost model can be fitted that is worth having."""

MAX_DRIFT = 0.05
MAX_SLOWDOWN = 1.1
MAX_PREEMPTED = 0.25
MAX_ERROR = 0.10


class HopelessMeasurementError(HwnasError, RuntimeError):
    """Measurements too noisy to be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """How well measurements of a set of networks repeat; all relative.

    Attributes:
        networks: How many networks.
        rounds: Rounds that each was timed in.
        noise_floor: Mean relative difference of the least samples of two interleaved halves of the
            rounds; NaN for one round.
        repeat_spearman: Rank correlation of these halves; NaN where it means nothing.
        drift: Median over the networks of the least sample of the last third of the rounds
            divided by that of the first, less 1; NaN for fewer than three rounds.
        p50: Quantiles over all samples, each divided by the least sample of its network.
        p90: See `p50`.
        p99: See `p50`.
        preempted: Share of the samples that something else interrupted; NaN where not known.
    """

    networks: int
    rounds: int
    noise_floor: float
    repeat_spearman: float
    drift: float
    p50: float
    p90: float
    p99: float
    preempted: float


def steadiness(timings: Sequence[Timing]) -> Steadiness:
    """How well timings repeat, taken together in the same rounds; at least one."""
    rounds = min(timing.rounds for timing in timings)
    # rounds x networks: the least sample of every visit
    least = np.array([timing.least_by_round_ms[:rounds] for timing in timings]).T
    spearman = drift = math.nan
    if rounds >= 2:
        even, odd = least[0::2].min(axis=0), least[1::2].min(axis=0)
        if len(timings) >= 3 and np.ptp(even) > 0 and np.ptp(odd) > 0:
            spearman = float(spearmanr(even, odd).statistic)
    third = rounds // 3
    if third:
        drift = float(np.median(least[-third:].min(axis=0) / least[:third].min(axis=0)) - 1)
    pooled = np.concatenate([np.array(t.samples_ms) / t.latency_ms for t in timings])
    p50, p90, p99 = (float(q) for q in np.quantile(pooled, (0.5, 0.9, 0.99)))
    known = [timing.preempted for timing in timings if not math.isnan(timing.preempted)]
    return Steadiness(
        networks=len(timings),
        rounds=rounds,
        noise_floor=noise_floor(timings),
        repeat_spearman=spearman,
        drift=drift,
        p50=p50,
        p90=p90,
        p99=p99,
        preempted=float(np.mean(known)) if known else math.nan,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceFit:
    """A cost model's networks and its cross-validated quality.

    Attributes:
        space: The space's name.
        fastest_ms: Least of the measured latencies.
        slowest_ms: Greatest of them.
        quality: How well networks left out of the fit are predicted.
    """

    space: str
    fastest_ms: float
    slowest_ms: float
    quality: LatencyQuality


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """What the first use of a network takes, medians over the networks.

    Attributes:
        open_ms: Opening the file.
        first_run_ms: The first run.
        first_run_ratio: The first run divided by the latency.
    """

    open_ms: float
    first_run_ms: float
    first_run_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """What there is to know about a freshly measured target.

    Attributes:
        target: Its name.
        device: The device in words.
        steadiness: How well its measurements repeat.
        fits: The cost model of every space.
        cold_start: What the first use of a network takes; None where it was not measured.
        sustained: One network run without a pause; None where it was not measured.
        facts: What else readers want to know, in words: the runtime, the governor.
        resolution: Relative difference that networks should be told apart by.
        warnings: What is wrong with the measurements and what to do.
    """

    target: str
    device: str
    steadiness: Steadiness
    fits: tuple[SpaceFit, ...]
    cold_start: ColdStart | None
    sustained: Sustained | None
    facts: Mapping[str, str]
    resolution: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON-ready values; what is not known is None."""
        return {str(key): _plain(value) for key, value in asdict(self).items()}


def report_of(
    models: Sequence[MeasuredCostModel],
    results: Results | None = None,
    resolution: float = RESOLUTION,
) -> TargetReport:
    """The report of a target from its cost models and the results of a kit.

    Args:
        models: Cost models of one target, one for each space.
        results: Where they come from; None for a local calibration, whose models have their own
            raw timings (`MeasuredCostModel.timings`).
        resolution: Relative difference that networks should be told apart by.
    """
    target = models[0].target
    if results is None:
        timings = [timing for model in models for timing in model.timings]
    else:
        timings = results.timings
    steady = steadiness(timings)
    fits = tuple(
        SpaceFit(
            space=model.space.name,
            fastest_ms=float(model.measured_ms.min()),
            slowest_ms=float(model.measured_ms.max()),
            quality=model.quality,
        )
        for model in models
    )
    sustained = None if results is None else results.sustained
    return TargetReport(
        target=target.name,
        device=target.profile.description,
        steadiness=steady,
        fits=fits,
        cold_start=None if results is None else _cold_start(results),
        sustained=sustained,
        facts=_facts(target, results),
        resolution=resolution,
        warnings=(
            *_incomplete(results),
            *_unsteady(steady, resolution),
            *_slowing(sustained),
            *_badly_fitted(fits),
        ),
    )


def refuse_hopeless(steady: Steadiness, resolution: float = RESOLUTION) -> None:
    """Refuses measurements that nothing can be fitted to.

    Raises:
        HopelessMeasurementError: The noise floor is above 15 %, or unknown.
    """
    if not steady.noise_floor <= HOPELESS:
        noise = steady.noise_floor
        text = "unknown (one round)" if math.isnan(noise) else f"{noise:.1%}"
        raise HopelessMeasurementError(
            f"the noise floor is {text}: repeating the measurement changes latencies by more than "
            f"{HOPELESS:.0%}, where {resolution:.0%} are needed; close what else runs on the "
            "device, fix its clock, measure again with more --rounds, or use it as it is with "
            "--force"
        )


def slowdown(sustained: Sustained) -> float:
    """The median of the last part of a sustained run divided by that of the first."""
    return sustained.blocks[-1].p50_ms / sustained.blocks[0].p50_ms


def _cold_start(results: Results) -> ColdStart:
    rows = results.measurements
    ratios = [row.first_run_ms / row.timing.latency_ms for row in rows]
    return ColdStart(
        open_ms=float(np.median([row.open_ms for row in rows])),
        first_run_ms=float(np.median([row.first_run_ms for row in rows])),
        first_run_ratio=float(np.median(ratios)),
    )


def _facts(target: Target, results: Results | None) -> dict[str, str]:
    """How it was measured and on what, in words."""
    facts = {"threads": str(target.threads), "batch size": str(target.batch_size)}
    if results is None:
        return facts
    machine, settings = results.machine, results.settings
    governors = machine.get("governors") or []
    facts["runtime"] = f"onnxruntime {machine.get('onnxruntime')}, {settings.get('provider')}"
    facts["system"] = str(machine.get("system"))
    facts["clock governor"] = ", ".join(map(str, governors)) or "not readable"
    facts["processors"] = str(settings.get("cpus") or f"any of {machine.get('usable_cores')}")
    if results.sittings > 1:
        facts["sittings"] = str(results.sittings)
    return facts


def _incomplete(results: Results | None) -> list[str]:
    if results is None:
        return []
    found = []
    done, wanted = len(results.measurements[0].rounds_ms), results.settings["rounds"]
    if done < wanted:
        found.append(
            f"the measurement was interrupted after {done} of {wanted} rounds: `python3 "
            "measure.py` in the kit's folder on the device continues it"
        )
    provider = results.settings.get("provider")
    if provider != "CPUExecutionProvider":
        found.append(
            f"measured on {provider}: kernels are counted as on onnxruntime's CPU provider, so "
            "judge the cost model by its cross-validated error alone"
        )
    return found


def _unsteady(steady: Steadiness, resolution: float) -> list[str]:
    found = []
    if not steady.noise_floor <= resolution:
        found.append(
            f"the noise floor of {steady.noise_floor:.1%} is above the {resolution:.1%} that "
            "networks should be told apart by: close what else runs there, set the clock governor "
            "to performance, or measure with more --rounds"
        )
    if abs(steady.drift) > MAX_DRIFT:
        found.append(
            f"the device became {abs(steady.drift):.0%} "
            f"{'slower' if steady.drift > 0 else 'faster'} while it was measured: let it reach a "
            "steady temperature and clock first"
        )
    if steady.preempted > MAX_PREEMPTED:
        found.append(
            f"{steady.preempted:.0%} of the runs were interrupted by other programs: close them"
        )
    return found


def _slowing(sustained: Sustained | None) -> list[str]:
    if sustained is None or slowdown(sustained) <= MAX_SLOWDOWN:
        return []
    return [
        f"run for {sustained.seconds:g} s without a pause, a network became "
        f"{slowdown(sustained) - 1:.0%} slower: the latencies hold for short use, or for a device "
        "that is cooled"
    ]


def _badly_fitted(fits: Sequence[SpaceFit]) -> list[str]:
    return [
        f"the cost model of {fit.space} is off by {fit.quality.mape:.1%} on networks that it has "
        "not seen: measure more networks (--networks), or judge by measured files only"
        for fit in fits
        if not fit.quality.mape <= MAX_ERROR
    ]


def _plain(value: Any) -> Any:
    """JSON has no NaN and no tuples."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
