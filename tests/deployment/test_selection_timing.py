import math

import pytest

from deployment import DeviceError, Timing
from deployment.kit.measure import RUNS
from deployment.selection import timing as selection_timing
from deployment.selection.checks import Check
from deployment.selection.timing import (
    FINAL_ROUNDS,
    LEAST_NOISE,
    NO_TIME,
    ROUNDS,
    Bench,
    Budget,
    Candidate,
    in_short,
)
from deployment.session_settings import SessionSettings
from deployment.variant import Variant
from tests.deployment.known_times import Clock


class Runner:
    """Times data by what it says: b"2.5" takes 2.5 ms."""

    name = "told"

    def __init__(self, clock, *, refuses=(), overhead_s=0.0, noise=0.0):
        self.clock, self.refuses, self.overhead_s, self.noise = clock, refuses, overhead_s, noise
        self.calls = []

    def time(self, models, *, threads, settings, rounds, runs, seed, min_seconds=0.0):
        if set(self.refuses) & set(models):
            raise DeviceError("the device refuses it")
        ms = [float(model) for model in models]
        self.calls.append((list(models), rounds, seed))
        self.clock.now += self.overhead_s + sum(ms) / 1e3 * rounds * (runs + 1)
        self.runs = runs
        return [
            Timing(
                samples_ms=tuple(m * (1 + self.noise * (r % 2)) for r in range(rounds)),
                rounds=rounds,
                preempted=math.nan,
            )
            for m in ms
        ]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(selection_timing, "clock", clock)
    return clock


def candidate(data, **settings):
    variant = Variant(settings=SessionSettings(**settings))
    return Candidate(variant, "forms", "some change", data=data)


def bench_of(runner, seconds, default=b"10"):
    bench = Bench(runner, 2, Budget(seconds), candidate(default), seed=7)
    bench.begin()
    return bench


def test_the_budget_counts_and_keeps_a_reserve(clock):
    budget = Budget(10.0)
    budget.reserve_s = 3.0
    clock.now += 4.0
    planned = 10.0 * selection_timing.PLANNED
    assert budget.spent == 4.0
    assert budget.left == pytest.approx(planned - 4.0)
    assert budget.left_to_try == pytest.approx(planned - 7.0)


def test_speed_is_against_the_default_in_the_same_rounds(clock):
    runner = Runner(clock)
    bench = bench_of(runner, 1000.0)
    fast, slow = candidate(b"8"), candidate(b"20")
    bench.time([fast, slow])
    assert (fast.speedup, slow.speedup, bench.default.speedup) == (1.25, 0.5, 1.0)
    assert fast.timing.latency_ms == 8.0
    (first, *_), (models, rounds, seed) = runner.calls
    assert first == [b"10"]
    assert models == [b"10", b"8", b"20"]
    assert rounds == ROUNDS
    assert seed != runner.calls[0][2]
    assert bench.noise == LEAST_NOISE


def test_noise_is_what_repeating_changes(clock):
    bench = bench_of(Runner(clock, noise=0.04), 1000.0)
    bench.time([candidate(b"8")])
    assert bench.noise == pytest.approx(0.04)


def test_what_the_time_does_not_allow_is_left_out_from_the_end(clock):
    runner = Runner(clock)
    bench = bench_of(runner, 5.0)
    each = [candidate(b"10") for _ in range(40)]
    bench.time(each)
    timed = [one for one in each if one.timing is not None]
    assert 0 < len(timed) < 40
    assert timed == each[: len(timed)]
    assert {one.obstacle for one in each[len(timed) :]} == {NO_TIME}
    assert runner.calls[-1][1] < ROUNDS
    assert bench.budget.spent <= 5.0 - 0.9 * bench.budget.reserve_s


def test_rounds_become_fewer_before_files_are_left_out(clock):
    runner = Runner(clock)
    bench = bench_of(runner, 5.0)
    bench.time([candidate(b"10") for _ in range(9)])
    assert 3 <= runner.calls[-1][1] < ROUNDS
    assert len(runner.calls[-1][0]) == 10


def test_the_reserve_is_enough_for_the_last_comparison(clock):
    runner = Runner(clock)
    bench = bench_of(runner, 20.0)
    clock.now += bench.budget.left_to_try  # all of the time is used up
    late = [candidate(b"9")]
    bench.time(late)
    assert late[0].obstacle == NO_TIME
    known = [candidate(b"9"), candidate(b"10")]
    bench.time(known, rounds=FINAL_ROUNDS, is_last=True)
    assert runner.calls[-1][1] == FINAL_ROUNDS
    assert [one.is_final for one in known] == [True, True]
    assert bench.budget.spent <= 20.0


def test_a_candidate_that_was_timed_before_stays_so_when_time_runs_out(clock):
    bench = bench_of(Runner(clock), 5.0)
    one = candidate(b"9")
    bench.time([one])
    clock.now += 10.0
    bench.time([one], is_last=True)
    assert one.obstacle == ""
    assert (one.speedup, one.is_final) == (pytest.approx(10 / 9), False)


