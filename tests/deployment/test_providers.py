import onnxruntime as ort
import pytest

from deployment.numerics import WAYS
from deployment.providers import (
    FALLS_BACK,
    PROVIDERS,
    ProviderError,
    check_provider,
    must_take_all,
    present_providers,
    provider,
    provider_record,
    session_providers,
)
from records import BadInputError, UnknownNameError

NAMES = ("cpu", "cuda", "tensorrt", "coreml", "nnapi", "qnn", "xnnpack", "openvino")


def test_all_that_are_promised_are_there_under_names_that_onnxruntime_knows():
    assert tuple(PROVIDERS) == NAMES
    known = ort.get_all_providers()
    assert {one.runtime_name for one in PROVIDERS.values()} <= set(known)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_options_that_the_provider_has(name):
    one = provider(name)
    one.check_options(one.defaults)
    assert "fp32" in one.ways
    assert set(one.ways) <= set(WAYS)


def test_the_processor_is_always_present():
    assert "cpu" in present_providers()
    assert check_provider("cpu").runtime_name == "CPUExecutionProvider"


def test_a_provider_that_is_not_installed_is_named_with_those_that_are(monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match=r"'qnn'.*it has: cpu\. .*onnxruntime-qnn"):
        check_provider("qnn")
    with pytest.raises(UnknownNameError, match="did you mean 'cuda'"):
        check_provider("cude")


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'use_tf32'"):
        provider("cuda").check_options({"use_tf3": "1"})
    with pytest.raises(BadInputError, match="one of 0, 1, got '2'"):
        provider("cuda").check_options({"use_tf32": "2"})
    with pytest.raises(BadInputError, match="must be text, got 0"):
        provider("cuda").check_options({"device_id": 0})
    with pytest.raises(UnknownNameError):
        provider("cpu").check_options({"device_id": "0"})


def test_a_session_gets_the_defaults_and_what_takes_the_rest():
    (cpu,) = session_providers("cpu", {})
    assert cpu == ("CPUExecutionProvider", {})
    (cuda,) = session_providers("cuda", {"device_id": "1"})
    assert cuda[0] == "CUDAExecutionProvider"
    assert cuda[1]["device_id"] == "1"
    assert cuda[1]["use_tf32"] == "0"  # fp32 stays fp32 unless asked
    first, second = session_providers("tensorrt", {})
    assert (first[0], second[0]) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert [name for name, _ in session_providers("xnnpack", {})] == ["XnnpackExecutionProvider"]
    assert session_providers("nnapi", {"NNAPI_FLAG_USE_FP16": "1"}) == [
        ("NnapiExecutionProvider", {})
    ]


def test_who_must_take_a_whole_file():
    assert {name for name in NAMES if not must_take_all(name)} == {"cpu", "xnnpack", "nnapi"}
    assert set(FALLS_BACK) <= set(NAMES)


def test_providers_with_threads_of_their_own_get_those_of_the_target():
    assert session_providers("openvino", {}, 4)[0][1] == {
        "device_type": "CPU", "load_config": '{"CPU": {"INFERENCE_NUM_THREADS": "4"}}',
    }  # fmt: skip
    assert session_providers("openvino", {"load_config": "{}"}, 4)[0][1]["load_config"] == "{}"
    assert "load_config" not in session_providers("openvino", {"device_type": "GPU"}, 4)[0][1]
    assert session_providers("xnnpack", {}, 3)[0][1] == {"intra_op_num_threads": "3"}


def test_the_record_says_whether_anything_was_run():
    record = provider_record("coreml", {"MLComputeUnits": "CPUOnly"}, was_run=False)
    assert record["state"] == "never run"
    assert record["options"]["MLComputeUnits"] == "CPUOnly"
    assert record["options"]["ModelFormat"] == "MLProgram"
    assert record["runtime_name"] == "CoreMLExecutionProvider"
    assert provider_record("cpu", {}, was_run=True)["state"] == "run"
