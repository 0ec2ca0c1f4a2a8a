import numpy as np
import pytest

from deployment import Timing, noise_floor
from latency_models import calibrate, random_weights_model
from latency_models.calibration_timing import (
    MAX_NOISE,
    MOST_REPEATS,
    is_repeatable,
    time_models,
)
from tests.latency_models.doubles import HYBRID, TARGET, weighed_ms


class DisturbedRunner:
    """A machine that another slows by 60 % most of the time, for so many calls."""

    name = "disturbed"

    def __init__(self, calls, share=0.9):
        self.calls, self.share, self.asked = calls, share, []

    def time(self, models, *, threads, rounds=7, runs=3, min_seconds=0.0, seed=0, on_round=None):
        self.asked.append(rounds)
        rng = np.random.default_rng(seed)
        share = self.share if len(self.asked) <= self.calls else 0.0
        slow = 1 + 0.6 * (rng.random((len(models), rounds)) < share)
        return [
            Timing(
                samples_ms=tuple(np.repeat(own * weighed_ms(m), runs).tolist()),
                rounds=rounds,
                preempted=0.0,
            )
            for m, own in zip(models, slow, strict=True)
        ]


def made(samples, rounds):
    return Timing(samples_ms=samples, rounds=rounds, preempted=0.0)


def test_noise_floor_by_hand():
    one = made((1.0, 1.1, 1.3, 1.2), rounds=2)  # even rounds 1.0, odd 1.2
    other = made((2.0, 2.5, 2.0, 2.2), rounds=2)
    assert noise_floor([one, other]) == pytest.approx((0.2 + 0) / 2)
    assert np.isnan(noise_floor([made((1.0,), rounds=1)]))
    assert is_repeatable([made((1.0,), rounds=1)])
    assert not is_repeatable([one, other])


def test_a_disturbed_timing_is_repeated_until_the_least_samples_repeat():
    runner = DisturbedRunner(calls=3)  # one round to see how long it takes, two timings
    disturbed = calibrate(HYBRID, TARGET, networks=20, runner=runner, budget_s=60)
    quiet = calibrate(HYBRID, TARGET, networks=20, runner=DisturbedRunner(calls=0), budget_s=60)
    assert len(runner.asked) == 4
    assert noise_floor(disturbed.timings) <= MAX_NOISE
    np.testing.assert_array_equal(disturbed.measured_ms, quiet.measured_ms)


def test_a_quiet_machine_is_asked_once():
    runner = DisturbedRunner(calls=0)
    calibrate(HYBRID, TARGET, networks=20, runner=runner, budget_s=60)
    assert len(runner.asked) == 2


def test_what_never_repeats_ends_all_the_same(tmp_path):
    runner = DisturbedRunner(calls=99, share=0.99)
    calibrate(HYBRID, TARGET, networks=20, runner=runner, budget_s=60)
    assert len(runner.asked) == 2 + MOST_REPEATS
    path = tmp_path / "calibration.json"
    runner = DisturbedRunner(calls=99, share=0.99)
    kept = calibrate(HYBRID, TARGET, networks=20, runner=runner, budget_s=60, path=path)
    rounds = sum(runner.asked[1:])
    assert rounds == (1 + MOST_REPEATS) * 25
    assert kept.timings[0].rounds == rounds
    again = calibrate(HYBRID, TARGET, networks=20, runner=runner, budget_s=60, path=path)
    assert sum(runner.asked[1:]) == rounds
    np.testing.assert_array_equal(again.measured_ms, kept.measured_ms)


def test_no_budget_allows_no_repetition():
    runner = DisturbedRunner(calls=99)
    models = [random_weights_model(HYBRID, row, 1) for row in HYBRID.extremes("largest")]
    time_models(runner, models, TARGET, 0, budget_s=1e-9)
    assert len(runner.asked) == 2
