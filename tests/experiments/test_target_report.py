"""The report of a target: noise and drift by formula, its warnings, how it is shown."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from deployment import Timing
from deployment.kit import read_results
from experiments.target_report import (
    HOPELESS,
    HopelessMeasurementError,
    refuse_hopeless,
    report_of,
    slowdown,
    steadiness,
)
from experiments.target_report_view import rows_of, show_report
from hardware_profiles import Target
from latency_models import MeasuredCostModel
from tests.deployment.made_results import made_manifest, made_results, written
from tests.latency_models.doubles import CNN, PROFILE, planted_ms, sampled

TARGET = Target(profile=PROFILE)
MANIFEST = made_manifest([CNN], networks=30)
GENES = np.array([entry["genes"] for entry in MANIFEST["models"]])
PLANTED = planted_ms(CNN, GENES)


def timing(rounds_ms, preempted=0.0):
    return Timing(
        samples_ms=tuple(ms for visit in rounds_ms for ms in visit),
        rounds=len(rounds_ms),
        preempted=preempted,
    )


def report(tmp_path, *, change=None, resolution=0.03, latencies=PLANTED, **options):
    made = made_results(MANIFEST, latencies, **options)
    if change is not None:
        change(made)
    results = read_results(written(made, tmp_path / "results.json"))
    ms = [t.latency_ms for t in results.timings]
    return report_of([MeasuredCostModel(CNN, TARGET, GENES, ms)], results, resolution)


# ---- the figures -----------------------------------------------------------------------------


def test_the_noise_floor_by_hand():
    """Even rounds have 1.0, 2.0 and 4.0 as least samples, odd ones 1.1, 2.0 and 5.0."""
    timings = [
        timing([(1.5, 1.0), (1.1, 9.0), (1.2, 1.3), (1.4, 1.2)]),
        timing([(2.0, 3.0), (2.0, 2.5), (2.2, 2.1), (2.3, 2.4)]),
        timing([(4.4, 4.1), (5.5, 5.6), (4.0, 4.2), (5.0, 5.3)]),
    ]
    found = steadiness(timings)
    assert found.noise_floor == pytest.approx((0.1 + 0.0 + 0.25) / 3)
    assert found.repeat_spearman == 1.0
    assert (found.networks, found.rounds) == (3, 4)
    # One round is the first third, one the last: 1.0 -> 1.2, 2.0 -> 2.3, 4.1 -> 5.0.
    assert found.drift == pytest.approx(np.median([1.2, 1.15, 5.0 / 4.1]) - 1)


def test_ranks_that_do_not_repeat_show():
    timings = [timing([(a,), (b,)]) for a, b in ((1.0, 3.0), (2.0, 2.0), (3.0, 1.0))]
    assert steadiness(timings).repeat_spearman == pytest.approx(-1)


def test_quantiles_are_multiples_of_each_networks_latency():
    found = steadiness([timing([(1.0, 2.0)]), timing([(10.0, 20.0)])])
    assert found.p50 == pytest.approx(1.5)
    assert found.p99 == pytest.approx(np.quantile([1, 1, 2, 2], 0.99))


def test_what_one_round_cannot_tell_is_not_known():
    found = steadiness([timing([(1.0, 2.0)], preempted=math.nan)])
    values = (found.noise_floor, found.drift, found.repeat_spearman, found.preempted)
    assert all(math.isnan(value) for value in values)
    assert math.isnan(steadiness([timing([(1.0,)] * 4)] * 3).repeat_spearman)  # all equal


def test_noise_grows_with_the_noise_and_not_with_drift():
    rng = np.random.default_rng(0)

    def noise_of(noise, drift):
        samples = 1 + noise * rng.exponential(size=(40, 15, 3))
        samples *= 1 + drift * np.arange(15)[None, :, None] / 14
        return steadiness([timing(rounds.tolist()) for rounds in samples])

    quiet, loud = noise_of(0.01, 0.0), noise_of(0.3, 0.0)
    assert quiet.noise_floor < 0.002 < loud.noise_floor
    warm = noise_of(0.01, 0.2)
    assert warm.drift == pytest.approx(0.2 * 10 / 14, rel=0.1)
    assert warm.noise_floor < 0.25 * warm.drift


# ---- the report ------------------------------------------------------------------------------


def test_a_good_measurement_has_no_warning(tmp_path):
    found = report(tmp_path)
    assert found.warnings == ()
    assert found.steadiness.noise_floor < 0.01
    (fit,) = found.fits
    assert fit.quality.mape < 0.05
    assert fit.fastest_ms == pytest.approx(PLANTED.min(), rel=0.01)
    assert fit.slowest_ms == pytest.approx(PLANTED.max(), rel=0.01)
    assert found.cold_start.open_ms == 5.0
    assert found.cold_start.first_run_ratio == pytest.approx(3.0, rel=0.01)
    assert found.facts["clock governor"] == "ondemand"
    assert "sittings" not in found.facts


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise": 0.6}, "is above the 3.0% that networks should be told apart by"),
        ({"resolution": 0.0001}, "is above the 0.0%"),
        ({"drift": 0.15}, "the device became 11% slower while it was measured"),
        ({"drift": -0.15}, "the device became 12% faster while it was measured"),
        ({"slowdown": 1.4}, "a network became 40% slower"),
        ({"change": lambda r: r["settings"].update(rounds=15)}, "after 9 of 15 rounds"),
        (
            {"change": lambda r: r["settings"].update(provider="CUDAExecutionProvider")},
            "measured on CUDAExecutionProvider",
        ),
        (
            {"change": lambda r: [row.update(preempted=[0.5]) for row in r["models"]]},
            "50% of the runs were interrupted",
        ),
        (
            {"latencies": np.random.default_rng(0).uniform(1, 9, len(PLANTED))},
            "the cost model of CNNSpace is off by",
        ),
    ],
)
def test_what_is_wrong_is_said_alone(tmp_path, options, said):
    (warning,) = report(tmp_path, **options).warnings
    assert said in warning


def test_hopeless_noise_is_refused_and_bad_noise_is_not(tmp_path):
    steady = report(tmp_path, noise=0.05).steadiness
    refuse_hopeless(steady)
    refuse_hopeless(replace(steady, noise_floor=HOPELESS))
    for noise, said in ((0.2, r"noise floor is 20\.0%"), (math.nan, "unknown")):
        with pytest.raises(HopelessMeasurementError, match=f"{said}.*--force"):
            refuse_hopeless(replace(steady, noise_floor=noise))


def test_a_local_calibration_has_a_report_too():
    genes = sampled(CNN, 24)
    model = MeasuredCostModel(CNN, TARGET, genes, planted_ms(CNN, genes))
    model.timings = tuple(timing([(ms, 1.1 * ms)] * 6) for ms in model.measured_ms)
    found = report_of([model])
    assert found.steadiness.noise_floor == 0
    assert (found.cold_start, found.sustained, found.warnings) == (None, None, ())
    assert [row[0] for row in rows_of(found)][-2:] == ["threads", "batch size"]


def test_the_report_is_json_without_nan(tmp_path):
    found = report(tmp_path, change=lambda r: r.update(sustained=None))
    unknown = replace(found.steadiness, preempted=math.nan)
    text = json.dumps(replace(found, steadiness=unknown).to_json(), allow_nan=False)
    value = json.loads(text)
    assert value["steadiness"]["preempted"] is None
    assert value["sustained"] is None
    assert value["fits"][0]["quality"]["mape"] == found.fits[0].quality.mape


def test_what_is_shown_is_what_was_found(tmp_path, capsys):
    def twice(results):
        results["sittings"] *= 2

    found = report(tmp_path, slowdown=1.4, change=twice)
    rows = {name: (value, meaning) for name, value, meaning in rows_of(found)}
    assert rows["noise floor"][0] == f"{found.steadiness.noise_floor:.1%}"
    assert rows["drift"][0] in (f"{found.steadiness.drift:+.1%}", "-0.0%")
    assert rows["2 s without a pause"][0] == f"{slowdown(found.sustained):.2f}" == "1.40"
    assert rows["its temperature"] == ("48 -> 71 °C", "hottest sensor, before and after")
    assert rows["opening a file"][0] == "5 ms"
    assert rows["sittings"][1] == "2"
    show_report(found)
    shown = capsys.readouterr().out
    assert "CNNSpace" in shown
    assert "warning: run for 2 s without a pause" in shown

    def cool(results):
        results["sustained"]["after"] = {}

    rows = {name: value for name, value, _ in rows_of(report(tmp_path, change=cool))}
    assert rows["its temperature"] == "not readable"
    unknown = replace(found, steadiness=replace(found.steadiness, repeat_spearman=math.nan))
    assert {n: v for n, v, _ in rows_of(unknown)}["ranks repeat"] == "unknown"
