import hashlib
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import onnx
import pytest
import torch

from deployment import FORMS, Forms, Value, add_emitter, choices_of, emit, open_session, verify
from deployment.emission.emit import ATTENTION_IR_VERSION, ATTENTION_OPSET, IR_VERSION, OPSET
from deployment.emission.emitters import EMITTERS
from deployment.emission.forms import ATTENTION, DEFAULT
from deployment.proofs.first_difference import differing_from_torch
from records import UnknownNameError
from search_spaces import SearchSpace
from search_spaces.blocks import classifier
from search_spaces.primitives import PRIMITIVES
from supernet import add_primitive
from supernet.elastic import ELASTIC
from supernet.static import STATIC
from tests.deployment.doubles import GATED, ODD, SPACES, VIT, ZOO, rows_of, shaken_subnet
from tests.supernet.doubles import images_of
from tests.supernet.test_own_primitive import PlainShift, Shift

ALL = {**SPACES, "odd": ODD, "gated": GATED, "zoo": ZOO}
TRANSFORMERS = ("vit", "hybrid", "odd", "zoo")
EACH = [
    (name, form, value)
    for form, values in FORMS.items()
    for value in values[1:]
    for name in (ALL if form in ("mean", "norms") else TRANSFORMERS)
]


def operators(model):
    return [f"{node.domain}.{node.op_type}".lstrip(".") for node in model.graph.node]


