"""Calibration: deciding what to time, timing it, and fitting the cost model."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from deployment import LocalRunner, Runner, Timing, emit
from deployment.kernel_tables.kernels import RUNTIMES
from deployment.quantisation.quantised import Quantiser
from hardware_profiles import Target
from latency_models.calibration_file import CalibrationFile
from latency_models.calibration_timing import Progress, time_in_passes, time_models
from latency_models.inputs import check_precision, check_space, check_target, quantisation_of
from latency_models.kernel_fit import MIN_NETWORKS, Measurements
from latency_models.measured import MeasuredCostModel, lowered
from records import BadInputError, HwnasError, generator
from search_spaces import Genes, SearchSpace, WithBlockPrecision
from supernet import Subnet

logger = logging.getLogger(__name__)


class CalibrationError(HwnasError, RuntimeError):
    """A calibration that cannot be made."""


def calibrate(
    space: SearchSpace,
    target: Target,
    *,
    budget_s: float = 60.0,
    networks: int = 100,
    runner: Runner | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
    path: str | Path | None = None,
    quantisation: str | None = None,
) -> MeasuredCostModel:
    """Times exported subnets on the target and fits a cost model to them.

    The smallest and largest networks and a random sample (uniform per choice) are exported with
    random weights, on which latency does not depend, and timed in shuffled round-robin. The same
    seed times the same networks. Where the target's precision is int8, the files are.

    Args:
        space: The search space.
        target: The target; it must be this machine unless a runner is given.
        budget_s: No further networks are built after half of this; timing them takes the rest.
        networks: How many networks to time, at most.
        runner: Times files on the target; a local process by default. It is handed fp32 files, or
            int8 ones where the target says int8; other precisions are its own business.
        seed: Derives the networks and the order of timing.
        on_progress: Called with (what, done, total).
        path: Where samples are kept as they are taken. What an interrupted calibration left there
            is not timed again; a finished one is only read.
        quantisation: How int8 files are made, "dynamic" or "static"
        (`deployment.quantisation.quantised`); by
            default as a space with precision by block says, and "dynamic" for others.

    Raises:
        CalibrationError: No runner for another device; a precision or runtime that this machine
            is not timed with; a space of fewer than 10 networks.
        BadInputError: A budget that is not positive.
        CorruptFileError: The file at `path` is damaged or of another calibration.
    """
    return calibrate_together(
        [space],
        target,
        budget_s=budget_s,
        networks=networks,
        runner=runner,
        seed=seed,
        on_progress=on_progress,
        path=path,
        quantisation=quantisation,
    )[0]


def calibrate_together(
    spaces: Sequence[SearchSpace],
    target: Target,
    *,
    budget_s: float = 60.0,
    networks: int = 100,
    runner: Runner | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
    path: str | Path | None = None,
    quantisation: str | None = None,
) -> list[MeasuredCostModel]:
    """One calibration for several spaces: all their networks stand in one fit.

    Kernels are the same in every space, so each space needs fewer networks of its own.

    Args:
        spaces: Different search spaces; `networks` is divided among them.
        target: As for `calibrate`, like all that follows.

    Returns:
        A cost model for each space.
    """
    if isinstance(spaces, SearchSpace):
        raise BadInputError(
            f"calibrate_together takes a list of spaces, got {spaces.name}: use calibrate for one"
        )
    for space in spaces:
        check_space(space)
    check_target(target)
    for space in spaces:
        check_precision(space, target)
    if not isinstance(budget_s, int | float) or not budget_s > 0:
        raise BadInputError(f"budget_s must be positive, in seconds, got {budget_s!r}")
    if not spaces or len({space.hash for space in spaces}) != len(spaces):
        raise BadInputError("calibration needs one space or several different ones")
    quantisation = quantisation_of(spaces, quantisation)
    runner = runner or _local_runner(target)
    parts = _networks(spaces, networks, seed)
    total = sum(len(genes) for genes in parts)
    if total < MIN_NETWORKS:
        names = ", ".join(space.name for space in spaces)
        raise CalibrationError(
            f"{names} has {total} networks to time, a fit needs {MIN_NETWORKS}: use "
            "RooflineCostModel, or a space with more choices"
        )
    rows = _interleaved(spaces, parts)
    file = None if path is None else CalibrationFile(path, spaces, target, quantisation, seed)
    if file is not None and file.rows is not None:
        rows = file.rows
    if file is not None and file.is_complete:
        timings = list(file.timings)
    else:
        models = _build(rows, target, budget_s, quantisation, on_progress, file)
        rows = rows[: len(models)]
        if file is None:
            timings = time_models(runner, models, target, seed, budget_s / 2, on_progress)
        else:
            timings = list(
                time_in_passes(runner, models, rows, target, seed, budget_s / 2, on_progress, file)
            )
    return _fitted(spaces, target, rows, timings, runner, quantisation)


def calibration_networks(space: SearchSpace, networks: int, seed: int) -> Genes:
    """The networks to time: the extremes, then a random sample without repetition."""
    if networks < MIN_NETWORKS:
        raise BadInputError(f"networks must be >= {MIN_NETWORKS}, got {networks}")
    return _drawn(space, networks, seed)


def random_weights_model(space: SearchSpace, row: Genes, batch_size: int) -> bytes:
    """The exported file of an architecture with random weights, the same ones every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        subnet = Subnet(space.graph(row)).eval()
    return bytes(emit(subnet, batch_size).SerializeToString())


