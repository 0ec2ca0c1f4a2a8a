from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from deployment import emit, open_session, session_options
from deployment.providers import PROVIDERS, Provider, ProviderError
from deployment.runtime import operators_left, random_input
from deployment.session_settings import OPTIMISATION, SessionSettings
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


def test_settings_reach_the_options():
    settings = SessionSettings(
        optimisation="basic", threads=2, spinning=True, arena=False, memory_pattern=False
    )
    options = session_options(3, settings)
    assert options.intra_op_num_threads == 2
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern
    assert session_options(3, SessionSettings()).intra_op_num_threads == 3


@pytest.mark.parametrize(
    "settings",
    [SessionSettings(optimisation=level) for level in OPTIMISATION]
    + [
        SessionSettings(spinning=True),
        SessionSettings(threads=2),
        SessionSettings(arena=False),
        SessionSettings(memory_pattern=False),
    ],
    ids=lambda settings: (
        "-".join(
            f"{k}={v}"
            for k, v in settings.to_json().items()
            if v != SessionSettings().to_json()[k]
        )
        or "all"
    ),
)
def test_settings_change_no_answer(model, settings):
    feed = {"images": np.random.default_rng(0).standard_normal((1, 3, 16, 16), np.float32)}
    (usual,) = open_session(model).run(None, feed)
    (ours,) = open_session(model, 1, settings).run(None, feed)
    np.testing.assert_allclose(ours, usual, atol=1e-5 * np.abs(usual).max())


def test_levels_of_optimisation_leave_other_graphs(model, tmp_path):
    nodes = {}
    for level in ("disabled", "basic", "all"):
        path = tmp_path / f"{level}.onnx"
        open_session(model, settings=SessionSettings(optimisation=level), optimised_path=path)
        nodes[level] = len(onnx.load(path).graph.node)
    assert nodes["disabled"] >= nodes["basic"] > nodes["all"]


def test_a_provider_that_is_not_here_is_refused_by_name(model):
    absent = next(one.name for one in PROVIDERS.values() if not one.is_present)
    with pytest.raises(ProviderError, match=f"no provider '{absent}'.*it has: .*cpu"):
        open_session(model, settings=SessionSettings(provider=absent))


@pytest.fixture
def takes_nothing(monkeypatch):
    """A provider of the installed onnxruntime that takes none of our operators."""
    runtime_name = "AzureExecutionProvider"
    if runtime_name not in ort.get_available_providers():
        pytest.skip("this onnxruntime has no provider beside the processor's")
    one = Provider(name="azure", runtime_name=runtime_name, package="onnxruntime", ways=("fp32",))
    monkeypatch.setitem(PROVIDERS, "azure", one)
    return SessionSettings(provider="azure")


def test_operators_that_a_provider_refuses_are_named(model, takes_nothing):
    with pytest.raises(ProviderError, match=r"'azure' refuses operators of the model: .*Conv \("):
        open_session(model, settings=takes_nothing)
    left = operators_left(model, takes_nothing)
    assert left["Gemm"] == 1
    assert sum(left.values()) > 5


def test_a_broken_file_is_no_refusal_of_the_provider(model, takes_nothing):
    with pytest.raises(CorruptFileError, match="with provider 'azure'"):
        open_session(model[:100], settings=takes_nothing)


def test_a_provider_that_does_not_start_is_said(model, monkeypatch):
    class Fallen:
        def get_providers(self):
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: Fallen())
    monkeypatch.setattr(
        ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(ProviderError, match="'cuda' does not start here"):
        open_session(model, settings=SessionSettings(provider="cuda"))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("tensor(float)", np.float32), ("tensor(float16)", np.float16), ("tensor(uint8)", np.uint8)],
)
def test_inputs_are_of_the_type_that_the_file_takes(kind, dtype):
    entry = SimpleNamespace(type=kind, shape=[2, 8, 8, 3], name="images")
    values = random_input(entry, np.random.default_rng(0))
    assert values.dtype == dtype
    assert values.shape == (2, 8, 8, 3)
    assert values.max() > (200 if dtype is np.uint8 else 1)


def test_other_inputs_cannot_be_timed():
    with pytest.raises(BadInputError, match=r"got tensor\(int64\)"):
        random_input(SimpleNamespace(type="tensor(int64)", shape=[1]), np.random.default_rng(0))


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
