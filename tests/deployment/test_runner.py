import math
import time
from collections import Counter
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from scipy.stats import spearmanr

from deployment import LocalRunner, Timing, emit
from deployment.kit.measure import WARM_RUNS, WARM_S
from deployment.runners.runner import MAX_ROUNDS
from deployment.session_settings import SessionSettings
from experiments.baselines import ScaledResNet
from records import BadInputError, CorruptFileError
from search_spaces import HybridSpace
from supernet import Subnet
from tests.deployment.doubles import CNN, rows_of

RESNET = ScaledResNet(image_size=16, multipliers=(0.5, 0.75, 1.0, 2.0))


def exported(space, row, batch_size=1):
    return emit(Subnet(space.graph(row)).eval(), batch_size).SerializeToString()


@pytest.fixture(scope="module")
def models():
    return [exported(CNN, row) for row in CNN.extremes("smallest")] + [exported(RESNET, [2])]


class FakeSession:
    """Runs in no time and remembers what was asked for, across all of them."""

    opened: ClassVar[Counter] = Counter()

    def __init__(self, model, threads, settings, log):
        self.model, self.log = model, log
        self.threads = settings.threads_of(threads)
        self.opened[model] += 1

    def __del__(self):
        self.opened[self.model] -= 1

    def get_inputs(self):
        return [SimpleNamespace(name="images", shape=[2, 3, 4, 4], type="tensor(float)")]

    def run(self, _outputs, feed):
        self.log.append((self.model, self.threads, feed["images"]))


@pytest.fixture
def log(monkeypatch):
    runs = []
    FakeSession.opened.clear()
    monkeypatch.setattr(
        "deployment.runners.runner.open_session",
        lambda model, threads, settings: FakeSession(model, threads, settings, runs),
    )
    return runs


@pytest.fixture
def clock(log, monkeypatch):
    """Time that passes by sleeping and by runs alone, so that no machine is too slow."""
    now = SimpleNamespace(s=100.0, pauses=[])
    run = FakeSession.run

    def sleep(seconds):
        now.pauses.append(seconds)
        now.s += seconds

    def running(self, outputs, feed):
        now.s += 0.0002
        run(self, outputs, feed)

    looks = SimpleNamespace(perf_counter=lambda: now.s, thread_time=lambda: now.s, sleep=sleep)
    monkeypatch.setattr("deployment.runners.runner.time", looks)
    monkeypatch.setattr(FakeSession, "run", running)
    return now


def test_gives_rounds_times_runs_samples_of_each_model(models):
    timings = LocalRunner().time(models, threads=1, rounds=3, runs=4)
    assert len(timings) == 2
    for timing in timings:
        assert timing.rounds == 3
        assert len(timing.samples_ms) == 12
        assert min(timing.samples_ms) > 0
        assert 0 <= timing.preempted <= 1


def test_every_round_visits_every_model_once_in_another_order(log):
    models = [b"a", b"b", b"c", b"d", b"e"]
    LocalRunner().time(models, threads=3, rounds=6, runs=2, seed=1)
    order = [model for model, _, _ in log]
    assert {threads for _, threads, _ in log} == {3}
    assert order[:5] == models  # the first runs, which allocate
    visits = np.array(order[5:]).reshape(6, 5, 3)  # one warm and two timed runs a visit
    assert (visits == visits[:, :, :1]).all()
    rounds = [tuple(visit) for visit in visits[:, :, 0]]
    assert {frozenset(order) for order in rounds} == {frozenset(models)}
    assert len(set(rounds)) > 3
    log.clear()
    LocalRunner().time(models, threads=3, rounds=6, runs=2, seed=1)
    assert [model for model, _, _ in log] == order
    log.clear()
    LocalRunner().time(models, threads=3, rounds=6, runs=2, seed=2)
    assert [model for model, _, _ in log] != order


def test_every_model_is_opened_with_its_settings(log):
    settings = [SessionSettings(threads=1), SessionSettings(), SessionSettings(threads=3)]
    LocalRunner().time([b"a", b"b", b"c"], threads=2, settings=settings, rounds=2)
    assert {(model, threads) for model, threads, _ in log} == {(b"a", 1), (b"b", 2), (b"c", 3)}
    with pytest.raises(BadInputError, match="got 1 for 2 models"):
        LocalRunner().time([b"a", b"b"], threads=1, settings=settings[:1])