def target_model(
    space: SearchSpace, row: Genes, target: Target, quantisation: str | None = None
) -> bytes:
    """The file that a target times: with random weights, in int8 where its precision is int8.

    Where the precision of each block is a choice, the file is mixed as the row says.
    """
    model = random_weights_model(space, row, target.batch_size)
    if target.precision != "int8":
        return model
    quantiser = Quantiser(model, mode=quantisation_of([space], quantisation))
    if isinstance(space, WithBlockPrecision):
        return quantiser.file(quantiser.present(space.fp32_blocks(row)))
    return quantiser.file()


def _local_runner(target: Target) -> Runner:
    if not target.is_local:
        raise CalibrationError(
            f"target {target.name!r} is not this machine: pass a runner that reaches it, or "
            "use RooflineCostModel, which needs no measurement"
        )
    if target.runtime not in RUNTIMES or target.precision not in ("fp32", "int8"):
        raise CalibrationError(
            f"this machine is timed with onnxruntime in fp32 or int8, not with {target.runtime} "
            f"in {target.precision}: change the target, or pass a runner of your own"
        )
    return LocalRunner()


def _networks(spaces: Sequence[SearchSpace], networks: int, seed: int) -> list[Genes]:
    """For each space its share of the networks."""
    if networks < MIN_NETWORKS:
        raise BadInputError(f"networks must be >= {MIN_NETWORKS}, got {networks}")
    shares = [networks // len(spaces) + (i < networks % len(spaces)) for i in range(len(spaces))]
    return [_drawn(space, share, seed) for space, share in zip(spaces, shares, strict=True)]


def _drawn(space: SearchSpace, networks: int, seed: int) -> Genes:
    extremes = np.concatenate([space.extremes("smallest"), space.extremes("largest")])
    rng = generator(seed, "calibration")
    rows = extremes
    for _ in range(20):  # a small space repeats itself
        rows = np.concatenate([rows, space.sample(2 * networks, rng)])
        _, first = np.unique(rows, axis=0, return_index=True)
        rows = rows[np.sort(first)]
        if len(rows) >= min(networks, space.cardinality):
            break
    return np.asarray(rows[:networks])


Row = tuple[SearchSpace, Genes]


def _interleaved(spaces: Sequence[SearchSpace], parts: Sequence[Genes]) -> list[Row]:
    """The networks of the spaces in turns, so that a short budget times some of each."""
    longest = max(len(part) for part in parts)
    return [
        (space, part[i])
        for i in range(longest)
        for space, part in zip(spaces, parts, strict=True)
        if i < len(part)
    ]


def _build(
    rows: Sequence[Row],
    target: Target,
    budget_s: float,
    quantisation: str,
    on_progress: Progress | None,
    file: CalibrationFile | None,
) -> list[bytes]:
    """The files to time; all of them where an earlier start decided how many there are."""
    models: list[bytes] = []
    decided = file is not None and file.rows is not None
    start = time.perf_counter()
    for space, row in rows:
        late = time.perf_counter() - start > budget_s / 2
        if late and len(models) >= MIN_NETWORKS and not decided:
            logger.warning("%s s allow %d of %d networks", budget_s, len(models), len(rows))
            break
        models.append(target_model(space, row, target, quantisation))
        if on_progress is not None:
            on_progress("building networks to time", len(models), len(rows))
    return models


def _fitted(
    spaces: Sequence[SearchSpace],
    target: Target,
    rows: Sequence[Row],
    timings: Sequence[Timing],
    runner: Runner,
    quantisation: str,
) -> list[MeasuredCostModel]:
    """A model for each space, all from the same measurements."""
    measurements, raw = [], []
    for space in spaces:
        own = [i for i, (other, _) in enumerate(rows) if other is space]
        genes = np.array([rows[i][1] for i in own], np.int16).reshape(len(own), -1)
        latencies = np.array([timings[i].latency_ms for i in own])
        measurements.append(
            Measurements(lowering=lowered(space, target), genes=genes, latencies_ms=latencies)
        )
        raw.append(tuple(timings[i] for i in own))
    models = []
    for k, mine in enumerate(measurements):
        model = MeasuredCostModel(
            mine.space,
            target,
            mine.genes,
            mine.latencies_ms,
            runner,
            others=[m for m in measurements if m is not mine],
            quantisation=quantisation,
            lowering=mine.lowering,
        )
        model.timings = raw[k]
        models.append(model)
    return models
