"""The proof holds for shipped spaces, and fails by the right check for what is broken."""

import itertools
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from torch import nn

from deployment import Value, add_emitter, verify_space
from deployment.emission.emitters import EMITTERS
from deployment.proofs import space_proof, verify
from deployment.proofs.space_proof import perturbed_supernet, proof_rows
from records import BadInputError
from search_spaces import SearchSpace
from search_spaces.blocks import classifier
from search_spaces.primitives import PRIMITIVES, Primitive
from supernet import ElasticPrimitive, add_primitive
from supernet.elastic import ELASTIC
from supernet.elastic.attention import Attention
from supernet.static import STATIC, SelfAttention
from tests.deployment.doubles import GATED
from tests.supernet.doubles import SPACES, TINY, images_of
from tests.supernet.test_own_primitive import PlainShift, Shift

CHECKS = (
    "extracted == sliced", "loaded == extracted", "supernet untouched", "macs", "parameters",
    "output shapes", "onnx == torch", "attention rows", "genes",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OwnSpace(SearchSpace):
    """A network with a user's primitive in it, called `own`."""

    image_size: int = 6

    def build(self, net, images):
        x = net.batch_norm(net.conv2d(images, net.choice("width", (4, 8)), kernel=3))
        return classifier(net, net.primitive("own", (x,)), self.num_classes)


@pytest.fixture
def own():
    """Adds a primitive called `own` for one test."""

    def add(elastic=Shift, static=PlainShift, parameters=lambda a: a["channels"], emitter=None):
        add_primitive("own", elastic=elastic, static=static, parameters=parameters)
        if emitter is not None:
            add_emitter("own", emitter)

    yield add
    EMITTERS.pop("own", None)
    for table in (PRIMITIVES, ELASTIC, STATIC):
        table.pop("own", None)


def failed(report):
    return {check.name for check in report.checks if not check.passed}


def emit_own(e, layer):
    x = e.input(layer)
    offset = e.constant(f"{layer.name}.offset", e.weights(layer)["offset"].reshape(1, -1, 1, 1))
    return Value(e.node("Add", [x.name, offset], layer.name), x.is_map)


# ---- what holds --------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [TINY, *SPACES, GATED], ids=lambda s: f"{s.name}-{s.image_size}")
def test_shipped_spaces_hold(space):
    report = verify_space(space, architectures=4)
    assert report.ok, str(report)
    assert tuple(check.name for check in report.checks) == CHECKS
    assert 5 <= report.architectures <= 8
    for name in CHECKS[:3]:
        assert report[name].cases == report.architectures
        assert report[name].largest_difference == 0
    assert report["macs"].cases > 10 * report.architectures
    assert 0 < report["onnx == torch"].largest_difference <= 1e-5
    attends = any(node.operator == "attention" for node in space.nodes)
    assert (report["attention rows"].cases > 0) == attends
    assert report["genes"].cases == 100


def test_a_users_primitive_holds_and_what_is_left_out_is_said(own):
    own()
    report = verify_space(OwnSpace(), architectures=2)
    assert report.ok, str(report)
    assert report["macs"].detail == "not compared for own"
    assert report["onnx == torch"].detail == "exported by torch"
    add_emitter("own", emit_own)
    report = verify_space(OwnSpace(), architectures=2)
    assert report.ok, str(report)
    assert report["onnx == torch"].detail == ""


def test_files_may_be_left_out():
    report = verify_space(TINY, architectures=1, onnx=False)
    assert report.ok
    assert (report["onnx == torch"].cases, report["onnx == torch"].detail) == (0, "left out")


def test_given_images_are_used():
    images = images_of(TINY, 8)
    assert verify_space(TINY, architectures=1, images=images).ok
    images[3, 0, 0, 0] = float("nan")
    report = verify_space(TINY, architectures=1, images=images)
    assert "extracted == sliced" in failed(report)
    assert np.isnan(report["extracted == sliced"].largest_difference)


def test_a_tolerance_that_rounding_widened_is_said(monkeypatch):
    for module in (verify, space_proof):
        monkeypatch.setattr(module, "TOLERANCE", 1e-9)
    report = verify_space(TINY, architectures=1)
    assert report.ok
    assert report["onnx == torch"].largest_difference > 1e-9
    assert "rounding in torch alone explains" in report["onnx == torch"].detail


def test_progress_is_told():
    told = []
    report = verify_space(TINY, architectures=2, on_progress=lambda *at: told.append(at))
    assert told == [(i + 1, report.architectures) for i in range(report.architectures)]


# ---- what is broken ----------------------------------------------------------------------------


class LouderShift(Shift):
    """The supernet adds one per cent more than the subnet."""

    def run(self, layer, inputs, weights):
        return inputs[0] + 1.01 * weights["offset"].view(-1, 1, 1)


def test_an_elastic_run_that_differs_from_the_module(own):
    own(elastic=LouderShift, emitter=emit_own)
    report = verify_space(OwnSpace(), architectures=2)
    assert failed(report) == {"extracted == sliced"}
    check = report["extracted == sliced"]
    assert check.largest_difference > 1e-5
    assert check.detail.startswith("genes [0]: layer own")
    assert check.cases == report.architectures


def test_a_formula_of_parameters_that_is_wrong(own):
    own(parameters=lambda a: a["channels"] + 1, emitter=emit_own)
    report = verify_space(OwnSpace(), architectures=2)
    assert failed(report) == {"parameters"}
    assert report["parameters"].largest_difference == 1
    detail = report["parameters"].detail
    assert detail == "genes [0]: layer own (own) has 4 parameters, stated: 5"


def test_a_formula_of_macs_that_is_wrong(monkeypatch):
    right = PRIMITIVES["linear"]
    wrong = Primitive(macs=lambda a: a["channels"] * 1, parameters=right.parameters)
    monkeypatch.setitem(PRIMITIVES, "linear", wrong)
    space = replace(TINY)  # its tables are made anew
    report = verify_space(space, architectures=1, onnx=False)
    assert failed(report) == {"macs"}
    assert "(linear) has" in report["macs"].detail


class CutBias(Attention):
    """As in AutoFormer's code: the bias is cut as the first entries, whatever they were for."""

    def weights(self, layer):
        weights = dict(super().weights(layer))
        every = [b.reshape(-1) for b in (self.query_bias, self.key_bias, self.value_bias)]
        return {**weights, "bias": torch.cat(every)[: len(weights["bias"])]}


def test_bias_rows_that_are_cut_wrongly(monkeypatch):
    monkeypatch.setitem(ELASTIC, "attention", CutBias)
    report = verify_space(SPACES[1], architectures=2)  # the vision transformer
    assert failed(report) == {"attention rows"}
    assert "heads of" in report["attention rows"].detail
    assert report["attention rows"].detail.endswith(" bias")


class CutRows(Attention):
    """Weight rows that are the first of all rows, so a row changes its role with the heads."""

    def weights(self, layer):
        weights = dict(super().weights(layer))
        whole = [w.flatten(0, 1) for w in (self.query, self.key, self.value)]
        rows = torch.cat(whole)[: len(weights["bias"]), : layer.in_channels]
        return {**weights, "weight": rows}


def test_weight_rows_that_are_cut_wrongly(monkeypatch):
    monkeypatch.setitem(ELASTIC, "attention", CutRows)
    report = verify_space(SPACES[1], architectures=2)
    assert failed(report) == {"attention rows"}
    assert report["attention rows"].detail.endswith(" weight")


class Halving(nn.Module):
    def __init__(self, layer):
        super().__init__()

    def forward(self, x):
        return x[..., ::2, ::2]


class ElasticHalving(ElasticPrimitive):
    def run(self, layer, inputs, weights):
        return inputs[0][..., ::2, ::2]


def test_an_output_of_another_size_than_declared(own):
    own(elastic=ElasticHalving, static=Halving, parameters=lambda a: 0)
    report = verify_space(OwnSpace(), architectures=2)
    assert failed(report) == {"output shapes"}
    assert "layer own (own) writes (4, 3, 3), stated: (4, 6, 6)" in report["output shapes"].detail


def test_an_emitter_that_is_wrong(own):
    def emit_wrong(e, layer):
        x = e.input(layer)
        offset = e.constant(f"{layer.name}.offset", e.weights(layer)["offset"][:, None, None] + 1)
        return Value(e.node("Add", [x.name, offset], layer.name), x.is_map)

    own(emitter=emit_wrong)
    report = verify_space(OwnSpace(), architectures=2)
    assert failed(report) == {"onnx == torch"}
    assert report["onnx == torch"].detail == "genes [0]: layer own"


class Counting(Shift):
    """Changes its shared weights while it runs."""

    def run(self, layer, inputs, weights):
        self.offset.data += 0.5
        return super().run(layer, inputs, self.weights(layer))


def test_a_supernet_that_is_changed_by_running_it(own):
    own(elastic=Counting)
    report = verify_space(OwnSpace(), architectures=2, onnx=False)
    assert "supernet untouched" in failed(report)
    assert "primitives.own.offset was changed" in report["supernet untouched"].detail


def test_what_is_not_saved(own):
    made = itertools.count()

    class Forgetful(PlainShift):
        """What it multiplies with is no weight, and other in every second module."""

        def __init__(self, layer):
            super().__init__(layer)
            self.factor = 1.0 + next(made) % 2

        def forward(self, x):
            return super().forward(x) * self.factor

    own(static=Forgetful)
    report = verify_space(OwnSpace(), architectures=2, onnx=False)
    assert failed(report) == {"loaded == extracted"}


def test_genes_that_do_not_come_back():
    @dataclass(frozen=True, kw_only=True)
    class Confused(type(TINY)):
        """Encodes every architecture as the first."""

        def encode(self, architectures):
            return 0 * super().encode(architectures)

    space = Confused(**{f.name: getattr(TINY, f.name) for f in fields(TINY)})
    report = verify_space(space, architectures=1, onnx=False)
    assert failed(report) == {"genes"}
    assert report["genes"].detail.endswith("comes back otherwise")


class Raising(Shift):
    def run(self, layer, inputs, weights):
        raise RuntimeError("out of luck")


def test_an_error_is_a_failure_and_does_not_stop_the_others(own):
    own(elastic=Raising)
    report = verify_space(OwnSpace(), architectures=2)
    assert not report.ok
    detail = report["extracted == sliced"].detail
    assert detail == "genes [0]: RuntimeError: out of luck"
    assert report["supernet untouched"].passed
    assert report["genes"].passed
    assert report["parameters"].detail == "no case: nothing was checked"


class Narrow(SelfAttention):
    """Has one row too many."""

    def __init__(self, layer):
        super().__init__(layer)
        self.bias = nn.Parameter(torch.zeros(len(self.bias) + 1))


def test_a_module_that_the_weights_do_not_fit(monkeypatch):
    monkeypatch.setitem(STATIC, "attention", Narrow)
    report = verify_space(SPACES[1], architectures=1, onnx=False)
    assert "size mismatch" in report["extracted == sliced"].detail
    assert report["attention rows"].passed


# ---- its parts ---------------------------------------------------------------------------------


def test_nothing_is_an_identity_in_a_perturbed_supernet():
    supernet = perturbed_supernet(SPACES[3], seed=3)
    for name, value in supernet.named_parameters():
        assert value.std() > 0.05 or "embedding" in name or value.numel() == 1, name
        if value.ndim == 2 and value.shape[0] == value.shape[1]:
            assert not torch.equal(value, torch.eye(len(value))), name
    again = perturbed_supernet(SPACES[3], seed=3)
    assert supernet.weights_hash() == again.weights_hash()
    assert supernet.weights_hash() != perturbed_supernet(SPACES[3], seed=4).weights_hash()


@pytest.mark.parametrize("architectures", [1, 5, 20])
def test_rows_are_distinct_and_hold_the_extremes(architectures):
    for space in SPACES:
        rows = proof_rows(space, architectures, seed=1)
        assert len(np.unique(rows, axis=0)) == len(rows)
        assert (rows == space.extremes("smallest")[0]).all(axis=1).any()
        assert (rows == space.extremes("largest")[-1]).all(axis=1).any()
        assert architectures + 2 <= len(rows) <= 2 * architectures + 2
        np.testing.assert_array_equal(space.canonical(rows), rows)
        np.testing.assert_array_equal(proof_rows(space, architectures, seed=1), rows)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (4, 3, 8, 8), (4, 1, 9, 8), (4, 8, 8)])
def test_images_that_do_not_fit_are_refused(shape):
    with pytest.raises(BadInputError, match=r"images must be n x \(1, 8, 8\) with n >= 2"):
        verify_space(TINY, images=torch.zeros(shape))


def test_no_architectures_are_refused():
    with pytest.raises(BadInputError, match="architectures must be >= 1, got 0"):
        verify_space(TINY, architectures=0)


def test_report_as_text():
    report = verify_space(TINY, architectures=1, onnx=False)
    lines = str(report).splitlines()
    assert lines[0].split() == ["check", "result", "cases", "largest", "difference", "detail"]
    assert [line.split("  ")[0] for line in lines[1:-1]] == list(CHECKS)
    assert lines[-1] == f"HybridSpace: all checks hold for {report.architectures} architectures"
    with pytest.raises(KeyError):
        report["mac"]
