import copy
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from deployment import VerificationError, emit, verify
from deployment.proofs.verify import LARGEST_TOLERANCE, TOLERANCE, compare
from records import BadInputError
from search_spaces import SearchSpace
from search_spaces.blocks import classifier
from supernet import Subnet
from tests.deployment.doubles import ODD, SPACES, rows_of, shaken_subnet

HYBRID = SPACES["hybrid"]


@pytest.fixture
def subnet():
    return shaken_subnet(HYBRID, rows_of(HYBRID, 1)[-1])


def tampered(model, name, change):
    """A copy of a model with one initializer changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (entry,) = [i for i in copy.graph.initializer if i.name == name]
    entry.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(entry).copy()), name))
    return copy


@pytest.mark.parametrize("name", [*SPACES, "odd"])
def test_true_file_is_accepted(name):
    space = {**SPACES, "odd": ODD}[name]
    subnet = shaken_subnet(space, rows_of(space, 1)[-1])
    agreement = verify(subnet, emit(subnet, 2))
    assert agreement.images == 6
    assert agreement.tolerance == TOLERANCE == 1e-5
    assert 0 <= agreement.relative_difference <= 1e-5
    assert agreement.top1_agreement == 1.0


def test_agreement_is_relative_to_the_largest_logit(subnet):
    with torch.no_grad():
        subnet.layers["classifier"].weight.mul_(1000)
        subnet.layers["classifier"].bias.mul_(1000)
    agreement = verify(subnet, emit(subnet))
    assert agreement.largest_difference / agreement.relative_difference > 100


def test_one_changed_weight_is_noticed(subnet):
    model = emit(subnet)

    def nudge(weight):
        weight.flat[weight.size // 2] += 0.02
        return weight

    for name in ("stem.conv.weight", "stem.conv.bias", "classifier.weight", "classifier.bias"):
        with pytest.raises(VerificationError, match="differs from torch by"):
            verify(subnet, tampered(model, name, nudge))
        verify(subnet, tampered(model, name, lambda weight: weight))


def test_file_of_another_subnet_is_noticed(subnet):
    other = shaken_subnet(HYBRID, rows_of(HYBRID, 1)[-1], seed=9)
    with pytest.raises(VerificationError):
        verify(subnet, emit(other))


def test_nan_is_refused_even_where_both_agree_on_it(subnet):
    with torch.no_grad():
        subnet.layers["classifier"].bias[0] = float("nan")
    with pytest.raises(VerificationError, match="nan"):
        verify(subnet, emit(subnet))


def test_file_that_answers_nan_is_refused(subnet):
    model = tampered(emit(subnet), "classifier.bias", lambda bias: bias * np.float32("nan"))
    with pytest.raises(VerificationError, match="nan"):
        verify(subnet, model)


def test_invalid_graph_is_refused(subnet):
    model = emit(subnet)
    del model.graph.initializer[0]
    with pytest.raises(VerificationError, match="not valid ONNX"):
        verify(subnet, model)


def test_real_images_are_compared_as_well(subnet):
    """A difference that random images do not show."""
    model = emit(subnet)
    model.graph.node[0].input[0] = "clipped"
    ends = [
        helper.make_tensor(n, onnx.TensorProto.FLOAT, [], [v])
        for n, v in (("a", -1e3), ("b", 1e3))
    ]
    model.graph.initializer.extend(ends)
    model.graph.node.insert(0, helper.make_node("Clip", ["images", "a", "b"], ["clipped"]))
    verify(subnet, model)
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert verify(subnet, model, images).images == 6
    with pytest.raises(VerificationError):
        verify(subnet, model, 5000 * images)


def test_images_are_used_as_they_fill_batches(subnet):
    images = torch.zeros(7, 3, 16, 16)
    assert verify(subnet, emit(subnet, 3), images).images == 3 * 3 + 6
    assert verify(subnet, emit(subnet, 3), images[:2]).images == 3 * 3


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 16, 8), (3, 16, 16)])
def test_images_of_another_shape_are_refused(subnet, shape):
    with pytest.raises(BadInputError, match=r"n x \[3, 16, 16\]"):
        verify(subnet, emit(subnet), torch.zeros(shape))


def test_same_seed_same_agreement(subnet):
    model = emit(subnet)
    assert verify(subnet, model, seed=3) == verify(subnet, model, seed=3)
    assert verify(subnet, model, seed=3) != verify(subnet, model, seed=4)


@dataclass(frozen=True, kw_only=True)
class Steep(SearchSpace):
    """A map beside its eighth power: ten times the image is a hundred million times the power."""

    image_size: int = 8

    def build(self, net, images):
        net.choice("threads", (1, 2), scope="platform")
        x = net.conv2d(images, 16, kernel=3, bias=True, name="stem")
        y = x
        for i in range(3):
            with net.scope(f"square{i}"):
                y = net.multiply(y, net.squeeze(y))
        return classifier(net, net.concat(x, y), self.num_classes)


def steep(*, cancelled=False, lifted=0.0):
    """Its network; with pairs of powers that cancel, and with a number added to every channel."""
    subnet = Subnet(Steep().graph([0]), seed=1).eval()
    with torch.no_grad():
        stem, classes = subnet.layers["stem"], subnet.layers["classifier"]
        stem.weight.mul_(10)
        stem.weight[1::2] = stem.weight[::2]
        stem.bias[1::2] = stem.bias[::2]
        stem.bias += lifted
        if cancelled:
            classes.weight[:, 17::2] = -classes.weight[:, 16::2]
        if lifted:
            classes.weight[:, 16:] = 0
            classes.weight[:, 1:16:2] = -0.9999 * classes.weight[:, :16:2]
    return subnet


def rounding(subnet, images):
    """The relative difference between single and double precision."""
    with torch.no_grad():
        single = subnet(images)
        double = copy.deepcopy(subnet).double()(images.double())
    return float((single - double).abs().max() / single.abs().max())


def test_rounding_widens_the_tolerance_and_is_said():
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for lifted in (0.0, 300.0):
        subnet = steep(lifted=lifted, cancelled=True)
        agreement = compare(subnet, emit(subnet, 2), images)
        assert agreement.is_within
        assert (agreement.tolerance > TOLERANCE) == (rounding(subnet, images) > TOLERANCE)
        assert agreement.tolerance <= LARGEST_TOLERANCE
    assert agreement.tolerance > TOLERANCE


def test_large_images_on_which_rounding_decides_are_left_out():
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    subnet = steep(cancelled=True)
    assert rounding(subnet, images) < 1e-6
    assert rounding(subnet, 10 * images) > LARGEST_TOLERANCE
    model = emit(subnet, 2)
    assert compare(subnet, model).images == 4  # random ones and zeros
    with torch.no_grad():
        subnet.layers["classifier"].bias[0] += 1e-3
    with pytest.raises(VerificationError):
        verify(subnet, model)


def test_a_difference_on_usual_images_is_not_hidden_by_large_ones():
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    subnet = steep()
    model = emit(subnet, 2)
    assert verify(subnet, model).images == 6
    with torch.no_grad():
        usual, large = (float(subnet(k * images).abs().max()) for k in (1, 10))
        subnet.layers["classifier"].bias[0] += 1e-3 * usual
    assert 1e-3 * usual < 0.01 * TOLERANCE * large
    with pytest.raises(VerificationError):
        verify(subnet, model)


def test_nan_on_large_images_alone_is_refused(subnet):
    model = tampered(emit(subnet), "classifier.bias", lambda bias: bias)
    node = model.graph.node[-1]
    node.output[0] = "raw"
    random = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
    with torch.no_grad():
        large = subnet(10 * torch.from_numpy(random)).abs().max()
    limit = helper.make_tensor("limit", onnx.TensorProto.FLOAT, [], [float(large) * 0.5])
    nan = helper.make_tensor("nan", onnx.TensorProto.FLOAT, [], [float("nan")])
    model.graph.initializer.extend([limit, nan])
    model.graph.node.extend([
        helper.make_node("Abs", ["raw"], ["absolute"]),
        helper.make_node("Greater", ["absolute", "limit"], ["above"]),
        helper.make_node("Where", ["above", "nan", "raw"], ["logits"]),
    ])  # fmt: skip
    with pytest.raises(VerificationError, match="nan"):
        verify(subnet, model)
