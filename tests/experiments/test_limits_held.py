"""The benchmark of limits: what it draws and how it counts."""

import numpy as np

from experiments.benchmarks.limits_held import BATCHES, PICKS, cases, summary

RANGES = {
    "cnn": {1: (0.1, 1.0), 8: (0.5, 5.0)},
    "hybrid": {1: (0.2, 0.4), 8: (1.0, 2.0)},
}


def test_limits_are_within_what_can_be_reached_and_repeat_with_the_seed():
    drawn = cases(RANGES, 200, seed=3)
    assert drawn == cases(RANGES, 200, seed=3)
    assert drawn != cases(RANGES, 200, seed=4)
    shares = []
    for case in drawn:
        low, high = np.log(RANGES[case.space][case.batch_size])
        shares.append((np.log(case.limit_ms) - low) / (high - low))
    assert 0.1 <= min(shares) < 0.2 < 0.9 < max(shares) <= 1.0
    assert {case.pick for case in drawn} == set(PICKS)
    assert {case.batch_size for case in drawn} == set(BATCHES)
    assert [case.space for case in drawn[:4]] == ["cnn", "hybrid"] * 2


def test_what_was_not_exported_is_not_counted_as_kept(capsys):
    base = {"space": "cnn", "batch_size": 1, "pick": "knee", "limit_ms": 1.0, "predicted_ms": 0.9}
    rows = [
        {**base, "measured_ms": 0.9, "again_ms": 0.95, "holds": True},
        {**base, "measured_ms": 0.99, "again_ms": 1.01, "holds": False},
        {**base, "measured_ms": None, "again_ms": None, "holds": None},
    ]
    found = summary(rows)
    assert (found["exported"], found["held"], found["share"]) == (2, 1, 0.5)
    assert "1 of 2 exported networks keep their limit" in capsys.readouterr().out
    assert summary(rows[2:])["share"] is None
