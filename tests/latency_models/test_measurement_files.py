import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from deployment import KINDS, Timing
from latency_models import MeasuredCostModel, calibrate, calibrate_together
from latency_models.calibration import CalibrationError, target_model
from latency_models.calibration_timing import ROUNDS_A_PASS
from latency_models.measured import lowered
from records import BadInputError, CorruptFileError, UnknownNameError
from tests.latency_models.doubles import CNN, TARGET, VIT, planted_ms, sampled, weighed_ms


@lru_cache
def lowering(space):
    return lowered(space, TARGET)


def saved(path, space=CNN, n=14):
    genes = sampled(space, n)
    model = MeasuredCostModel(
        space, TARGET, genes, planted_ms(space, genes), lowering=lowering(space)
    )
    model.save(path)
    return model


def put(key, place, value):
    def damage(content):
        content[key][place] = value

    return damage


def every(key, value):
    return lambda content: content.update({key: [value] * len(content[key])})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (put("latencies_ms", 3, 0), r"latencies_ms\[3\] is 0"),
        (put("latencies_ms", 4, -0.5), r"latencies_ms\[4\] is -0.5"),
        (put("latencies_ms", 5, None), r"latencies_ms\[5\] is None"),
        (put("latencies_ms", 5, True), r"latencies_ms\[5\] is True"),
        (put("latencies_ms", 6, float("nan")), "not valid JSON"),
        (put("latencies_ms", 6, float("inf")), "not valid JSON"),
        (put("genes", 2, "x"), r"genes\[2\] is 'x'"),
        (put("genes", 2, [99] * len(CNN.choices)), r"genes\[2\]: gene .* is 99"),
        (lambda c: put("genes", 9, c["genes"][1])(c), r"genes\[9\] is the same .* genes\[1\]"),
        (every("latencies_ms", 1.5), r"all 14 latencies_ms are 1.5"),
        (lambda c: c.pop("latencies_ms"), "latencies_ms must be a list"),
        (lambda c: c["latencies_ms"].pop(), "genes has 14 rows and latencies_ms 13"),
        (lambda c: c.update(quantisation="half"), "quantisation is 'half'"),
        (lambda c: c.update(others=[1]), "others must be a list of objects"),
    ],
)
def test_bad_row_is_named(tmp_path, damage, message):
    path = tmp_path / "costs.json"
    saved(path)
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CorruptFileError, match=message):
        MeasuredCostModel.load(path, CNN, TARGET)


def test_too_few_networks_are_refused(tmp_path):
    path = tmp_path / "costs.json"
    saved(path)
    content = json.loads(path.read_text())
    content["genes"], content["latencies_ms"] = content["genes"][:4], content["latencies_ms"][:4]
    path.write_text(json.dumps(content))
    with pytest.raises(CorruptFileError, match="has 4 networks, a fit needs at least 10"):
        MeasuredCostModel.load(path, CNN, TARGET)


def test_network_that_was_timed_twice_is_written_once_with_the_mean(tmp_path):
    path = tmp_path / "costs.json"
    model = saved(path)
    twice = model.refitted(model.genes[3:4], 3 * model.measured_ms[3:4])
    twice.save(path)
    loaded = MeasuredCostModel.load(path, CNN, TARGET)
    np.testing.assert_array_equal(loaded.genes, model.genes)
    expected = model.measured_ms.copy()
    expected[3] *= 2
    np.testing.assert_allclose(loaded.measured_ms, expected)


def test_other_spaces_come_back_or_are_left_out_with_a_warning(tmp_path, caplog):
    path = tmp_path / "costs.json"
    cnn, vit = calibrate_together([CNN, VIT], TARGET, networks=24, runner=Noisy())
    cnn.save(path)
    loaded = MeasuredCostModel.load(path, CNN, TARGET, others=[VIT])
    genes = CNN.sample(20, np.random.default_rng(0))
    np.testing.assert_array_equal(loaded.latency_ms(genes), cnn.latency_ms(genes))
    alone = MeasuredCostModel.load(path, CNN, TARGET)
    assert "12 networks of other spaces are left out" in caplog.text
    assert not alone.others
    np.testing.assert_array_equal(vit.others[0].genes, cnn.genes)


# ---- interrupted calibrations ----------------------------------------------------------------


class Noisy:
    """Latencies by weights with noise from the seed; fails in the call that it is told to."""

    name = "noisy"

    def __init__(self, fail_at=None):
        self.calls = 0
        self.fail_at = fail_at

    def time(self, models, *, threads, rounds=7, runs=3, min_seconds=0.0, seed=0, on_round=None):
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        rng = np.random.default_rng(seed)
        return [
            Timing(
                samples_ms=tuple(weighed_ms(m) * (1 + 0.1 * rng.uniform(0, 1, rounds))),
                rounds=rounds,
                preempted=float("nan"),
            )
            for m in models
        ]


def calibrated(path, runner, **kwargs):
    return calibrate(CNN, TARGET, networks=12, runner=runner, seed=3, path=path, **kwargs)


def test_interrupted_calibration_goes_on_where_it_was(tmp_path):
    whole = calibrated(tmp_path / "whole.json", Noisy())
    path, broken = tmp_path / "broken.json", Noisy(fail_at=4)
    with pytest.raises(KeyboardInterrupt):
        calibrated(path, broken)
    kept = json.loads(path.read_text())
    assert [p["rounds"] for p in kept["passes"]] == [ROUNDS_A_PASS] * 2
    second = Noisy()
    resumed = calibrated(path, second)
    assert second.calls == 3  # of five passes
    assert path.read_text() == (tmp_path / "whole.json").read_text()
    np.testing.assert_array_equal(resumed.measured_ms, whole.measured_ms)
    np.testing.assert_array_equal(resumed.kernel_ms, whole.kernel_ms)
    assert [t.samples_ms for t in resumed.timings] == [t.samples_ms for t in whole.timings]


