"""When a latency that changed is drift, and when noise."""

import pytest

from deployment import Timing
from experiments.reproduce_command import Reproduction, _judged

QUIET = (1.0, 1.01, 1.02, 1.0, 1.01, 1.03)
BUSY = (1.0, 1.7, 18.8, 1.0, 1.6, 50.0)


def timing(samples, factor=1.0):
    return Timing(samples_ms=tuple(factor * ms for ms in samples), rounds=3, preempted=0.0)


@pytest.mark.parametrize(
    ("recorded", "now", "factor", "verdict"),
    [
        (QUIET, QUIET, 1.05, "holds"),
        (QUIET, QUIET, 1.2, "DRIFTED"),
        (QUIET, QUIET, 0.8, "faster"),
        (BUSY, QUIET, 1.103, "shown"),
        (QUIET, BUSY, 1.103, "shown"),
        (BUSY, QUIET, 0.8, "shown"),
        (BUSY, QUIET, 1.05, "holds"),
        (BUSY, QUIET, 100.0, "DRIFTED"),
    ],
)
def test_noise_is_no_drift(recorded, now, factor, verdict):
    found = _judged("latency, least", timing(recorded), timing(now, factor))
    assert found.verdict == verdict
    assert found.remark.endswith("too noisy to be judged") == (verdict == "shown")
    assert Reproduction(findings=(found,)).holds == (verdict != "DRIFTED")
