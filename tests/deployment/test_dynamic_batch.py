from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch

from deployment import ExportError, Forms, VerificationError, emit, open_session, verify
from deployment.emission.torch_export import torch_export
from deployment.proofs.first_difference import differing_from_torch
from search_spaces import SearchSpace
from tests.deployment.doubles import GATED, ODD, SPACES, VIT, ZOO, rows_of, shaken_subnet

ALL = {**SPACES, "odd": ODD, "gated": GATED, "zoo": ZOO}
FORMS = {
    "default": Forms(),
    "sequences": Forms(attention="multi_head", linear="matmul", mean="reduce", norms="kept"),
    "opset23": Forms(attention="opset23"),
    "plain": Forms(attention="plain"),
}


def check(subnet, model, sizes=(1, 3, 16)):
    """The file gives torch's logits for any number of images."""
    first = subnet.graph.layers[0]
    session = open_session(model.SerializeToString())
    rng = np.random.default_rng(2)
    for n in sizes:
        shape = (n, first.channels, first.height, first.width)
        images = rng.standard_normal(shape).astype(np.float32)
        with torch.no_grad():
            ours = subnet(torch.from_numpy(images)).numpy()
        (theirs,) = session.run(["logits"], {"images": images})
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5 * np.abs(ours).max())


@pytest.mark.parametrize(("name", "form"), [
    *((name, form) for name in ALL for form in ("default", "sequences")),
    *((name, form) for name in ("vit", "odd", "zoo") for form in ("opset23", "plain")),
])  # fmt: skip
def test_one_file_serves_any_number_of_images(name, form):
    space = ALL[name]
    for seed, row in enumerate(rows_of(space, 2)[-3:]):
        subnet = shaken_subnet(space, row, seed)
        model = emit(subnet, None, forms=FORMS[form])
        onnx.checker.check_model(model, full_check=len(model.opset_import) == 1)
        check(subnet, model)


def test_file_for_any_batch_is_verified():
    row = rows_of(VIT, 1)[-1]
    subnet, other = (shaken_subnet(VIT, row, seed) for seed in (0, 1))
    model = emit(subnet, None)
    assert verify(subnet, model, torch.randn(7, 3, 16, 16)).images == 3 * 3 + 6
    assert differing_from_torch(subnet, model, torch.randn(4, 3, 16, 16), 1e-5) == ""
    with pytest.raises(VerificationError, match="differs from torch"):
        verify(other, model)


def test_first_axis_has_a_name():
    subnet = shaken_subnet(VIT, rows_of(VIT, 0)[0])
    session = open_session(emit(subnet, None).SerializeToString())
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert images.shape == ["batch", 3, 16, 16]
    assert logits.shape == ["batch", 10]


def test_shapes_are_inferred_throughout():
    """Every tensor of a file without onnxruntime's own operators has a rank and fixed sizes."""
    subnet = shaken_subnet(VIT, rows_of(VIT, 1)[-1])
    model = emit(subnet, None, forms=Forms(attention="plain", linear="matmul"))
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    infos = {entry.name: entry.type.tensor_type.shape.dim for entry in typed.graph.value_info}
    outputs = {name for node in model.graph.node for name in node.output} - {"logits"}
    assert set(infos) == outputs
    for name, dims in infos.items():
        assert all(dim.dim_value > 0 for dim in list(dims)[1:]), name


@dataclass(frozen=True, kw_only=True)
class Zeros(SearchSpace):
    """Zeros as maps, tokens and vectors where something cannot do without them."""

    image_size: int = 8

    def build(self, net, images):
        x = net.conv2d(images, net.choice("width", (8, 16)), kernel=3, name="stem")
        gone = net.zeros(x)
        x = net.concat(x, gone, net.activation(gone, "sigmoid"), name="maps")
        none = net.to_tokens(gone, name="no_tokens")
        t = net.concat(net.to_tokens(x), none, name="tokens")
        t = net.concat(t, net.position(none, name="placed"), net.layer_norm(none), name="more")
        v = net.concat(net.global_pool(t), net.global_pool(gone, name="no_vector"), name="vectors")
        return net.linear(v, self.num_classes, name="classifier")


@pytest.mark.parametrize("linear", ["gemm", "matmul"])
def test_zeros_are_as_many_as_the_images(linear):
    subnet = shaken_subnet(Zeros(), [0])
    forms = Forms(linear=linear)
    check(subnet, emit(subnet, None, forms=forms))
    check(subnet, emit(subnet, 3, forms=forms), sizes=(3,))


def test_logits_of_zeros_are_as_many_as_the_images():
    @dataclass(frozen=True, kw_only=True)
    class Nothing(SearchSpace):
        image_size: int = 8

        def build(self, net, images):
            net.choice("threads", (1, 2), scope="platform")
            x = net.global_pool(net.zeros(net.conv2d(images, 8, kernel=3)))
            return net.linear(x, self.num_classes, bias=False, name="logits")

    model = emit(shaken_subnet(Nothing(), [0]), None)
    images = np.ones((5, 3, 8, 8), np.float32)
    (answer,) = open_session(model.SerializeToString()).run(None, {"images": images})
    np.testing.assert_array_equal(answer, np.zeros((5, 10)))


def test_file_for_any_batch_is_as_the_fixed_one_but_for_sizes():
    """The same kernels, but for the enlarged gates: see `multiply`."""
    for name, space in ALL.items():
        subnet = shaken_subnet(space, rows_of(space, 0)[-1])
        fixed, any_number = (emit(subnet, n).graph.node for n in (2, None))
        free = ("Reshape", "Shape", "Concat", "Expand", "Resize")
        kept = [[n.op_type for n in nodes if n.op_type not in free]
                for nodes in (fixed, any_number)]  # fmt: skip
        assert kept[0] == kept[1], name


def test_torch_exports_any_batch_with_the_newer_exporter():
    pytest.importorskip("onnxscript")
    subnet = shaken_subnet(ZOO, rows_of(ZOO, 0)[-1])
    check(subnet, torch_export(subnet, None, "net", []), sizes=(1, 2, 5))


def test_file_for_which_torch_fixed_the_batch_is_refused(monkeypatch):
    def fixed(subnet, images, **_):
        return emit(subnet, len(images))

    monkeypatch.setattr("deployment.emission.torch_export._captured", fixed)
    subnet = shaken_subnet(VIT, rows_of(VIT, 0)[0])
    with pytest.raises(ExportError, match=r"fixes the number of images.*emitter for odd"):
        torch_export(subnet, None, "net", ["odd"])


def test_without_the_newer_exporter_torch_refuses_any_batch(monkeypatch):
    def missing(*_, **__):
        raise ModuleNotFoundError("No module named 'onnxscript'")

    monkeypatch.setattr(torch.onnx, "export", missing)
    subnet = shaken_subnet(VIT, rows_of(VIT, 0)[0])
    with pytest.raises(ExportError, match=r"onnxscript.*fixed batch size"):
        torch_export(subnet, None, "net", ["odd"])
