import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

from deployment import Quantiser, emit, open_session, quantise
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


@pytest.mark.parametrize("space", [CNN, VIT], ids=lambda s: s.name)
def test_an_open_batch_stays_open(space):
    subnet = Subnet(space.graph(space.extremes("largest")[0])).eval()
    opened = emit(subnet, None).SerializeToString()
    small = quantise(opened, mode="static", images=images(16))
    fixed = quantise(emit(subnet, 1).SerializeToString(), mode="static", images=images(16))
    x = images(5, seed=7)
    one_by_one = np.concatenate([logits(fixed, image[None]) for image in x])
    together = logits(small, x)
    np.testing.assert_allclose(together, one_by_one, atol=0.05 * one_by_one.std())
    assert (together.argmax(1) == one_by_one.argmax(1)).mean() >= 0.8


def test_what_cannot_be_quantised_is_refused():
    with pytest.raises(CorruptFileError, match="no ONNX model"):
        quantise(b"not a model")
    with pytest.raises(UnknownNameError, match="static"):
        quantise(exported(CNN), mode="half")
    with pytest.raises(BadInputError, match="takes no images"):
        quantise(exported(CNN), mode="dynamic", images=images(2))
    proto = onnx.load_from_string(exported(CNN))
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "n"
    with pytest.raises(BadInputError, match="all but the batch must be fixed"):
        quantise(proto.SerializeToString(), mode="static")
    proto = onnx.load_from_string(exported(CNN))
    proto.graph.node[0].input[0] = "nowhere"
    with pytest.raises(CorruptFileError, match="cannot quantise"):
        quantise(proto.SerializeToString(), mode="static")


# ---- mixed precision --------------------------------------------------------------------------


def quantised_nodes(model):
    """The nodes of the fp32 file that an int8 file runs in 8 bits, by the weights they read."""
    graph = onnx.load_from_string(model).graph
    small = {entry.name for entry in graph.initializer if entry.data_type == TensorProto.INT8}
    made = {out: node for node in graph.node for out in node.output}
    found = set()
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            found.add(node.name.removesuffix("_quant").removesuffix("_MatMul"))
        elif node.op_type in ("Conv", "Gemm", "MatMul"):
            source = made.get(node.input[1])
            if source is not None and source.input[0] in small:
                found.add(node.name)
    return found


def weighted(model, mode):
    return {
        node.name
        for node in onnx.load_from_string(model).graph.node
        if node.op_type in (("Conv", "Gemm") if mode == "static" else ("Gemm",))
    }


@pytest.mark.parametrize("mode", ["static", "dynamic"])
@pytest.mark.parametrize("space", [CNN, VIT], ids=lambda s: s.name)
def test_blocks_that_stay_in_fp32_are_the_named_ones(space, mode):
    model = exported(space)
    every = weighted(model, mode)
    assert quantised_nodes(quantise(model, mode=mode)) == every
    kept = {"CNNSpace": ["stage0.layer1", "stage2"], "ViTSpace": ["layer0", "layer4.mlp"]}
    mixed = quantise(model, mode=mode, fp32_blocks=kept[space.name])
    expected = {n for n in every if not n.startswith(tuple(f"{k}." for k in kept[space.name]))}
    assert quantised_nodes(mixed) == expected
    assert set(logits(mixed, images(1)).shape) == {1, 10}


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_a_file_with_all_blocks_in_fp32_is_the_file_in_fp32(mode):
    model = exported(VIT)
    quantiser = Quantiser(model, mode=mode)
    assert quantiser.file(quantiser.blocks) is model


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_files_that_share_scales_are_those_made_one_by_one(mode):
    model = exported(CNN)
    own = images(8) if mode == "static" else None
    quantiser = Quantiser(model, mode=mode, images=own)
    for blocks in ((), ("stem",), ("stage1", "classifier"), ()):
        if mode == "dynamic" and "classifier" in blocks:
            continue
        alone = quantise(model, mode=mode, images=own, fp32_blocks=blocks)
        assert quantiser.file(blocks) == alone


def test_one_block_alone_is_all_others_in_fp32():
    quantiser = Quantiser(exported(CNN), mode="static", images=images(8))
    for block in quantiser.blocks:
        others = [b for b in quantiser.blocks if b != block]
        assert quantiser.only(block) == quantiser.file(others)
    with pytest.raises(UnknownNameError, match="did you mean 'stem'"):
        quantiser.only("sten")


def test_an_unknown_block_is_refused_with_names_that_are_near():
    with pytest.raises(UnknownNameError, match=r"did you mean 'stage1.layer2'"):
        quantise(exported(CNN), mode="static", fp32_blocks=["stage1.layer"])
    quantiser = Quantiser(exported(CNN), mode="static")
    assert quantiser.present(["stage1", "stage9", "stem"]) == ("stage1", "stem")


@pytest.mark.parametrize("space", [CNN, VIT], ids=lambda s: s.name)
def test_static_files_are_those_of_onnxruntime_itself(space, tmp_path):
    """The same nodes, and the same logits but for the rounding of scales."""
    model, own = exported(space), images(8)
    proto = SymbolicShapeInference.infer_shapes(onnx.load_from_string(model))
    feeds = iter([{"images": image[None]} for image in own])

    class Reader(CalibrationDataReader):
        def get_next(self):
            return next(feeds, None)

    quantize_static(
        proto,
        tmp_path / "int8.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    theirs = (tmp_path / "int8.onnx").read_bytes()
    ours = quantise(model, mode="static", images=own)

    def nodes(data):
        return [(n.op_type, n.name) for n in onnx.load_from_string(data).graph.node]

    assert sorted(nodes(ours)) == sorted(nodes(theirs))
    x = images(1, seed=7)
    spread = logits(theirs, x).std()
    np.testing.assert_allclose(logits(ours, x), logits(theirs, x), atol=0.02 * spread)
