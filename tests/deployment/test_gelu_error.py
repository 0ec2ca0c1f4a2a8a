import numpy as np
import onnx
import pytest

from deployment import gelu_error, open_session
from deployment.emission.gelu_error import FURTHEST, LARGEST_CURVATURE, gelu_difference


def test_bound_holds_on_a_finer_grid_and_is_tight():
    x = np.linspace(-10, 10, 2_000_001)
    largest = np.abs(gelu_difference(x)).max()
    assert largest <= gelu_error() <= largest * 1.001


def test_difference_beyond_the_grid_is_nothing():
    assert np.abs(gelu_difference(np.linspace(FURTHEST, 1000, 10_000))).max() < 1e-12


def test_curvature_is_below_what_the_bound_assumes():
    x = np.linspace(-9, 9, 180_001)
    h = x[1] - x[0]
    curvature = np.diff(gelu_difference(x), 2) / h**2
    assert np.abs(curvature).max() < LARGEST_CURVATURE


@pytest.mark.parametrize(("kind", "least", "most"), [("tanh", 0.9, 1.01), ("none", 0.0, 0.01)])
def test_runtime_differs_from_the_exact_function_by_no_more(kind, least, most):
    """onnxruntime's kernel against the exact function in double precision."""
    x = np.linspace(-6, 6, 20_001).astype(np.float32)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gelu", ["x"], ["y"], approximate=kind)],
        "gelu",
        [info("x", onnx.TensorProto.FLOAT, [len(x)])],
        [info("y", onnx.TensorProto.FLOAT, [len(x)])],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10
    )
    (found,) = open_session(model.SerializeToString()).run(None, {"x": x})
    doubles = x.astype(np.float64)
    tanh = np.tanh(np.sqrt(2 / np.pi) * (doubles + 0.044715 * doubles**3))
    exact = doubles * (1 + tanh) / 2 - gelu_difference(doubles)
    assert least * gelu_error() <= np.abs(found - exact).max() <= most * gelu_error()
