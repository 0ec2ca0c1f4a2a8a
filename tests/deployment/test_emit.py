import numpy as np
import onnx
import pytest
import torch

from deployment import emit, open_session
from deployment.folding import foldable
from records import BadInputError
from tests.deployment.doubles import HYBRID, ODD, SPACES, VIT, rows_of, shaken_subnet

ALL = {**SPACES, "odd": ODD}


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
            assert np.abs(ours).max() > 0
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5 * np.abs(ours).max())


@pytest.mark.parametrize("name", ALL)
def test_images_of_a_batch_do_not_mix(name):
    space = ALL[name]
    subnet = shaken_subnet(space, rows_of(space, 1)[-1])
    shape = (3, space.channels, space.image_size, space.image_size)
    images = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    together = open_session(emit(subnet, 3).SerializeToString()).run(None, {"images": images})[0]
    one = open_session(emit(subnet, 1).SerializeToString())
    apart = np.concatenate([one.run(None, {"images": image[None]})[0] for image in images])
    assert np.ptp(apart, axis=0).min() > 0
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