def softmax_rows(n=4):
    """Networks of the zoo with softmax attention, with windows and without."""
    architectures = ZOO.decode(rows_of(ZOO, 60))
    chosen = [a for a in architectures if dict(a.items)["mixing"] == "softmax"]
    with_window = [a for a in chosen if dict(a.items)["window"] == 2][: n // 2]
    without = [a for a in chosen if dict(a.items)["window"] == 0][: n // 2]
    assert with_window
    assert without
    return [ZOO.encode(a)[0] for a in (*with_window, *without)]


# ---- the same function -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "form", "value"), EACH)
def test_every_form_computes_what_torch_computes(name, form, value):
    forms = Forms(**{form: value})
    space = ALL[name]
    for seed, row in enumerate(rows_of(space, 2)[-3:]):
        subnet = shaken_subnet(space, row, seed)
        agreement = difference(subnet, emit(subnet, 2, forms=forms))
        assert agreement <= (1e-5 if forms.is_exact else 2e-2)


@pytest.mark.parametrize(("attention", "linear"), list(product(ATTENTION, FORMS["linear"])))
def test_attention_of_unequal_sizes_and_in_windows_is_written_in_every_form(attention, linear):
    forms = Forms(attention=attention, linear=linear)
    subnets = [shaken_subnet(ZOO, row, seed) for seed, row in enumerate(softmax_rows())]
    subnets.append(shaken_subnet(ODD, [1]))  # queries of 4, values of 8
    kinds = {(one.qk_dim == one.v_dim, one.window) for s in subnets for one in s.graph.layers
             if one.operator == "attention"}  # fmt: skip
    assert len(kinds) >= 3
    for subnet in subnets:
        model = emit(subnet, 3, forms=forms)
        assert difference(subnet, model) <= 1e-5
        assert differing_from_torch(subnet, model, images_like(subnet, 3), 1e-4) == ""


def test_all_forms_together_compute_what_torch_computes():
    forms = Forms(attention="plain", gelu="tanh", mean="reduce", linear="matmul", norms="kept")
    for name, space in ALL.items():
        subnet = shaken_subnet(space, rows_of(space, 1)[-1])
        assert difference(subnet, emit(subnet, 2, forms=forms)) <= 2e-2, name


def images_like(subnet, n):
    first = subnet.graph.layers[0]
    generator = torch.Generator().manual_seed(3)
    return torch.randn((n, first.channels, first.height, first.width), generator=generator)


def difference(subnet, model):
    """The largest difference relative to the largest logit, on random images."""
    onnx.checker.check_model(model, full_check=len(model.opset_import) == 1)
    n = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    images = images_like(subnet, n)
    theirs = open_session(model.SerializeToString()).run(None, {"images": images.numpy()})[0]
    with torch.no_grad():
        ours = subnet(images).numpy()
    assert theirs.shape == ours.shape
    return np.abs(ours - theirs).max() / np.abs(ours).max()


# ---- which nodes -------------------------------------------------------------------------------


def test_forms_are_what_they_are_called():
    subnet = shaken_subnet(VIT, rows_of(VIT, 1)[-1])
    declared = [layer.operator for layer in subnet.graph.layers]
    layers = declared.count("attention")
    linear = declared.count("linear")
    assert layers
    found = {name: operators(emit(subnet, forms=Forms(attention=name))) for name in ATTENTION}
    assert found["packed"].count("com.microsoft.Attention") == layers
    assert found["multi_head"].count("com.microsoft.MultiHeadAttention") == layers
    assert found["opset23"].count("Attention") == layers
    assert found["plain"].count("Softmax") == layers
    assert found["plain"].count("MatMul") == 2 * layers
    for name in ATTENTION[1:]:
        assert found[name].count("Gemm") == linear + 3 * layers
    spelled = operators(emit(subnet, forms=Forms(attention="plain", linear="matmul")))
    assert spelled.count("Gemm") == 1  # the classifier works on one vector an image
    assert spelled.count("MatMul") == linear - 1 + 5 * layers


def test_operator_set_is_raised_for_the_attention_that_needs_it_alone():
    subnet = shaken_subnet(VIT, rows_of(VIT, 0)[0])
    for attention in ATTENTION:
        model = emit(subnet, forms=Forms(attention=attention))
        needs = attention == "opset23"
        versions = {entry.domain: entry.version for entry in model.opset_import}
        assert versions[""] == (ATTENTION_OPSET if needs else OPSET)
        assert model.ir_version == (ATTENTION_IR_VERSION if needs else IR_VERSION)
        assert ("com.microsoft" in versions) == (attention in ("packed", "multi_head"))
    cnn = shaken_subnet(SPACES["cnn"], rows_of(SPACES["cnn"], 0)[0])
    assert emit(cnn, forms=Forms(attention="opset23")).opset_import[0].version == OPSET


def test_sequences_need_no_reshapes_between_the_blocks():
    subnet = shaken_subnet(VIT, VIT.extremes("largest")[-1])
    found = operators(emit(subnet, forms=Forms(linear="matmul")))
    assert found.count("Reshape") == 1
    assert operators(emit(subnet)).count("Reshape") > 5


def test_kept_norms_are_left_to_the_runtime():
    space = SPACES["cnn"]
    subnet = shaken_subnet(space, rows_of(space, 0)[0])
    norms = [layer for layer in subnet.graph.layers if layer.operator == "batch_norm"]
    model = emit(subnet, forms=Forms(norms="kept"))
    assert operators(model).count("BatchNormalization") == len(norms)
    assert verify(subnet, model).is_within


def test_first_layer_that_differs_is_found_behind_kept_norms():
    space = SPACES["cnn"]
    row = rows_of(space, 1)[-1]
    subnet, other = shaken_subnet(space, row), shaken_subnet(space, row)
    model = emit(subnet, 2, forms=Forms(norms="kept"))
    images = images_of(space, 2)
    assert differing_from_torch(subnet, model, images, 1e-5) == ""
    norm = next(layer.name for layer in subnet.graph.layers if layer.operator == "batch_norm")
    with torch.no_grad():
        other.layers[norm.replace(".", "_")].weight.mul_(1.5)
    assert differing_from_torch(other, model, images, 1e-5) == norm


def test_form_that_does_not_exist_is_refused_and_those_there_are_named():
    with pytest.raises(UnknownNameError, match="multi_head, opset23, packed, plain"):
        Forms(attention="flash")


# ---- a user's emitter --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ShiftedTokens(SearchSpace):
    """A user's primitive between linear maps, which expects tokens as a matrix."""

    image_size: int = 8

    def build(self, net, images):
        x = net.to_tokens(net.conv2d(images, net.choice("width", (8, 16)), kernel=3))
        h = net.primitive("negated", (net.linear(x, x.channels, name="before"),))
        x = net.add(x, net.linear(h, x.channels, name="behind"))
        return classifier(net, net.add(h, x, name="both"), self.num_classes)


class Negated(PlainShift):
    def forward(self, x):
        return -x - self.offset


def test_users_emitters_get_tokens_as_a_matrix_in_every_form():
    add_primitive("negated", elastic=Shift, static=Negated, parameters=lambda a: a["channels"])
    shapes = []

    def emit_negated(e, layer):
        x = e.input(layer)
        shapes.append(x.is_sequence)
        offset = e.constant(f"{layer.name}.offset", e.weights(layer)["offset"])
        y = e.node("Neg", [x.name], f"{layer.name}.negative")
        return Value(e.node("Sub", [y, offset], layer.name), x.is_map)

    try:
        subnet = shaken_subnet(ShiftedTokens(), [1])
        assert choices_of(subnet) == {name: (values[0],) for name, values in FORMS.items()}
        add_emitter("negated", emit_negated)
        for forms in (DEFAULT, Forms(linear="matmul")):
            assert verify(subnet, emit(subnet, 3, forms=forms)).is_within
        assert shapes == [False, False]
        assert choices_of(subnet)["linear"] == FORMS["linear"]
    finally:
        EMITTERS.pop("negated", None)
        for table in (PRIMITIVES, ELASTIC, STATIC):
            del table["negated"]


# ---- which forms matter ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_choices_are_the_forms_that_change_the_file(name):
    """Brute force: bytes of the files, weights included."""
    space = ALL[name]
    for row in rows_of(space, 1)[-2:]:
        subnet = shaken_subnet(space, row)
        choices = choices_of(subnet)
        default = emit(subnet).SerializeToString(deterministic=True)
        for form, values in FORMS.items():
            files = {
                value: emit(subnet, forms=replace(DEFAULT, **{form: value})).SerializeToString(
                    deterministic=True
                )
                for value in values
            }
            assert choices[form] == tuple(
                v for v in values if v == values[0] or files[v] != default
            )
            assert len({files[v] for v in choices[form]}) == len(choices[form])


def test_networks_without_attention_have_one_form_of_it():
    cnn = choices_of(shaken_subnet(SPACES["cnn"], rows_of(SPACES["cnn"], 0)[0]))
    assert cnn["attention"] == ("packed",)
    assert cnn["linear"] == ("gemm",)  # its classifier works on vectors
    assert cnn["norms"] == FORMS["norms"]
    vit = choices_of(shaken_subnet(VIT, rows_of(VIT, 0)[0]))
    assert vit["attention"] == ATTENTION
    assert vit["gelu"] == FORMS["gelu"]
    assert vit["mean"] == ("pool",)


# ---- the default -------------------------------------------------------------------------------

STRUCTURES = {
    "cnn": ["3ef029d965d76232", "3ef029d965d76232", "94d5950145315036", "94d5950145315036"],
    "vit": ["f4c311405c63e3df", "c88c5d6a71625f86", "d1ef9b5fa5ba1524", "b14661a8c491e455"],
    "hybrid": ["36e6e7f084045c28", "36e6e7f084045c28", "aa51b6c6f2e2921b", "833536ff7a0e3035"],
    "resnet": ["970ea4e24a57f02c", "970ea4e24a57f02c", "5cca338833ce0ed4", "5cca338833ce0ed4"],
    "odd": ["f630d533cabe4440", "f630d533cabe4440", "f4e42f7678a8fdb4", "f4e42f7678a8fdb4"],
    "gated": ["54a5b78881838e2d", "54a5b78881838e2d", "f9a10ceceb5aedf4", "f9a10ceceb5aedf4"],
    "zoo": ["001de9cc22f4d586", "001de9cc22f4d586", "773d918e31739baf", "f0c9c320e04ac265"],
}  # fmt: skip
"""Digests of what was written before there were forms, for two extremes at batch 1 and 3."""


def structure(model):
    """A digest of a file's nodes and of the shapes of its constants."""
    digest = hashlib.sha256()
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        row = (node.op_type, node.domain, list(node.input), list(node.output), node.name)
        digest.update(repr((row, sorted(attributes.items()))).encode())
    for entry in model.graph.initializer:
        digest.update(repr((entry.name, list(entry.dims), entry.data_type)).encode())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("name", ALL)
def test_default_forms_are_written_as_ever(name):
    space = ALL[name]
    rows = (space.extremes("smallest")[0], space.extremes("largest")[-1])
    found = [structure(emit(shaken_subnet(space, row), n)) for row in rows for n in (1, 3)]
    assert found == STRUCTURES[name]
