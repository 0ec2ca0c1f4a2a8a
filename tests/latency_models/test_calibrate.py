import logging
from dataclasses import replace

import numpy as np
import pytest

from deployment import open_session
from experiments.baselines import ScaledResNet
from hardware_profiles import Target, machine_fingerprint
from latency_models import (
    CalibrationError,
    MeasuredCostModel,
    calibrate,
    calibration_networks,
    random_weights_model,
    time_models,
)
from records import BadInputError
from tests.latency_models.doubles import (
    CNN,
    HYBRID,
    PROFILE,
    TARGET,
    VIT,
    OneConvolution,
    WeighingRunner,
    sampled,
    weighed_ms,
)

HERE = Target(profile=replace(PROFILE, machine=machine_fingerprint()))


def test_this_machine_is_calibrated():
    seen = []
    model = calibrate(
        HYBRID, HERE, networks=14, budget_s=8.0, on_progress=lambda *step: seen.append(step)
    )
    assert isinstance(model, MeasuredCostModel)
    assert model.genes.shape == (14, len(HYBRID.choices))
    assert len(model.timings) == 14
    assert [timing.latency_ms for timing in model.timings] == model.measured_ms.tolist()
    assert min(timing.rounds for timing in model.timings) >= 7
    assert 0 < model.quality.mape < 0.6
    assert model.quality.spearman > 0.5
    ends = np.concatenate([HYBRID.extremes("smallest")[:1], HYBRID.extremes("largest")])
    small, *large = model.latency_ms(ends)
    assert small < min(large)
    assert seen[:14] == [("building networks to time", i + 1, 14) for i in range(14)]
    assert {what for what, _, _ in seen[14:]} == {"timing"}


def test_another_device_without_a_runner_says_what_to_do():
    with pytest.raises(CalibrationError, match=r"'bench-t1-b1'.*pass a runner.*RooflineCostModel"):
        calibrate(HYBRID, TARGET)


def test_runner_reaches_another_device():
    target = replace(TARGET, threads=3, batch_size=2)
    runner = WeighingRunner()
    model = calibrate(HYBRID, target, networks=12, budget_s=5, runner=runner, seed=4)
    assert model.runner is runner
    first, second = runner.calls
    assert {first["threads"], second["threads"]} == {3}
    assert {first["seed"], second["seed"]} == {4}
    assert len(first["models"]) == 10
    assert first["rounds"] == 1
    assert len(second["models"]) == 12
    assert 7 <= second["rounds"] <= 25
    assert second["min_seconds"] == 2.5
    (images,) = open_session(second["models"][0]).get_inputs()
    assert images.shape[0] == 2
    assert model.measured_ms.tolist() == [weighed_ms(m) for m in second["models"]]


def test_seed_decides_the_networks():
    first, second, other = (
        calibrate(HYBRID, TARGET, networks=16, runner=WeighingRunner(), seed=seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.genes, second.genes)
    np.testing.assert_array_equal(first.measured_ms, second.measured_ms)
    np.testing.assert_array_equal(first.kernel_ms, second.kernel_ms)
    assert (first.genes != other.genes).any()


def test_short_budget_times_ten_networks_and_warns(caplog):
    with caplog.at_level(logging.WARNING, logger="latency_models.measured"):
        model = calibrate(HYBRID, TARGET, networks=40, budget_s=1e-6, runner=WeighingRunner())
    assert len(model.genes) == 10
    assert "allow 10 of 40 networks" in caplog.text


@pytest.mark.parametrize("budget_s", [0, -1, float("nan")])
def test_budget_that_is_none_is_refused(budget_s):
    with pytest.raises(BadInputError, match="budget_s must be positive"):
        calibrate(HYBRID, TARGET, budget_s=budget_s, runner=WeighingRunner())


@pytest.mark.parametrize("space", [HYBRID, CNN, VIT], ids=lambda space: space.name)
@pytest.mark.parametrize("networks", [10, 40])
def test_networks_to_time_are_distinct_and_hold_the_extremes(space, networks):
    rows = calibration_networks(space, networks, seed=3)
    assert rows.shape == (networks, len(space.choices))
    assert len(np.unique(rows, axis=0)) == networks
    np.testing.assert_array_equal(space.gene_space.check(rows), rows)
    ends = np.concatenate([space.extremes("smallest"), space.extremes("largest")])
    assert {tuple(row) for row in ends} <= {tuple(row) for row in rows}


@pytest.mark.parametrize("seed", range(8))
def test_small_space_is_timed_as_far_as_it_goes(seed):
    space = ScaledResNet(image_size=8, multipliers=tuple(0.5 * k for k in range(1, 14)))
    assert len(np.unique(calibration_networks(space, 10, seed))) == 10
    assert len(np.unique(calibration_networks(space, 50, seed))) == space.cardinality == 13


def test_space_too_small_to_fit_is_refused_before_timing():
    runner = WeighingRunner()
    with pytest.raises(CalibrationError, match=r"OneConvolution has 2 networks.*needs 10"):
        calibrate(OneConvolution(), TARGET, runner=runner)
    assert not runner.calls


def test_fewer_than_ten_networks_are_refused():
    with pytest.raises(BadInputError, match="networks must be >= 10, got 9"):
        calibration_networks(HYBRID, 9, 0)


def test_model_of_an_architecture_is_the_exported_one():
    row = sampled(HYBRID, 5)[-1]
    model = random_weights_model(HYBRID, row, 3)
    assert model == random_weights_model(HYBRID, row, 3)
    session = open_session(model)
    assert session.get_inputs()[0].shape == [3, 3, 16, 16]
    logits = session.run(None, {"images": np.ones((3, 3, 16, 16), np.float32)})[0]
    assert np.isfinite(logits).all()


def test_rounds_fill_the_budget_within_limits():
    models = [random_weights_model(CNN, row, 1) for row in CNN.extremes("smallest")]
    rounds = []
    for budget_s in (1e-9, 1e9):
        runner = WeighingRunner()
        time_models(runner, models, TARGET, 0, budget_s)
        rounds.append(runner.calls[-1]["rounds"])
        assert runner.calls[-1]["min_seconds"] == min(2.5, budget_s)
    assert rounds == [7, 25]
