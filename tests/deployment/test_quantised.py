import numpy as np
import onnx
import pytest

from deployment import emit, open_session, quantise
from records import BadInputError, CorruptFileError, UnknownNameError
from search_spaces import CNNSpace, ViTSpace
from supernet import Subnet

CNN = CNNSpace(image_size=16)
VIT = ViTSpace(image_size=16)


def exported(space, batch=1):
    return emit(
        Subnet(space.graph(space.extremes("largest")[0])).eval(), batch
    ).SerializeToString()


def images(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3, 16, 16)).astype(np.float32)


def logits(model, x):
    session = open_session(model)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def operators(model):
    return {node.op_type for node in onnx.load_from_string(model).graph.node}


@pytest.mark.parametrize(
    ("space", "mode", "kernels"),
    [
        (CNN, "static", {"QuantizeLinear", "DequantizeLinear"}),
        (VIT, "static", {"QuantizeLinear", "DequantizeLinear"}),
        (VIT, "dynamic", {"MatMulInteger", "Attention", "DynamicQuantizeLinear"}),
        (CNN, "dynamic", {"MatMulInteger"}),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "name", ""),
)
def test_int8_file_computes_nearly_the_same(space, mode, kernels):
    model, x = exported(space), images(1, seed=7)
    own = images(16) if mode == "static" else None
    small = quantise(model, mode=mode, images=own)
    assert kernels <= operators(small)
    exact, rough = logits(model, x).ravel(), logits(small, x).ravel()
    assert exact.shape == rough.shape
    assert not np.array_equal(exact, rough)
    cosine = exact @ rough / np.linalg.norm(exact) / np.linalg.norm(rough)
    assert cosine > 0.98


def test_weights_take_less():
    def bytes_of(data):
        graph = onnx.load_from_string(data).graph
        return sum(onnx.numpy_helper.to_array(entry).nbytes for entry in graph.initializer)

    model = exported(VIT)
    assert bytes_of(quantise(model, mode="dynamic")) < 0.7 * bytes_of(model)


def test_scales_follow_the_images():
    model = exported(CNN)
    small, large = (quantise(model, mode="static", images=f * images(8)) for f in (0.1, 10.0))
    assert small != large
    assert quantise(model, mode="static", seed=1) == quantise(model, mode="static", seed=1)


def test_images_beyond_whole_batches_are_left_out():
    model = exported(CNN, batch=4)
    eight, ten = (quantise(model, mode="static", images=images(10)[:n]) for n in (8, 10))
    assert eight == ten


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (images(3), "at least 4 images"),
        (images(8)[:, :1], "got an array of shape"),
        (images(8)[0], "got an array of shape"),
        (np.where(images(8) > 2, np.nan, images(8)).astype(np.float32), "must be finite"),
    ],
)
def test_images_that_cannot_calibrate_are_refused(wrong, message):
    with pytest.raises(BadInputError, match=message):
        quantise(exported(CNN, batch=4), mode="static", images=wrong)


def test_what_cannot_be_quantised_is_refused():
    with pytest.raises(CorruptFileError, match="no ONNX model"):
        quantise(b"not a model")
    with pytest.raises(UnknownNameError, match="static"):
        quantise(exported(CNN), mode="half")
    with pytest.raises(BadInputError, match="takes no images"):
        quantise(exported(CNN), mode="dynamic", images=images(2))
    proto = onnx.load_from_string(exported(CNN))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    with pytest.raises(BadInputError, match="must be fixed"):
        quantise(proto.SerializeToString(), mode="static")
    proto = onnx.load_from_string(exported(CNN))
    proto.graph.node[0].input[0] = "nowhere"
    with pytest.raises(CorruptFileError, match="cannot quantise"):
        quantise(proto.SerializeToString(), mode="static")
