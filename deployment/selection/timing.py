"""Timing variants beside the default file, within a time that is given."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from deployment.kit.measure import RUNS, WARM_RUNS
from deployment.runners.runner import Runner
from deployment.runners.timing import Timing, noise_floor
from deployment.selection.checks import Check
from deployment.selection.results import Tried
from deployment.variant import Variant
from records import HwnasError

logger = logging.getLogger(__name__)

clock = time.perf_counter

ROUNDS = 9
LEAST_ROUNDS = 3
FINAL_ROUNDS = 25
"""Visits to each file: while looking, at least, and in the last comparison."""

LONG_MS = 50.0
"""A file that takes longer is run once a visit and not `RUNS` times."""

SPREAD_S = 0.5
SPREAD_SHARE = 0.02
"""Seconds that a timing is spread over, so that the disturbance of a moment does not decide; at
most this share of all the time."""

LEAST_NOISE = 0.01
"""Relative differences below this are none: the least of a file's samples repeats so well."""

SLOW = {"disabled": 3.0, "basic": 2.0, "extended": 1.5}
"""How much slower than at the highest level files may run, for planning only."""

OPENING_S = 0.05
LONGEST_OPENING_S = 0.5
"""Seconds that opening a file takes, for planning: at least, and at most; what a call of the
runner takes beyond it is the way to the device, which is gone once."""

NO_TIME = "not tried: no time left"

PLANNED = 0.95
"""The share of the time that is planned with: some steps take longer than foreseen."""


class Budget:
    """The time that there is, and what is left of it.

    Attributes:
        seconds: All of it.
        reserve_s: What is kept for the last comparison.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.reserve_s = 0.0
        self._began = clock()

    @property
    def spent(self) -> float:
        """Seconds since it was made."""
        return clock() - self._began

    @property
    def left(self) -> float:
        """Seconds to plan with, the reserve among them; negative after them."""
        return PLANNED * self.seconds - self.spent

    @property
    def left_to_try(self) -> float:
        """Seconds until the last comparison should begin."""
        return self.left - self.reserve_s


@dataclass(slots=True, eq=False)
class Candidate:
    """A variant on its way through the stages.

    Attributes:
        variant: The variant.
        stage: Where it came up.
        change: What differs from the default, in words.
        data: Its file.
        timing: As it was last timed.
        speedup: Latency of the default in the same rounds over its own.
        check: What was found about it; None as long as nothing was looked at.
        obstacle: Why it was not timed, in the words of a status; "" where nothing hinders it.
        is_final: Whether it was in the last comparison.
    """

    variant: Variant
    stage: str
    change: str
    data: bytes = b""
    timing: Timing | None = None
    speedup: float | None = None
    check: Check | None = None
    obstacle: str = ""
    is_final: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it may still be chosen."""
        return not self.obstacle and (self.check is None or self.check.is_kept)

    @property
    def is_kept(self) -> bool:
        """Whether it was timed, and checked with success."""
        is_timed = self.timing is not None and not self.obstacle
        return is_timed and self.check is not None and self.check.is_kept

    @property
    def rate(self) -> float:
        """Its speed-up for sorting; none where it was not timed."""
        return self.speedup or 0.0

    @property
    def noise(self) -> float:
        """What repeating changes of its own latency, relative, drift among it."""
        if self.timing is None:
            return 0.0
        drift = _known(self.timing.dispersion_ms / self.timing.latency_ms)
        return max(drift, _known(noise_floor([self.timing])))

    def tried(self, status: str, fp32_accuracy: float | None) -> Tried:
        """As a record."""
        check, timing = self.check or Check(is_kept=False), self.timing
        is_exact = self.variant.is_exact
        return Tried(
            variant=self.variant,
            stage=self.stage,
            change=self.change,
            status=status,
            latency_ms=None if timing is None else timing.latency_ms,
            dispersion_ms=None if timing is None else timing.dispersion_ms,
            speedup=self.speedup,
            relative_error=check.relative_error,
            top1_agreement=check.top1_agreement,
            accuracy=fp32_accuracy if is_exact else check.accuracy,
            accuracy_loss=check.loss,
            accuracy_loss_error=check.loss_error,
            is_final=self.is_final,
        )