def test_finished_calibration_is_only_read(tmp_path):
    path = tmp_path / "c.json"
    first = calibrated(path, Noisy())
    idle = Noisy()
    again = calibrated(path, idle)
    assert idle.calls == 0
    np.testing.assert_array_equal(again.measured_ms, first.measured_ms)


def test_progress_counts_rounds(tmp_path):
    seen = []
    calibrated(tmp_path / "c.json", Noisy(), on_progress=lambda *step: seen.append(step))
    timing = [step for step in seen if step[0] == "timing"]
    assert [done for _, done, _ in timing] == [5, 10, 15, 20, 25]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.update(seed=4), "its seed is 4, here it is 3"),
        (lambda c: c.update(target="other"), "its target is 'other'"),
        (lambda c: c.update(spaces=["x"]), "its spaces is"),
        (lambda c: c.update(rounds=0), "rounds is 0"),
        (lambda c: c.update(networks={}), "networks is {}, not a list"),
        (lambda c: put("networks", 2, {"space": 7, "genes": []})(c), r"networks\[2\]"),
        (lambda c: put("networks", 2, c["networks"][0])(c), r"networks\[2\] is the same"),
        (lambda c: c["passes"][1].update(rounds="5"), r"passes\[1\].rounds is '5'"),
        (lambda c: c["passes"][1]["samples_ms"].pop(), r"passes\[1\] has samples of 11"),
        (lambda c: c["passes"][1]["samples_ms"].__setitem__(2, []), r"samples_ms\[2\] holds no"),
        (
            lambda c: c["passes"][0]["samples_ms"][2].__setitem__(1, 0),
            r"samples_ms\[2\]\[1\]",
        ),
    ],
)
def test_bad_calibration_file_is_refused_with_the_field(tmp_path, damage, message):
    path = tmp_path / "c.json"
    calibrated(path, Noisy())
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CorruptFileError, match=message):
        calibrated(path, Noisy())


def test_spaces_share_the_networks_and_the_fit():
    cnn, vit = calibrate_together([CNN, VIT], TARGET, networks=25, runner=Noisy(), seed=1)
    assert (len(cnn.genes), len(vit.genes)) == (13, 12)
    assert cnn.fit.networks == vit.fit.networks == 25
    assert len(cnn.timings) == 13
    genes = VIT.sample(50, np.random.default_rng(0))
    np.testing.assert_allclose(cnn.in_space(VIT).latency_ms(genes), vit.latency_ms(genes))
    with pytest.raises(BadInputError, match="several different ones"):
        calibrate_together([CNN, CNN], TARGET, runner=Noisy())
    with pytest.raises(BadInputError, match="one space"):
        calibrate_together([], TARGET, runner=Noisy())


# ---- int8 --------------------------------------------------------------------------------------

INT8 = replace(TARGET, precision="int8")


def test_int8_target_times_int8_files():
    class Keeping(Noisy):
        def time(self, models, **kwargs):
            self.models = list(models)
            return super().time(models, **kwargs)

    runner = Keeping()
    model = calibrate(VIT, INT8, networks=10, runner=runner, quantisation="dynamic")
    assert runner.models == [target_model(VIT, row, INT8) for row in model.genes]
    assert runner.models[-1] != target_model(VIT, model.genes[-1], TARGET)
    assert "dynamic int8" in model.latency_source
    with pytest.raises(UnknownNameError, match="dynamic"):
        calibrate(VIT, INT8, networks=10, runner=runner, quantisation="half")


def test_memory_of_int8_is_that_of_what_runs(tmp_path):
    genes = sampled(VIT, 12)
    latencies = planted_ms(VIT, genes)
    table = lowering(VIT).table(genes)
    weights, kind = table.column("weight_elements"), table.column("kind")
    products = kind == KINDS.index("gemm")
    models = {
        how: MeasuredCostModel(VIT, INT8, genes, latencies, quantisation=how)
        for how in ("dynamic", "static")
    }
    expected = (weights * np.where(products, 1, 4)).sum(axis=1)
    np.testing.assert_array_equal(models["dynamic"].weight_bytes[table.codes].sum(0), expected)
    np.testing.assert_array_equal(
        models["static"].weight_bytes[table.codes].sum(axis=0), weights.sum(axis=1)
    )
    assert models["dynamic"].activation_bytes == 4
    assert models["static"].activation_bytes == 4  # what onnxruntime keeps between kernels
    models["static"].save(tmp_path / "c.json")
    assert MeasuredCostModel.load(tmp_path / "c.json", VIT, INT8).quantisation == "static"


def test_this_machine_is_timed_in_what_onnxruntime_runs():
    from hardware_profiles import Quantity, machine_fingerprint

    peak = {**TARGET.profile.peak_gflops, "fp16": Quantity(value=1.0, source="made up")}
    here = replace(TARGET.profile, machine=machine_fingerprint(), peak_gflops=peak, runtimes={})
    for change in ({"precision": "fp16"}, {"runtime": "tflite"}):
        with pytest.raises(CalibrationError, match="pass a runner of your own"):
            calibrate(CNN, replace(TARGET, profile=here, **change))


def test_other_runtime_is_named_in_the_source():
    other = replace(TARGET, profile=replace(TARGET.profile, runtimes={}), runtime="tflite")
    model = calibrate(CNN, other, networks=10, runner=Noisy())
    assert "kernels as onnxruntime fuses them, which tflite may do otherwise" in (
        model.latency_source
    )
