"""Several files with one file of weights: what is shared, and that nothing else changes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deployment import emit, open_session
from deployment.emission.forms import Forms
from deployment.families.shared_weights import ALIGNMENT, WeightFile, is_corner, share_weights
from search_spaces import CNNSpace, ConvStage, ViTSpace
from tests.deployment.doubles import SPACES, rows_of
from tests.supernet.doubles import images_of, perturbed


def members_of(space, n=3, seed=0):
    """Subnets of one supernet, each with statistics of its own."""
    supernet = perturbed(space, seed)
    batches = [images_of(space, 32)]
    rows = [*rows_of(space, n)[-n:], space.extremes("smallest")[0], space.extremes("largest")[0]]
    return [supernet.extract(row, supernet.recalibrate(row, batches)) for row in rows]


def constant_bytes(models):
    return sum(numpy_helper.to_array(e).nbytes for m in models for e in m.graph.initializer)


def written(models, folder):
    shared, weights = share_weights(models, "weights.bin")
    (folder / "weights.bin").write_bytes(weights.data())
    paths = []
    for place, model in enumerate(shared):
        paths.append(folder / f"{place}.onnx")
        onnx.save(model, paths[-1])
    return paths, weights


@pytest.mark.parametrize("name", ["cnn", "vit", "hybrid"])
def test_files_with_shared_weights_compute_the_same_to_the_bit(name, tmp_path):
    space = SPACES[name]
    subnets = members_of(space)
    models = [emit(subnet, 2, forms=Forms(norms="kept")) for subnet in subnets]
    before = [model.SerializeToString() for model in models]
    paths, weights = written(models, tmp_path)
    images = images_of(space, 2, seed=3).numpy()
    for model, path, data in zip(models, paths, before, strict=True):
        assert model.SerializeToString() == data  # what was given stays as it is
        onnx.checker.check_model(str(path), full_check=False)
        ours = open_session(data).run(None, {"images": images})[0]
        theirs = open_session(path).run(None, {"images": images})[0]
        np.testing.assert_array_equal(ours, theirs)
    largest = max(constant_bytes([model]) for model in models)
    assert 0.9 * largest < weights.size < min(1.1 * largest, 0.8 * constant_bytes(models))


def test_networks_with_equal_kernels_store_no_more_kernels_than_the_widest():
    """Channels and depth alone make corners of the largest network's weights."""
    stages = (
        ConvStage(depths=(1, 2), widths=(16, 24), kernels=(5,)),
        ConvStage(depths=(1, 2, 3), widths=(24, 40), kernels=(3,), stride=2),
    )
    space = CNNSpace(image_size=16, stages=stages)
    models = [emit(s, 1, forms=Forms(norms="kept")) for s in members_of(space, 4)]
    _, weights = share_weights(models, "weights.bin")
    stored = sum(part.array.nbytes for part in weights.parts if part.array.ndim == 4)
    widest = [numpy_helper.to_array(e) for e in models[-1].graph.initializer]
    assert stored == sum(w.nbytes for w in widest if w.ndim == 4 and w.nbytes >= 256)
    assert stored < sum(
        w.nbytes for m in models for w in map(numpy_helper.to_array, m.graph.initializer)
        if w.ndim == 4
    ) / 2  # fmt: skip


def test_heads_of_attention_are_shared():
    """Networks that differ in heads alone store the weights of the one with most."""
    space = ViTSpace(image_size=16, depths=(2,), embed_dims=(48,), mlp_ratios=(2,),
                     patch_sizes=(4,), heads=(2, 4))  # fmt: skip
    subnets = members_of(space, 3)
    models = [emit(s, 1) for s in subnets]
    shared, weights = share_weights(models, "weights.bin")
    most = max(constant_bytes([model]) for model in models)
    assert weights.size < 1.05 * most
    operators = [node.op_type for model in shared for node in model.graph.node]
    assert "Concat" in operators
    same, _ = share_weights([models[0], models[0]], "weights.bin")
    assert "Concat" not in [node.op_type for node in same[0].graph.node]


def test_a_corner_is_found_by_its_values():
    whole = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    assert is_corner(whole[:2, :2], whole)
    assert is_corner(whole, whole)
    assert not is_corner(whole[1:3], whole)
    assert not is_corner(whole[:2, :2] + 1, whole)
    assert not is_corner(whole, whole[:2])
    assert not is_corner(whole[0], whole)
    assert not is_corner(whole.astype(np.float64), whole)


def test_bytes_are_stored_once():
    file = WeightFile()
    whole = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
    first = file.place("a", whole)
    assert file.place("a", whole[:4]) is first
    assert file.place("a", whole[:, :5]) is first
    assert file.place("another name", whole.copy()) is first  # by content
    second = file.place("b", whole[:4, :7] * 2)
    assert second.offset % ALIGNMENT == 0
    assert file.size == len(file.data()) == second.offset + 2 * ALIGNMENT  # 112 bytes
    assert file.data()[: whole.nbytes] == whole.tobytes()
    assert file.data()[second.offset :][: second.array.nbytes] == second.array.tobytes()


def test_first_rows_refer_to_the_same_bytes_and_corners_are_cut(tmp_path):
    whole = np.random.default_rng(1).standard_normal((16, 16)).astype(np.float32)

    def model(weight):
        size = weight.shape
        return helper.make_model(
            helper.make_graph(
                [helper.make_node("MatMul", ["images", "w"], ["logits"], name="product")],
                "product",
                [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, size[0]])],
                [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, size[1]])],
                [numpy_helper.from_array(np.ascontiguousarray(weight), "w")],
            ),
            ir_version=10,
            opset_imports=[helper.make_opsetid("", 20)],
        )

    models = [model(whole), model(whole[:9]), model(whole[:9, :8])]
    paths, weights = written(models, tmp_path)
    assert weights.size == whole.nbytes
    shared, _ = share_weights(models, "weights.bin")
    assert [n.op_type for n in shared[1].graph.node] == ["MatMul"]
    assert [n.op_type for n in shared[2].graph.node] == ["Slice", "MatMul"]
    for weight, path in zip((whole, whole[:9], whole[:9, :8]), paths, strict=True):
        x = np.ones((1, weight.shape[0]), np.float32)
        found = open_session(path).run(None, {"images": x})[0]
        np.testing.assert_allclose(found, x @ weight, rtol=1e-5)


def test_small_constants_stay_in_the_file():
    space = SPACES["vit"]
    model = emit(members_of(space, 1)[0], 1)
    (shared,), _ = share_weights([model], "weights.bin")
    inside = [e for e in shared.graph.initializer if e.data_location != TensorProto.EXTERNAL]
    assert inside
    assert all(numpy_helper.to_array(e).nbytes < 256 for e in inside)