@dataclass(slots=True)
class Bench:
    """Times candidates beside the default.

    Attributes:
        runner: Times files on the target.
        threads: Those of the target.
        budget: The time that there is.
        default: The candidate that all are timed beside.
        seed: Derives inputs and orders.
        noise: Of the last timing, relative.
    """

    runner: Runner
    threads: int
    budget: Budget
    default: Candidate
    seed: int
    noise: float = LEAST_NOISE
    _calls: int = field(default=0, init=False)
    _runs: int = field(default=1, init=False)
    _slowdown: float = field(default=1.0, init=False)
    _overhead_s: float = field(default=0.0, init=False)

    def begin(self) -> None:
        """Times the default alone, which tells what everything else will take.

        Raises:
            HwnasError: The default file cannot be timed there.
        """
        began = clock()
        (timing,) = self._timed([self.default], LEAST_ROUNDS)
        self.default.timing, self.default.speedup = timing, 1.0
        own = LEAST_ROUNDS * (self._runs + 1) * timing.latency_ms / 1e3
        self._overhead_s = max(OPENING_S, clock() - began - own)
        self._runs = 1 if timing.latency_ms > LONG_MS else RUNS
        final = self._overhead_s + 3 * FINAL_ROUNDS * (self._runs + 1) * timing.latency_ms / 1e3
        self.budget.reserve_s = min(1.5 * final, 0.35 * self.budget.seconds)

    def time(
        self, candidates: Sequence[Candidate], *, rounds: int = ROUNDS, is_last: bool = False
    ) -> None:
        """Times candidates that may still be chosen, the default among them.

        What the time does not allow is left out from the end, and says so. Files that the device
        refuses say so too, and do not hinder the others.
        """
        chosen = [one for one in candidates if one.is_open and one is not self.default]
        done = self._affordable(chosen, rounds, is_last)
        for one in chosen[len(done) - 1 :]:
            if one.timing is None:
                one.obstacle = NO_TIME
        is_late = self._cost(done, min(rounds, LEAST_ROUNDS)) > self._allowed(is_last)
        if len(done) == 1 and (is_late or not is_last):
            return
        rounds = self._rounds(done, rounds, is_last)
        timings = self._timed_or_refused(done, rounds)
        least = timings[0].latency_ms if timings[0] is not None else math.nan
        known = [timing for timing in timings if timing is not None]
        self.noise = max(_known(noise_floor(known)), LEAST_NOISE)
        for one, timing in zip(done, timings, strict=True):
            if timing is not None:
                one.timing, one.speedup = timing, least / timing.latency_ms
                one.is_final = is_last

    def _affordable(
        self, candidates: Sequence[Candidate], rounds: int, is_last: bool
    ) -> list[Candidate]:
        """The default and as many candidates as the time allows, from the first on."""
        done = [self.default, *candidates]
        least = min(rounds, LEAST_ROUNDS)
        while len(done) > 1 and self._cost(done, least) > self._allowed(is_last):
            done.pop()
        return done

    def _rounds(self, candidates: Sequence[Candidate], rounds: int, is_last: bool) -> int:
        """As many rounds as wanted, or as the time allows."""
        opening = self._work(candidates, 0)
        a_round = self._work(candidates, 1) - opening
        possible = (self._allowed(is_last) - opening) / max(a_round, 1e-9)
        return max(min(rounds, LEAST_ROUNDS), min(rounds, int(possible)))

    def _allowed(self, is_last: bool) -> float:
        return self.budget.left if is_last else self.budget.left_to_try

    def _cost(self, candidates: Sequence[Candidate], rounds: int) -> float:
        """Seconds that timing candidates takes, about, pauses and all."""
        work = self._work(candidates, rounds)
        return work if len(candidates) == 1 else max(work, self._spread_s)

    def _work(self, candidates: Sequence[Candidate], rounds: int) -> float:
        """Seconds that opening and running candidates takes, about, as busy as the machine is."""
        return self._slowdown * self._quiet_work(candidates, rounds)

    def _quiet_work(self, candidates: Sequence[Candidate], rounds: int) -> float:
        """The same where nothing else runs: by the least samples."""
        assert self.default.timing is not None
        usual = self.default.timing.latency_ms / 1e3
        opening = min(self._overhead_s, LONGEST_OPENING_S)
        total = self._overhead_s + opening * (len(candidates) - 1)
        for one in candidates:
            settings = one.variant.settings
            guess = SLOW.get(settings.optimisation, 1.0) * usual
            run = guess if one.timing is None else one.timing.latency_ms / 1e3
            runs = self._runs + 1
            if settings.must_be_alone(self.threads):
                total += rounds * opening
                runs += WARM_RUNS + 1
            total += rounds * runs * run
        return total

    def _timed_or_refused(
        self, candidates: Sequence[Candidate], rounds: int
    ) -> list[Timing | None]:
        """Timings of all; where the device refuses, of those that it takes."""
        try:
            return list(self._timed(candidates, rounds))
        except HwnasError as error:
            logger.info("timing one by one, since together failed: %s", error)
        for one in candidates[1:]:
            try:
                self._timed([one], 1)
            except HwnasError as error:
                one.obstacle = f"refused: {in_short(error)}"
        taken = [one for one in candidates if not one.obstacle]
        timings = dict(zip(map(id, taken), self._timed(taken, rounds), strict=True))
        return [timings.get(id(one)) for one in candidates]

    def _timed(self, candidates: Sequence[Candidate], rounds: int) -> Sequence[Timing]:
        self._calls += 1
        began = clock()
        timings = self.runner.time(
            [one.data for one in candidates],
            threads=self.threads,
            settings=[one.variant.settings for one in candidates],
            rounds=rounds,
            runs=self._runs,
            min_seconds=self._spread_s if len(candidates) > 1 else 0.0,
            seed=self.seed + self._calls,
        )
        took = clock() - began
        if self.default.timing is not None and took > 2 * SPREAD_S:
            # the least samples tell nothing of the load that the others were taken under
            self._slowdown = max(1.0, took / self._quiet_work(candidates, rounds))
        return timings

    @property
    def _spread_s(self) -> float:
        return min(SPREAD_S, SPREAD_SHARE * self.budget.seconds)


def in_short(error: Exception, longest: int = 240) -> str:
    """What an error says in one line; of what a device printed the line with the error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    text = said[-1] if said else " ".join(lines) or type(error).__name__
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _known(noise: float) -> float:
    return 0.0 if math.isnan(noise) else noise
