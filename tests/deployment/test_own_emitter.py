"""A user's primitive without an emitter, and with one: files, verification, bundle, table."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from deployment import (
    KINDS,
    ExportError,
    Lowering,
    Value,
    VerificationError,
    add_emitter,
    deploy,
    emit,
    exporter_of,
    open_session,
    verify,
)
from deployment.emission.emitters import EMITTERS
from deployment.emission.torch_export import torch_export
from records import BadInputError, UnknownNameError
from search_spaces import SearchSpace
from search_spaces.blocks import classifier, transformer
from search_spaces.primitives import PRIMITIVES
from supernet import Subnet, add_primitive
from supernet.elastic import ELASTIC
from supernet.static import STATIC
from tests.deployment.doubles import SPACES, TARGET, ZOO, rows_of, shaken_subnet
from tests.supernet.test_own_primitive import PlainShift, Shift


@dataclass(frozen=True, kw_only=True)
class ShiftedSpace(SearchSpace):
    """A user's primitive between shipped ones."""

    image_size: int = 8

    def build(self, net, images):
        x = net.conv2d(images, net.choice("width", (8, 16)), kernel=3)
        x = net.activation(net.primitive("shift", (x,)), "hardswish")
        x = transformer(net, net.to_tokens(x), heads=2, head_dim=4, mlp_ratio=2)
        return classifier(net, x, self.num_classes)


@pytest.fixture
def shift():
    """The primitive, as a user adds it."""
    add_primitive("shift", elastic=Shift, static=PlainShift, parameters=lambda a: a["channels"])
    yield
    EMITTERS.pop("shift", None)
    for table in (PRIMITIVES, ELASTIC, STATIC):
        del table["shift"]


def emit_shift(e, layer):
    x = e.input(layer)
    offset = e.constant(f"{layer.name}.offset", e.weights(layer)["offset"].reshape(1, -1, 1, 1))
    return Value(e.node("Add", [x.name, offset], layer.name), x.is_map, x.is_blocked)


@pytest.mark.usefixtures("shift")
@pytest.mark.parametrize("batch_size", [1, 3])
def test_without_an_emitter_torch_exports_and_says_so(batch_size, caplog):
    space = ShiftedSpace()
    for row in ([0], [1]):
        subnet = shaken_subnet(space, row)
        with caplog.at_level("WARNING"):
            model = emit(subnet, batch_size, name="mine")
        assert "no emitter for shift: the network is exported by torch" in caplog.text
        assert exporter_of(model) == "torch"
        assert model.graph.name == "mine"
        session = open_session(model.SerializeToString())
        (images,), (logits,) = session.get_inputs(), session.get_outputs()
        assert (images.name, images.shape) == ("images", [batch_size, 3, 8, 8])
        assert (logits.name, logits.shape) == ("logits", [batch_size, 10])
        assert verify(subnet, model).relative_difference <= 1e-5


@pytest.mark.usefixtures("shift")
def test_a_file_by_torch_with_one_changed_weight_is_noticed():
    space = ShiftedSpace()
    subnet, other = (shaken_subnet(space, [1], seed) for seed in (0, 0))
    with torch.no_grad():
        other.layers["shift"].offset[3] += 0.1
    model = emit(other)
    verify(other, model)
    with pytest.raises(VerificationError, match="differs from torch"):
        verify(subnet, model)


@pytest.mark.usefixtures("shift")
def test_with_an_emitter_the_framework_writes_the_file():
    space = ShiftedSpace()
    add_emitter("shift", emit_shift)
    for row in ([0], [1]):
        subnet = shaken_subnet(space, row)
        model = emit(subnet, 2)
        assert exporter_of(model) == "hwnas"
        assert "Attention" in [node.op_type for node in model.graph.node]
        assert verify(subnet, model).relative_difference <= 1e-5


@pytest.mark.usefixtures("shift")
def test_bundle_records_who_exported(tmp_path):
    space = ShiftedSpace()
    subnet = shaken_subnet(space, [1])
    given = {
        "target": TARGET,
        "architecture": space.decode([1])[0].to_json(),
        "space": space.to_json(),
        "predicted": {},
        "facts": {},
        "runner": None,
    }
    assert deploy(subnet, tmp_path / "torch", **given).record["exporter"] == "torch"
    add_emitter("shift", emit_shift)
    bundle = deploy(subnet, tmp_path / "own", **given)
    assert bundle.record["exporter"] == "hwnas"
    assert Subnet.load(tmp_path / "own" / "subnet").graph == subnet.graph


