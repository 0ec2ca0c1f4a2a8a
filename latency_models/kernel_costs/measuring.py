"""Measuring a table of kernels within a budget, the most telling ones first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from deployment import LocalRunner, Runner, Timing
from deployment.kernel_tables.descriptions import KernelDescription, as_descriptions
from deployment.kernel_tables.files import kernel_file
from hardware_profiles import Target
from latency_models.calibration import (
    CalibrationError,
    calibration_networks,
    random_weights_model,
)
from latency_models.inputs import check_space, check_target
from latency_models.kernel_costs.choosing import COPIES_TRIED, Candidate, Candidates, Timed
from latency_models.kernel_costs.table import KERNEL, NETWORK, MeasuredKernels, TimedFile
from records import BadInputError, HwnasError, generator, unknown_name
from search_spaces import Genes, SearchSpace

logger = logging.getLogger(__name__)

BATCH = 24
"""Files that are timed together, in turns."""

ROUNDS, RUNS = 10, 4
MOST_REFUSALS = 3
"""Of a kind, before any of it was timed: then the kind is left alone."""

CHOICES = ("active", "random")
Progress = Callable[[str, int, int], None]


def measure_kernels(
    spaces: SearchSpace | Sequence[SearchSpace],
    target: Target,
    runner: Runner | None = None,
    *,
    budget_s: float = 60.0,
    table: MeasuredKernels | None = None,
    networks: int = 10,
    most_files: int | None = None,
    tolerance: float = 0.0,
    choice: Literal["active", "random"] = "active",
    path: str | Path | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> MeasuredKernels:
    """Times kernels of some spaces on a target, those first that tell most about networks.

    Files around kernels are timed in batches together with a few whole networks, which calibrate
    the sum. Interrupted, it keeps what it has: rows are added to the table that was passed, and
    written to the path after every batch.

    Args:
        spaces: One space or several.
        target: The target; it must be this machine unless a runner is given.
        runner: Times files on the target; a local process by default.
        budget_s: For everything. The batch that runs when it ends is finished.
        table: Grown in place; a new one by default.
        networks: Whole networks to time, of all spaces together; those in the table count.
        most_files: Kernel files to time at most; None leaves the budget alone to decide.
        tolerance: Stops when the mean relative uncertainty of a random network's latency is
            below; 0 never.
        choice: `active`, or `random` for comparison.
        path: Where the table is saved after each batch.
        seed: Derives networks, order of timing and random choices.
        on_progress: Called with (what, seconds spent, budget).

    Raises:
        CalibrationError: No runner for another device; the runtime refused everything.
        BadInputError: No space, a budget that is not positive, a precision other than fp32, in
            which files are written, or a table of another target.
    """
    listed = [spaces] if isinstance(spaces, SearchSpace) else list(spaces)
    _check(listed, target, runner, budget_s, networks, choice)
    table = MeasuredKernels.empty(target) if table is None else table
    table.check(target)
    session = _Session(
        target,
        runner or LocalRunner(),
        table,
        listed,
        networks,
        seed,
        Path(path) if path else None,
    )
    start = time.perf_counter()
    limit = len(session.timed) + most_files if most_files is not None else None
    while (spent := time.perf_counter() - start) < budget_s:
        if on_progress is not None:
            on_progress("timing kernels", int(spent), int(budget_s))
        files = BATCH if limit is None else min(BATCH, limit - len(session.timed))
        chosen = session.choose(files, choice) if files > 0 else []
        if not session.time(chosen):
            break
        enough = session.networks_left == 0 and tolerance > 0
        if enough and session.candidates.state(table).expected_spread() < tolerance:
            break
    if not table.files:
        reasons = "; ".join(sorted(set(table.refused.values()))[:3])
        raise CalibrationError(f"nothing could be timed on {target.name!r}: {reasons}")
    return table


def _check(
    spaces: Sequence[SearchSpace],
    target: Target,
    runner: Runner | None,
    budget_s: float,
    networks: int,
    choice: str,
) -> None:
    if not spaces:
        raise BadInputError("measure_kernels needs a space whose kernels are to be timed")
    for space in spaces:
        check_space(space)
    check_target(target)
    if not isinstance(budget_s, int | float) or not budget_s > 0:
        raise BadInputError(f"budget_s must be positive, in seconds, got {budget_s!r}")
    if networks < 0:
        raise BadInputError(f"networks must be >= 0, got {networks}")
    if choice not in CHOICES:
        raise unknown_name("choice", choice, CHOICES)
    if target.precision != "fp32":
        raise BadInputError(
            f"kernel files hold fp32 weights, target {target.name!r} runs {target.precision}: "
            "use MeasuredCostModel, which is fitted to whole networks"
        )
    if runner is None and not target.is_local:
        raise CalibrationError(
            f"target {target.name!r} is not this machine: pass a runner that reaches it"
        )


@dataclass(frozen=True, slots=True)
class _File:
    """A file to be timed: what it is, all that runs in it, and the kernel that it is about."""

    what: str
    kernels: tuple[KernelDescription, ...]
    model: bytes
    about: KernelDescription | None


@dataclass(slots=True)
class _Session:
    """A table in the making."""

    target: Target
    runner: Runner
    table: MeasuredKernels
    spaces: list[SearchSpace]
    networks: int
    seed: int
    path: Path | None
    candidates: Candidates = field(init=False)
    timed: Timed = field(init=False, default_factory=set)
    refusals: dict[int, int] = field(init=False, default_factory=dict)
    batches: int = field(init=False, default=0)
    _waiting: list[tuple[SearchSpace, Genes]] = field(init=False)

    def __post_init__(self) -> None:
        rng = generator(self.seed, "kernel candidates")
        self.candidates = Candidates(self.spaces, self.target, rng)
        self.candidates.refused.update(self.table.refused)
        present = {row.kernels for row in self.table.rows(KERNEL)}
        if present:  # whatever the table has need not be timed again
            for kernel in self.candidates.kernels:
                for copies in COPIES_TRIED:
                    found = self.candidates.file(kernel, copies)
                    if found is not None and found.kernels in present:
                        self.timed.add((kernel, copies))
        missing = max(self.networks - len(self.table.rows(NETWORK)), 0)
        self._waiting = _networks(self.spaces, missing, self.seed)

    @property
    def networks_left(self) -> int:
        return len(self._waiting)

    def choose(self, files: int, choice: str) -> list[Candidate]:
        if choice == "random":
            rng = generator(self.seed, "random kernels", self.batches)
            return self.candidates.choose_randomly(files, self.timed, rng)
        return self.candidates.choose(self.table, files, self.timed)

    def time(self, chosen: Sequence[Candidate]) -> bool:
        """Times files, with a few networks; whether there was anything to time."""
        rows = [made for one in chosen if (made := self._kernel_file(one)) is not None]
        share = 2 if chosen else BATCH
        rows += [self._network_file(*one) for one in self._waiting[:share]]
        self._waiting = self._waiting[share:]
        timings = self._timings(rows) if rows else []
        self.table.add(
            TimedFile(
                what=file.what,
                kernels=file.kernels,
                latency_ms=timing.latency_ms,
                dispersion_ms=timing.dispersion_ms,
            )
            for file, timing in zip(rows, timings, strict=True)
            if timing is not None
        )
        self.table.refused.update(self.candidates.refused)
        self.batches += 1
        if self.path is not None and rows:
            self.table.save(self.path)
        return bool(chosen or rows)

    def _kernel_file(self, one: Candidate) -> _File | None:
        self.timed.add((one.kernel, one.copies))
        if one.kernel in self.table.refused:
            return None
        try:
            made = kernel_file(
                one.kernel,
                batch_size=self.target.batch_size,
                channel_block=self.candidates.block,
                copies=one.copies,
            )
        except HwnasError as error:
            self._refuse(one.kernel, str(error))
            return None
        return _File(KERNEL, made.kernels, made.model, one.kernel)

    def _network_file(self, space: SearchSpace, row: Genes) -> _File:
        lowering = self.candidates.lowering(space)
        place = lowering.description_of_variant[lowering.tabulation.codes(row[None])[:, 0]]
        kernels = as_descriptions(lowering.descriptions[place[place >= 0]])
        model = random_weights_model(space, row, self.target.batch_size)
        return _File(NETWORK, tuple(kernels), model, None)

    def _timings(self, files: Sequence[_File]) -> list[Timing | None]:
        """Timings of a batch; where the runtime refuses it, of each file by itself."""
        try:
            return [*self._run([file.model for file in files])]
        except HwnasError as error:
            if all(file.about is None for file in files):
                raise  # whole networks are refused: the target cannot run the space
            logger.info("a batch was refused (%s): timing its files one by one", error)
        timings: list[Timing | None] = []
        for file in files:
            try:
                timings.append(self._run([file.model])[0])
            except HwnasError as error:
                if file.about is None:
                    raise
                self._refuse(file.about, str(error))
                timings.append(None)
        return timings

    def _run(self, models: Sequence[bytes]) -> list[Timing]:
        timings = self.runner.time(
            models,
            threads=self.target.threads,
            rounds=ROUNDS,
            runs=RUNS,
            seed=self.seed + self.batches,
        )
        for timing in timings:
            if not (np.isfinite(timing.latency_ms) and timing.latency_ms > 0):
                raise BadInputError(
                    f"the runner says {timing.latency_ms} ms; latencies are positive and finite"
                )
        return timings

    def _refuse(self, kernel: KernelDescription, reason: str) -> None:
        """Notes a kernel that cannot be timed; after some of a kind, the whole kind."""
        logger.warning("refused: %s: %s", kernel.describe(), reason)
        self.table.refused[kernel] = self.candidates.refused[kernel] = reason
        count = self.refusals[kernel.kind] = self.refusals.get(kernel.kind, 0) + 1
        if count < MOST_REFUSALS or any(k.kind == kernel.kind for k in self.table.kernels):
            return
        for other in self.candidates.kernels:
            if other.kind == kernel.kind:
                self.candidates.refused.setdefault(other, f"like {kernel.describe()}: {reason}")


def _networks(
    spaces: Sequence[SearchSpace], networks: int, seed: int
) -> list[tuple[SearchSpace, Genes]]:
    """Networks of all spaces in turn, extremes and random ones."""
    if networks == 0:
        return []
    each = [calibration_networks(space, max(10, networks), seed) for space in spaces]
    rngs = [generator(seed, "kernel networks", place) for place in range(len(spaces))]
    orders = [rng.permutation(len(rows)) for rng, rows in zip(rngs, each, strict=True)]
    turns = [
        (space, rows[order[place]])
        for place in range(networks)
        for space, rows, order in zip(spaces, each, orders, strict=True)
        if place < len(rows)
    ]
    return turns[:networks]
