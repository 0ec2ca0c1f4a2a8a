import numpy as np
import onnx
import onnxruntime as ort
import pytest

from deployment import emit, open_session, session_options
from records import BadInputError, CorruptFileError
from tests.deployment.doubles import CNN, rows_of, shaken_subnet


@pytest.fixture(scope="module")
def model():
    return emit(shaken_subnet(CNN, rows_of(CNN, 0)[0])).SerializeToString()


def test_every_setting_is_explicit():
    options = session_options(3)
    assert options.intra_op_num_threads == 3
    assert options.inter_op_num_threads == 1
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("threads", [0, -2])
def test_threads_below_one_are_refused(model, threads):
    with pytest.raises(BadInputError, match=f"got {threads}"):
        open_session(model, threads)


def test_bytes_and_files_open_alike(model, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model)
    feed = {"images": np.ones((1, 3, 16, 16), np.float32)}
    answers = [open_session(source).run(None, feed)[0] for source in (model, path, str(path))]
    np.testing.assert_array_equal(answers[1], answers[0])
    np.testing.assert_array_equal(answers[2], answers[0])
    assert open_session(model).get_providers() == ["CPUExecutionProvider"]


def test_optimised_graph_is_saved(model, tmp_path):
    open_session(model, optimised_path=tmp_path / "optimised.onnx")
    before, after = onnx.load_from_string(model), onnx.load(tmp_path / "optimised.onnx")
    assert len(after.graph.node) < len(before.graph.node)
    assert "Relu" not in {node.op_type for node in after.graph.node}


@pytest.mark.parametrize("damage", [lambda m: m[: len(m) // 2], lambda m: b"", lambda m: b"\x80"])
def test_what_is_no_model_is_refused(model, damage, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(damage(model))
    with pytest.raises(CorruptFileError, match="cannot open the model"):
        open_session(damage(model))
    with pytest.raises(CorruptFileError, match=r"broken\.onnx"):
        open_session(path)
    with pytest.raises(CorruptFileError, match=r"missing\.onnx"):
        open_session(tmp_path / "missing.onnx")
