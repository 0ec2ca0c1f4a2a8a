import sys
from types import SimpleNamespace

import numpy as np
import pytest

from deployment.emission.emit import emit
from deployment.runtimes import (
    OpenVino,
    RuntimeRefusalError,
    agreement_with_torch,
    openvino_check,
    runtime,
    time_beside,
)
from deployment.runtimes.openvino_runtimes import (
    FORMS,
    OpenVinoNetwork,
    check_compiles,
    openvino_file,
    read_model,
)
from records import BadInputError
from tests.deployment.doubles import CNN, HYBRID, VIT, rows_of, shaken_subnet

HAS_NNCF = runtime("openvino-int8").is_installed
pytestmark = pytest.mark.skipif(not HAS_NNCF, reason=f"no {runtime('openvino-int8').missing()}")


def network(space):
    return shaken_subnet(space, rows_of(space, 4)[-1])


@pytest.fixture(scope="module")
def vit():
    return network(VIT)


def test_it_computes_in_fp32_on_the_threads_that_it_is_told(vit):
    for threads in (1, 2):
        compiled = runtime("openvino").open(vit, threads=threads).compiled
        assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
        assert compiled.get_property("NUM_STREAMS") == 1
        assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


def test_it_reads_packed_attention(vit):
    model = emit(vit, 1, forms=FORMS)
    assert "Attention" in {node.op_type for node in model.graph.node}
    opened = OpenVinoNetwork("packed", read_model(openvino_file(vit, 1)), 1)
    assert agreement_with_torch(opened, vit).is_within


def test_what_would_end_the_process_is_refused_or_computes_the_network():
    """In version 2026.4 it ends on tokens that are a matrix and become a map."""
    hybrid = network(HYBRID)
    as_matrix = OpenVino(lambda subnet, n: emit(subnet, n).SerializeToString())
    refusal = ""
    try:
        opened = as_matrix.open(hybrid)
    except RuntimeRefusalError as error:
        refusal = str(error)
    if refusal:
        assert "ends the process that compiles this network (signal" in refusal
    else:
        assert agreement_with_torch(opened, hybrid).is_within


@pytest.mark.parametrize(
    ("code", "stderr", "message"),
    [
        (-11, "", r"ends the process that compiles this network \(signal 11\)"),
        (1, "Traceback\nRuntimeError: no kernel\n", "cannot compile this network: .*no kernel"),
        (1, "", "no reason given"),
    ],
    ids=["signal", "error", "silent"],
)
def test_a_process_that_fails_is_a_refusal(vit, monkeypatch, code, stderr, message):
    tried = []

    def run(command, **options):
        tried.append(command)
        return SimpleNamespace(returncode=code, stderr=stderr)

    monkeypatch.setattr("deployment.runtimes.openvino_runtimes.subprocess.run", run)
    with pytest.raises(RuntimeRefusalError, match=message):
        runtime("openvino").open(vit)
    assert tried[0][:2] == [sys.executable, openvino_check.__file__]
    (row,) = time_beside(vit, ["openvino"])
    assert row.status.startswith("refused: ")


def test_a_model_that_compiles_passes(vit):
    check_compiles(read_model(openvino_file(vit, 1)))


def test_int8_computes_most_convolutions_in_8_bits():
    cnn = network(CNN)

    def precisions(opened):
        layers = [op.get_rt_info() for op in opened.compiled.get_runtime_model().get_ops()]
        return [
            layer["runtimePrecision"].astype(str)
            for layer in layers
            if layer["layerType"].astype(str) == "Convolution"
        ]

    int8, fp32 = runtime("openvino-int8").open(cnn), runtime("openvino").open(cnn)
    found = precisions(int8)
    assert sum(one in ("u8", "i8") for one in found) > len(found) / 2
    assert set(precisions(fp32)) == {"f32"}
    assert agreement_with_torch(int8, cnn, tolerance=None).relative_error > 1e-4


@pytest.mark.parametrize("name", ["openvino-int8", "openvino-qdq"])
def test_bad_calibration_images_are_refused(vit, name):
    with pytest.raises(BadInputError, match="calibration needs at least 2 images"):
        runtime(name).open(vit, 2, calibration=np.zeros((1, 3, 16, 16), np.float32))
