"""Ranges of tensors: those of onnxruntime's own calibration, with as many threads as told."""

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

from deployment import emit
from deployment.quantisation import tensor_ranges as module
from deployment.quantisation.quantised import OPERATORS, Quantiser
from deployment.quantisation.tensor_ranges import tensor_ranges
from tests.deployment.doubles import SPACES, rows_of, shaken_subnet


class Reader(CalibrationDataReader):
    def __init__(self, batches):
        self.feeds = iter([{"images": batch} for batch in batches])

    def get_next(self):
        return next(self.feeds, None)


def theirs(model, batches, folder):
    """The ranges by onnxruntime's calibrator."""
    onnx.save(model, folder / "model.onnx")
    calibrator = create_calibrator(
        folder / "model.onnx",
        list(OPERATORS["static"]),
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=CalibrationMethod.MinMax,
    )
    calibrator.collect_data(Reader(batches))
    return {name: data.range_value for name, data in calibrator.compute_data().items()}


@pytest.mark.parametrize("name", ["cnn", "vit", "hybrid"])
def test_they_are_those_of_onnxruntime(name, tmp_path):
    space = SPACES[name]
    subnet = shaken_subnet(space, rows_of(space, 1)[-1])
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((4, 3, 16, 16)).astype(np.float32) for _ in range(3)]
    model = Quantiser(emit(subnet, 4).SerializeToString(), mode="static")._typed
    ours = tensor_ranges(model, batches, operators=OPERATORS["static"])
    expected = theirs(model, batches, tmp_path)
    assert set(ours) == set(expected)
    for tensor, (low, high) in ours.items():
        scale = max(abs(low), abs(high))
        assert low == pytest.approx(float(expected[tensor][0].item()), abs=1e-5 * scale)
        assert high == pytest.approx(float(expected[tensor][1].item()), abs=1e-5 * scale)


def test_the_session_has_as_many_threads_as_told(monkeypatch):
    seen = []

    def opened(model, threads):
        seen.append(threads)
        return module_open(model, threads)

    module_open = module.open_session
    monkeypatch.setattr(module, "open_session", opened)
    subnet = shaken_subnet(SPACES["cnn"], rows_of(SPACES["cnn"], 1)[-1])
    Quantiser(emit(subnet).SerializeToString(), mode="static", threads=3).file()
    assert seen == [3]


def test_a_batch_beyond_the_others_sets_the_range():
    subnet = shaken_subnet(SPACES["cnn"], rows_of(SPACES["cnn"], 1)[-1])
    small = torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(0)).numpy()
    model = Quantiser(emit(subnet, 2).SerializeToString(), mode="static")._typed
    ranges = tensor_ranges(model, [small, 5 * small, small], operators=["Conv"])
    assert ranges["images"] == (5 * small.min(), 5 * small.max())
