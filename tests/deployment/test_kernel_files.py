from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest

from deployment import KINDS, LocalRunner
from deployment.kernel_tables.descriptions import DescribedLowering, as_descriptions
from deployment.kernel_tables.files import (
    KernelFileError,
    kernel_file,
    kernel_network,
    one_network,
    plain_graph,
)
from records import BadInputError
from search_spaces import CNNSpace, ConvStage, HybridSpace, HybridStage, ViTSpace
from search_spaces.primitives import PRIMITIVES
from tests.deployment.runtime_graph import kinds_run
from tests.latency_models.kernel_doubles import a_kernel

CNN = CNNSpace(
    image_size=16,
    stages=(
        ConvStage(
            widths=(16, 32), depths=(1, 2), se=(0, 1), activations=("relu", "hardswish", "silu")
        ),
    ),
)
VIT = ViTSpace(
    image_size=16, depths=(1, 2), windows=(0, 2), mixings=("softmax", "linear"), scaling="layer"
)
HYBRID = HybridSpace(image_size=16, stages=(HybridStage(widths=(16, 32), depths=(0, 1)),))
SPACES = {"cnn": CNN, "vit": VIT, "hybrid": HYBRID}


def kernels(space):
    return as_descriptions(DescribedLowering(space).descriptions)


def one_of_each(space):
    """For every primitive, activation and layout the first kernel with it."""
    found = {}
    for k in kernels(space):
        key = (k.kind, k.operator, k.activation, k.has_sum, k.stride, k.reads_plain, k.window)
        found.setdefault(key, k)
    return list(found.values())


@pytest.mark.parametrize("name", SPACES)
def test_every_kernel_of_a_space_runs_in_its_file(name):
    for kernel in kernels(SPACES[name]):
        network = one_network(kernel_network(kernel, 4), batch_size=1, channel_block=8)
        assert kernel in network, kernel.describe()
        once = one_network(kernel_network(kernel, 1), batch_size=1, channel_block=8)
        assert len(once) <= len(network)


@pytest.mark.parametrize("name", SPACES)
def test_onnxruntime_runs_the_kernels_that_a_file_lists(name, tmp_path):
    for kernel in one_of_each(SPACES[name]):
        for copies in (1, 3):
            file = kernel_file(kernel, copies=copies)
            assert file.copies >= 1
            layers = plain_graph(kernel_network(kernel, copies)).layers
            ran, _ = kinds_run(onnx.load_from_string(file.model), layers, tmp_path / "o.onnx")
            listed = Counter(KINDS[k.kind] for k in file.kernels)
            assert ran == listed, kernel.describe()


def test_files_are_timed_as_any_other():
    files = [kernel_file(kernel, batch_size=2) for kernel in one_of_each(CNN)[:3]]
    timings = LocalRunner().time([f.model for f in files], threads=1, rounds=1, runs=1)
    assert all(timing.latency_ms > 0 for timing in timings)


def test_more_copies_run_more_often():
    kernel = next(k for k in kernels(CNN) if k.kind_name == "depthwise" and k.stride == 1)
    assert [kernel_file(kernel, copies=n).copies for n in (1, 2, 5)] == [1, 2, 5]


def test_a_primitive_of_a_users_is_named():
    kernel = a_kernel(operator=list(PRIMITIVES).index("zeros"))
    with pytest.raises(KernelFileError, match="'zeros'"):
        kernel_file(kernel)
    with pytest.raises(KernelFileError, match="'99'"):
        kernel_file(replace(kernel, operator=99))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(KernelFileError, match="groups"):
        kernel_file(a_kernel(groups=5))


def test_fewer_than_one_copy_is_refused():
    with pytest.raises(BadInputError, match="copies"):
        kernel_file(a_kernel(), copies=0)


def test_a_network_with_choices_has_no_plain_graph():
    with pytest.raises(BadInputError, match="without choices"):
        plain_graph(CNN.nodes)


def test_weights_of_copies_differ():
    kernel = next(k for k in kernels(CNN) if k.kind_name == "depthwise" and k.stride == 1)
    graph = onnx.load_from_string(kernel_file(kernel, copies=2).model).graph
    arrays = {e.name: onnx.numpy_helper.to_array(e) for e in graph.initializer}
    first, second = arrays["kernel0.weight"], arrays["kernel1.weight"]
    assert first.shape == second.shape
    assert np.abs(first - second).max() > 0