def test_a_model_whose_threads_spin_is_open_for_its_visits_alone(log, monkeypatch):
    spinning, calm = SessionSettings(spinning=True), SessionSettings()
    beside = []

    def run(self, _outputs, feed):
        self.log.append((self.model, self.threads, None))
        beside.append((self.model, {m for m, n in self.opened.items() if n and m != self.model}))

    monkeypatch.setattr(FakeSession, "run", run)
    timings = LocalRunner().time(
        [b"s", b"t", b"c"], threads=2, settings=[spinning, spinning, calm], rounds=4, runs=3
    )
    assert all({b"s", b"t"}.isdisjoint(others) for _, others in beside)
    assert [len(t.samples_ms) for t in timings] == [12, 12, 12]
    visits = Counter(model for model, _, _ in log)
    assert visits[b"c"] == 1 + 4 * (1 + 3)
    assert visits[b"s"] == 1 + 4 * (WARM_RUNS + 1 + 3)
    order = [model for model, _, _ in log][3:]
    assert order != sorted(order)  # among the others' visits, not after them
    log.clear()
    LocalRunner().time([b"s", b"c"], threads=1, settings=[spinning, calm], rounds=2, runs=1)
    assert Counter(model for model, _, _ in log)[b"s"] == 1 + 2 * 2  # one thread cannot spin


def test_settings_reach_real_sessions(models, monkeypatch):
    levels, real = [], ort.InferenceSession

    def opened(model, options, **how):
        levels.append(options.graph_optimization_level)
        return real(model, options, **how)

    monkeypatch.setattr(ort, "InferenceSession", opened)
    level = SessionSettings(optimisation="disabled")
    timings = LocalRunner().time(
        [models[1], models[1]], threads=1, settings=[level, SessionSettings()], rounds=2
    )
    every = ort.GraphOptimizationLevel
    assert levels == [every.ORT_DISABLE_ALL, every.ORT_ENABLE_ALL]
    assert [timing.rounds for timing in timings] == [2, 2]


def test_inputs_are_random_and_differ_between_models(log):
    LocalRunner().time([b"a", b"b"], threads=1, rounds=1)
    (_, _, first), (_, _, second) = log[:2]
    assert first.shape == (2, 3, 4, 4)
    assert first.dtype == np.float32
    assert 0.5 < first.std() < 1.5
    assert (first != second).all()


@pytest.mark.usefixtures("clock")
def test_progress_is_reported():
    seen = []
    LocalRunner().time(
        [b"a"], threads=1, rounds=3, min_seconds=0.05, on_round=lambda i, n: seen.append((i, n))
    )
    assert seen[:3] == [(1, 3), (2, 3), (3, 3)]
    assert set(seen[3:]) == {(3, 3)}  # there were more rounds, to fill the time


def test_a_minimum_time_is_filled_with_rounds_and_pauses(clock):
    timings = LocalRunner().time([b"a", b"b"], threads=1, rounds=2, runs=2, min_seconds=0.4)
    assert 100.4 <= clock.s < 100.41
    assert sum(clock.pauses) > 0.1
    for timing in timings:
        assert 0.9 * MAX_ROUNDS < timing.rounds <= MAX_ROUNDS
        assert len(timing.samples_ms) == 2 * timing.rounds
    spread = LocalRunner().time([b"a"], threads=1, rounds=MAX_ROUNDS + 20, min_seconds=0.01)
    assert spread[0].rounds == MAX_ROUNDS + 20


def test_after_a_pause_runs_that_are_not_timed_wake_the_processor(log, clock):
    (timing,) = LocalRunner().time([b"a"], threads=1, rounds=3, runs=2)
    usual = 1 + 3 * (1 + 2)
    assert len(log) == usual  # no pause
    log.clear()
    (timing,) = LocalRunner().time([b"a"], threads=1, rounds=3, runs=2, min_seconds=0.5)
    assert timing.rounds == len(clock.pauses) == MAX_ROUNDS
    assert len(timing.samples_ms) == 2 * timing.rounds
    waking = len(log) - (1 + 3 * timing.rounds)
    pauses = timing.rounds - 1  # the last pause is followed by nothing
    assert pauses * WARM_S / 0.0002 <= waking <= pauses * (WARM_S / 0.0002 + 1)


def test_latency_and_dispersion_by_hand():
    timing = Timing(samples_ms=(3.0, 2.0, 9.0, 2.5, 4.0, 7.0), rounds=3, preempted=0.0)
    assert timing.latency_ms == 2.0
    assert timing.dispersion_ms == pytest.approx((2.5 - 2.0) / 2)
    assert timing.quantile_ms(0.5) == pytest.approx(3.5)
    assert timing.quantile_ms(0) == 2.0
    assert timing.quantile_ms(1) == 9.0
    one = Timing(samples_ms=(3.0,), rounds=1, preempted=math.nan)
    assert one.latency_ms == 3.0
    assert math.isnan(one.dispersion_ms)


