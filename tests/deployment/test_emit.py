from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch

from deployment import emit, exporter_of, open_session, verify
from deployment.emission.folding import foldable
from records import BadInputError
from search_spaces import SearchSpace
from search_spaces.blocks import classifier
from supernet import Subnet
from tests.deployment.doubles import GATED, HYBRID, ODD, SPACES, VIT, ZOO, rows_of, shaken_subnet
from tests.deployment.runtime_graph import optimised

ALL = {**SPACES, "odd": ODD, "gated": GATED, "zoo": ZOO}


def operators(model):
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_file_computes_what_torch_computes(name, batch_size):
    space = ALL[name]
    shape = (batch_size, space.channels, space.image_size, space.image_size)
    images = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    for seed, row in enumerate(rows_of(space, 5, seed=batch_size)):
        subnet = shaken_subnet(space, row, seed)
        session = open_session(emit(subnet, batch_size).SerializeToString())
        for batch in (images, 0 * images, 100 * images):
            with torch.no_grad():
                ours = subnet(torch.from_numpy(batch)).numpy()
            theirs = session.run(["logits"], {"images": batch})[0]
            assert np.isfinite(ours).all()
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5 * np.abs(ours).max())


@pytest.mark.parametrize("name", ALL)
def test_images_of_a_batch_do_not_mix(name):
    space = ALL[name]
    subnet = shaken_subnet(space, rows_of(space, 1, seed=4)[-1])
    shape = (3, space.channels, space.image_size, space.image_size)
    images = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    together = open_session(emit(subnet, 3).SerializeToString()).run(None, {"images": images})[0]
    one = open_session(emit(subnet, 1).SerializeToString())
    apart = np.concatenate([one.run(None, {"images": image[None]})[0] for image in images])
    assert np.ptp(apart, axis=0).max() > 0
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-5 * np.abs(apart).max())


@pytest.mark.parametrize("name", ALL)
def test_graph_is_valid_and_named(name):
    space = ALL[name]
    for row in rows_of(space, 3):
        subnet = shaken_subnet(space, row)
        model = emit(subnet, 2, name="net")
        pure = {entry.domain for entry in model.opset_import} == {""}
        assert pure == ("Attention" not in operators(model))
        onnx.checker.check_model(model, full_check=pure)
        session = open_session(model.SerializeToString())
        (images,), (logits,) = session.get_inputs(), session.get_outputs()
        size = space.image_size
        assert (images.name, images.type) == ("images", "tensor(float)")
        assert images.shape == [2, space.channels, size, size]
        assert (logits.name, logits.shape) == ("logits", [2, space.num_classes])
        assert model.graph.name == "net"
        names = [entry.name for entry in model.graph.initializer]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", SPACES)
def test_batch_norms_are_folded(name):
    space = SPACES[name]
    for row in rows_of(space, 3):
        subnet = shaken_subnet(space, row)
        norms = [layer for layer in subnet.graph.layers if layer.operator == "batch_norm"]
        assert sum(map(len, foldable(subnet.graph.layers).values())) == len(norms)
        assert "BatchNormalization" not in operators(emit(subnet))


def test_norms_that_cannot_be_folded_stay():
    subnet = shaken_subnet(ODD, [0])
    names = [layer.name for layer in subnet.graph.layers]
    folded = foldable(subnet.graph.layers)
    assert {names[a]: [names[i] for i in b] for a, b in folded.items()} == {
        "stem.conv": ["stem.norm"]
    }
    assert operators(emit(subnet)).count("BatchNormalization") == 2


def test_linear_maps_are_single_kernels():
    """The forms that run fastest: no MatMul + Add, no unpacked attention."""
    for row in rows_of(VIT, 3):
        subnet = shaken_subnet(VIT, row)
        found = operators(emit(subnet))
        declared = [layer.operator for layer in subnet.graph.layers]
        assert found.count("Gemm") == declared.count("linear")
        assert found.count("Attention") == declared.count("attention")
        assert not {"MatMul", "Softmax"} & set(found)