def test_files_that_the_device_refuses_do_not_hinder_the_others(clock):
    runner = Runner(clock, refuses=[b"3", b"4"])
    bench = bench_of(runner, 1000.0)
    each = [candidate(data) for data in (b"3", b"8", b"4", b"5")]
    bench.time(each)
    assert [one.speedup for one in each] == [None, 1.25, None, 2.0]
    assert each[0].obstacle == each[2].obstacle == "refused: the device refuses it"
    assert not each[0].is_open
    assert runner.calls[-1][0] == [b"10", b"8", b"5"]


def test_a_default_that_the_device_refuses_is_an_error(clock):
    with pytest.raises(DeviceError):
        bench_of(Runner(clock, refuses=[b"10"]), 10.0)


def test_a_busy_machine_is_planned_for(clock):
    """Least samples of 10 ms, and yet a call takes three times what they say."""
    runner = Runner(clock)
    bench = bench_of(runner, 60.0)
    time_of = runner.time

    def busy(models, **options):
        before = clock.now
        timings = time_of(models, **options)
        clock.now += 2 * (clock.now - before)
        return timings

    runner.time = busy
    quiet = bench._cost([candidate(b"10")] * 5, 9)
    for _ in range(40):
        bench.time([candidate(b"10") for _ in range(9)])
    assert bench._cost([candidate(b"10")] * 5, 9) > 2 * quiet
    assert bench.budget.spent <= 60.0 - 0.5 * bench.budget.reserve_s
    bench.time([candidate(b"10") for _ in range(3)], rounds=FINAL_ROUNDS, is_last=True)
    assert bench.budget.spent <= 63.0  # opening takes nothing here, and is planned for


def test_long_files_are_run_once_a_visit(clock):
    runner = Runner(clock)
    bench = bench_of(runner, 1000.0, default=b"60")
    bench.time([candidate(b"50")])
    assert runner.runs == 1
    bench_of(runner, 1000.0, default=b"6").time([candidate(b"5")])
    assert runner.runs == RUNS


def test_the_way_to_the_device_is_paid_once(clock):
    runner = Runner(clock, overhead_s=2.0)
    bench = bench_of(runner, 20.0)
    each = [candidate(b"10") for _ in range(8)]
    bench.time(each)
    assert all(one.timing is not None for one in each)


def test_what_may_not_be_chosen_is_not_timed(clock):
    runner = Runner(clock)
    bench = bench_of(runner, 100.0)
    refused, kept = candidate(b"8"), candidate(b"9")
    refused.check = Check(is_kept=False, reason="refused: wrong")
    bench.time([refused, kept, bench.default])
    assert runner.calls[-1][0] == [b"10", b"9"]
    calls = len(runner.calls)
    bench.time([refused])
    assert len(runner.calls) == calls
    bench.time([], rounds=5, is_last=True)  # the default alone
    assert runner.calls[-1][:2] == ([b"10"], 5)


def test_a_spinning_file_costs_opening_in_every_round(clock):
    bench = bench_of(Runner(clock), 100.0)
    calm, spinning = candidate(b"8"), candidate(b"8", spinning=True)
    assert bench._cost([spinning], 10) > bench._cost([calm], 10) + 0.2
    slow = candidate(b"8", optimisation="disabled")
    assert bench._cost([slow], 10) > 2 * bench._cost([calm], 10)


def test_errors_are_told_in_one_line():
    assert in_short(DeviceError("one thing")) == "one thing"
    printed = "run ended with code 2:\n  [E:onnxruntime] long\n  error: X refuses Conv\n  bye"
    assert in_short(DeviceError(printed)) == "X refuses Conv"
    assert in_short(DeviceError("a\n  b")) == "a b"
    assert in_short(DeviceError("x" * 1000)).endswith("xxx...")
    assert in_short(ValueError()) == "ValueError"


def test_noise_is_a_files_own_drift_too():
    one = candidate(b"8")
    assert one.noise == 0.0
    one.timing = Timing(samples_ms=(1.0, 1.1, 1.2, 1.3), rounds=4, preempted=0.0)
    assert one.noise == pytest.approx(0.1)  # halves differ by 0.2, even and odd rounds by 0.1
    one.timing = Timing(samples_ms=(1.0,), rounds=1, preempted=0.0)
    assert one.noise == 0.0


def test_a_candidate_becomes_a_record():
    one = candidate(b"8")
    record = one.tried("slower: accuracy not judged", 0.9)
    assert (record.latency_ms, record.speedup, record.accuracy) == (None, None, 0.9)
    assert record.stage == "forms"
    one.timing = Timing(samples_ms=(2.0, 1.0), rounds=2, preempted=0.0)
    one.check = Check(is_kept=True, relative_error=1e-7, top1_agreement=1.0)
    record = one.tried("kept the bound", None)
    assert (record.latency_ms, record.dispersion_ms) == (1.0, 0.5)
    assert (record.relative_error, record.top1_agreement) == (1e-7, 1.0)
    assert one.is_kept