def test_a_disturbed_timing_explains_changes_within_its_spread():
    quiet = Timing(samples_ms=(1.0, 1.02, 1.1, 1.0, 1.03, 1.2), rounds=3, preempted=0.0)
    assert quiet.spread == pytest.approx(0.15)
    assert not quiet.explains(0.11, 0.1)
    busy = Timing(samples_ms=(0.25, 0.42, 4.7, 0.25, 0.4, 12.5), rounds=3, preempted=0.0)
    assert busy.dispersion_ms == 0.0  # which does not tell
    assert busy.explains(0.103, 0.1)
    assert busy.explains(-0.5, 0.1)
    assert not busy.explains(busy.spread + 0.1, 0.1)


def test_halves_whose_least_samples_differ_explain_as_much():
    drifting = Timing(samples_ms=(1.0, 1.0, 1.0, 1.2, 1.2, 1.2), rounds=3, preempted=0.0)
    assert drifting.explains(0.15, 0.1)
    assert not drifting.explains(0.25, 0.1)
    assert not drifting.explains(0.15, 0.3)
    assert not Timing(samples_ms=(1.0,), rounds=1, preempted=0.0).explains(0.2, 0.1)


def test_timings_of_one_file_are_joined_by_their_samples():
    first = Timing(samples_ms=(3.0, 2.0, 4.0, 2.5), rounds=2, preempted=0.5)
    second = Timing(samples_ms=(1.5, 5.0), rounds=1, preempted=0.2)
    both = first.joined(second)
    assert both.samples_ms == (3.0, 2.0, 4.0, 2.5, 1.5, 5.0)
    assert both.rounds == 3
    assert both.preempted == pytest.approx((0.5 * 4 + 0.2 * 2) / 6)
    assert both.latency_ms == 1.5
    unknown = first.joined(Timing(samples_ms=(1.0,), rounds=1, preempted=math.nan))
    assert math.isnan(unknown.preempted)


def test_preemption_is_known_for_one_thread_only(models):
    (timing,) = LocalRunner().time(models[:1], threads=2, rounds=2)
    assert math.isnan(timing.preempted)


def test_time_off_the_processor_is_told(log, monkeypatch):
    monkeypatch.setattr(FakeSession, "run", lambda *_: time.sleep(0.002))
    (timing,) = LocalRunner().time([b"a"], threads=1, rounds=2)
    assert timing.preempted == 1.0
    assert timing.latency_ms >= 2.0


def test_twice_the_width_is_slower():
    narrow, wide = (exported(RESNET, [gene], batch_size=4) for gene in (2, 3))
    timings = LocalRunner().time([narrow, wide], threads=1, rounds=7, runs=3)
    assert timings[1].latency_ms > 1.5 * timings[0].latency_ms


@pytest.mark.slow  # meaningful only while no other test runs beside it
def test_ranks_repeat():
    """Two timings of the same networks order them alike, though the machine is not quiet."""
    space = HybridSpace(image_size=32)
    rows = space.sample(80, np.random.default_rng(3))
    macs = space.layer_table(rows).macs
    rows = rows[np.argsort(macs)[::7][:12]]
    models = [exported(space, row) for row in rows]
    first, second = (
        [t.latency_ms for t in LocalRunner().time(models, threads=1, rounds=12, seed=seed)]
        for seed in (0, 1)
    )
    assert spearmanr(first, second).statistic >= 0.95


def test_input_of_unknown_size_is_refused(models):
    model = onnx.load_from_string(models[0])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(BadInputError, match=r"fixed.*'batch'"):
        LocalRunner().time([model.SerializeToString()], threads=1)


def test_broken_model_is_refused(models):
    with pytest.raises(CorruptFileError):
        LocalRunner().time([models[0], models[1][:200]], threads=1)


@pytest.mark.parametrize(("rounds", "runs"), [(0, 3), (3, 0)])
def test_no_samples_at_all_are_refused(models, rounds, runs):
    with pytest.raises(BadInputError, match=f"got {rounds} and {runs}"):
        LocalRunner().time(models, threads=1, rounds=rounds, runs=runs)


def test_nothing_to_time_gives_nothing():
    assert LocalRunner().time([], threads=1) == []


def test_largest_network_of_a_space_is_the_slowest():
    ends = rows_of(CNN, 0)
    small, large = LocalRunner().time([exported(CNN, row) for row in ends], threads=1)
    assert large.latency_ms > small.latency_ms