def test_emission_repeats_and_leaves_the_subnet_alone():
    subnet = shaken_subnet(HYBRID, rows_of(HYBRID, 1)[-1])
    before = {name: value.clone() for name, value in subnet.state_dict().items()}
    first, second = (emit(subnet, 2).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    for name, value in subnet.state_dict().items():
        assert torch.equal(value, before[name])


def test_subnet_in_training_mode_is_refused():
    subnet = shaken_subnet(HYBRID, rows_of(HYBRID, 0)[0])
    with pytest.raises(BadInputError, match=r"subnet\.eval\(\)"):
        emit(subnet.train())


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_below_one_is_refused(batch_size):
    subnet = shaken_subnet(HYBRID, rows_of(HYBRID, 0)[0])
    with pytest.raises(BadInputError, match=f"got {batch_size}"):
        emit(subnet, batch_size)


# ---- the forms that run fastest ----------------------------------------------------------------


def one_network(body, **fields):
    """The network of `body(net, images)` and a classifier, with weights that are no identity."""

    @dataclass(frozen=True, kw_only=True)
    class Body(SearchSpace):
        image_size: int = 8

        def build(self, net, images):
            net.choice("threads", (1, 2), scope="platform")
            return classifier(net, body(net, images), self.num_classes)

    space = Body(**fields)
    return shaken_subnet(space, [0])


def test_gates_keep_the_layout_of_convolutions(tmp_path):
    row = GATED.extremes("largest")[-1]
    subnet = Subnet(GATED.graph(row)).eval()
    gates = [layer for layer in subnet.graph.layers if layer.operator == "multiply"]
    assert len(gates) == 6
    graph = optimised(emit(subnet), tmp_path / "net.onnx")
    found = [node.op_type for node in graph.node]
    assert found.count("Upsample") == 6
    assert "ReorderInput" not in found
    assert found.count("ReorderOutput") == 1  # behind the last pooling


def test_gates_of_narrow_maps_are_plain_products():
    def body(net, images):
        x = net.conv2d(images, 6, kernel=3, name="stem")
        gate = net.activation(net.conv2d(net.squeeze(x), 6, kernel=1), "sigmoid")
        return net.multiply(x, gate)

    subnet = one_network(body)
    model = emit(subnet)
    assert "Resize" not in operators(model)
    assert verify(subnet, model).is_within


def test_learned_factors_are_folded_into_what_only_they_read():
    def body(net, images):
        x = net.scale(net.batch_norm(net.conv2d(images, 16, kernel=3)), name="one")
        t = net.scale(net.linear(net.to_tokens(x), 24, name="wide"), name="two")
        t = net.add(t, net.scale(t, name="three"))  # read twice: stays
        return net.to_map(
            net.scale(net.layer_norm(t, name="last"), name="four")
        )  # no weights before it: stays

    subnet = one_network(body)
    model = emit(subnet, 2)
    assert operators(model).count("Mul") == 2
    assert "BatchNormalization" not in operators(model)
    assert verify(subnet, model).is_within


def test_zeros_that_are_added_leave_nothing():
    def body(net, images):
        x = net.conv2d(images, 8, kernel=3, name="stem")
        gone = net.activation(net.zeros(x), "relu")
        gone = net.max_pool(gone, kernel=3, padding=1, name="maximum")
        return net.add(net.add(gone, x, name="left"), gone, name="right")

    subnet = one_network(body)
    model = emit(subnet)
    assert operators(model) == ["Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    assert verify(subnet, model).is_within


def test_what_only_moves_zeros_is_left_out():
    def body(net, images):
        x = net.conv2d(images, 8, kernel=3, name="stem")
        h = net.scale(net.zeros(x))
        h = net.channel_shuffle(net.avg_pool(h, kernel=3, padding=1, name="mean"), 2)
        h = net.multiply(h, net.squeeze(x))
        h = net.multiply(x, net.squeeze(h, name="none"), name="closed")
        h = net.conv2d(h, 8, kernel=3, name="quiet")
        h = net.resize(net.resize(h, 4), 8, name="back")
        h = net.to_map(net.linear(net.to_tokens(h), 8, bias=False, name="map"))
        return net.add(x, net.concat(h, name="both"))

    subnet = one_network(body)
    model = emit(subnet)
    assert operators(model) == ["Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    assert verify(subnet, model).is_within


def test_zeros_that_are_needed_are_constants():
    def body(net, images):
        x = net.conv2d(images, 8, kernel=3, name="stem")
        gone = net.zeros(x)
        half = net.activation(gone, "sigmoid")
        shifted = net.conv2d(gone, 8, kernel=3, bias=True, name="shifted")
        return net.concat(x, gone, half, shifted)

    subnet = one_network(body)
    model = emit(subnet, 2)
    assert sum(entry.name == "zeros.zeros" for entry in model.graph.initializer) == 1
    assert verify(subnet, model).is_within


def test_what_nothing_reads_is_left_out():
    def body(net, images):
        x = net.conv2d(images, 8, kernel=3, name="stem")
        dead = net.conv2d(x, 8, kernel=5, name="dead")
        return net.add(x, net.zeros(dead))

    subnet = one_network(body)
    model = emit(subnet)
    assert operators(model).count("Conv") == 1
    assert not [e for e in model.graph.initializer if e.name.startswith("dead")]
    assert verify(subnet, model).is_within


def test_logits_that_are_zeros_are_written():
    @dataclass(frozen=True, kw_only=True)
    class Nothing(SearchSpace):
        image_size: int = 8

        def build(self, net, images):
            net.choice("threads", (1, 2), scope="platform")
            x = net.global_pool(net.zeros(net.conv2d(images, 8, kernel=3)))
            return net.linear(x, self.num_classes, bias=False, name="logits")

    subnet = shaken_subnet(Nothing(), [0])
    model = emit(subnet, 2)
    (answer,) = open_session(model.SerializeToString()).run(
        None, {"images": np.ones((2, 3, 8, 8), np.float32)}
    )
    np.testing.assert_array_equal(answer, np.zeros((2, 10)))


def test_maps_made_from_tokens_become_these_tokens_again():
    def body(net, images):
        x = net.to_tokens(net.conv2d(images, 8, kernel=3, name="stem"))
        for name in "ab":
            with net.scope(name):
                x = net.to_tokens(net.to_map(net.layer_norm(x)))
        return net.to_map(x)

    subnet = one_network(body)
    model = emit(subnet)
    assert operators(model).count("Transpose") == 2
    assert verify(subnet, model).is_within


def test_linear_attention_moves_no_heads():
    architectures = ZOO.decode(rows_of(ZOO, 40))
    linear = next(a for a in architectures if dict(a.items)["mixing"] == "linear")
    row = ZOO.encode(linear)[0]
    subnet = shaken_subnet(ZOO, row)
    names = [n.name for n in emit(subnet).graph.node if n.op_type == "Transpose"]
    mine = [name for name in names if name.startswith("attention.attention.attention")]
    assert sorted(name.rsplit(".", 1)[1] for name in mine) == ["channels", "k_tokens", "tokens"]


def test_layers_may_be_called_as_inputs_and_outputs_are():
    def body(net, images):
        x = net.conv2d(images, 8, kernel=3, name="images")
        return net.activation(net.conv2d(x, 8, kernel=3, name="logits"), "silu", name="relu")

    subnet = one_network(body)
    assert verify(subnet, emit(subnet)).is_within


def test_file_says_who_wrote_it():
    subnet = shaken_subnet(HYBRID, rows_of(HYBRID, 0)[0])
    model = emit(subnet)
    assert exporter_of(model) == "hwnas"
    del model.metadata_props[:]
    assert exporter_of(model) == "unknown"