@pytest.mark.usefixtures("shift")
def test_an_emitter_is_added_once_and_for_a_primitive_that_is_there():
    add_emitter("shift", emit_shift)
    with pytest.raises(BadInputError, match="'shift' has an emitter already"):
        add_emitter("shift", emit_shift)
    with pytest.raises(BadInputError, match="'conv2d' has an emitter already"):
        add_emitter("conv2d", emit_shift)
    with pytest.raises(UnknownNameError, match="primitive 'shfit'; did you mean 'shift'"):
        add_emitter("shfit", emit_shift)


@pytest.mark.usefixtures("shift")
def test_kernel_table_has_a_kernel_of_the_kind_other():
    space = ShiftedSpace()
    lowering = Lowering(space, batch_size=2)
    table = lowering.table(np.array([[0], [1]]))
    at = [kernel.name for kernel in lowering.kernels].index("shift")
    assert (table.column("kind")[:, at] == KINDS.index("other")).all()
    assert table.column("read_elements")[:, at].tolist() == [2 * 8 * 64, 2 * 16 * 64]
    assert table.column("weight_elements")[:, at].tolist() == [8, 16]
    # it keeps the activation behind it from being folded into the convolution before it
    assert "activation" in [kernel.name for kernel in lowering.kernels]
    assert KINDS[-1] == "other"


class Unexportable(nn.Module):
    """Works in torch, but nobody can write it to a file."""

    def __init__(self, layer):
        super().__init__()

    def forward(self, x):
        return x * torch.linalg.eigvalsh(x @ x.transpose(2, 3)).amax((1, 2)).view(-1, 1, 1, 1)


class ElasticUnexportable(Shift):
    def weights(self, layer):
        return {}


def test_what_torch_cannot_export_either_is_an_error_that_names_it():
    @dataclass(frozen=True, kw_only=True)
    class Space(SearchSpace):
        image_size: int = 8

        def build(self, net, images):
            x = net.conv2d(images, net.choice("width", (8, 16)), kernel=3)
            return classifier(net, net.primitive("spectral", (x,)), self.num_classes)

    add_primitive("spectral", elastic=ElasticUnexportable, static=Unexportable)
    try:
        subnet = shaken_subnet(Space(), [0])
        with pytest.raises(ExportError, match=r"write an emitter for spectral with .*add_emitter"):
            emit(subnet)
    finally:
        for table in (PRIMITIVES, ELASTIC, STATIC):
            del table["spectral"]


@pytest.mark.parametrize("name", [*SPACES, "zoo"])
def test_torch_exports_all_shipped_primitives_alike(name):
    """Two exporters agree: torch's and this framework's."""
    space = {**SPACES, "zoo": ZOO}[name]
    for seed, row in enumerate(rows_of(space, 2)[-3:]):
        subnet = shaken_subnet(space, row, seed)
        assert verify(subnet, torch_export(subnet, 2, "net", [])).is_within
        assert verify(subnet, emit(subnet, 2)).is_within


def test_the_newer_exporter_is_asked_where_tracing_fails(monkeypatch):
    pytest.importorskip("onnxscript")

    def fail(*_):
        raise RuntimeError("no trace")

    monkeypatch.setattr("deployment.emission.torch_export._traced", fail)
    subnet = shaken_subnet(SPACES["cnn"], rows_of(SPACES["cnn"], 0)[0])
    model = torch_export(subnet, 2, "net", [])
    (images,) = open_session(model.SerializeToString()).get_inputs()
    assert (images.name, images.shape) == ("images", [2, 3, 16, 16])
    assert verify(subnet, model).is_within


def test_a_network_that_ignores_its_images_keeps_its_input():
    pools = [j for j, choice in enumerate(ZOO.choices) if choice.name.endswith("pool")]
    row = rows_of(ZOO, 1)[-1].copy()
    row[pools] = 2
    subnet = shaken_subnet(ZOO, row)
    for model in (torch_export(subnet, 2, "net", []), emit(subnet, 2)):
        (images,) = open_session(model.SerializeToString()).get_inputs()
        assert (images.name, images.shape) == ("images", [2, 2, 16, 16])
        assert verify(subnet, model).is_within
