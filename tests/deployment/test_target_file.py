"""Files of int8 targets: what they are, how far they may be off, what the bundle says."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from deployment import (
    VerificationError,
    deploy,
    emit,
    quantise,
    target_file,
    verify_quantised,
)
from deployment.bundles.bundle import load_model
from deployment.target_file import LARGEST_ERROR, LEAST_TOP1
from hardware_profiles import Quantity, Target
from latency_models import RooflineCostModel
from records import BadInputError, UnknownNameError, read_json
from search_spaces import WithBlockPrecision
from tests.deployment.doubles import (
    HYBRID,
    PROFILE,
    TARGET,
    CountingRunner,
    rows_of,
    shaken_subnet,
)

ROW = rows_of(HYBRID, 1)[-1]
PEAK = {**PROFILE.peak_gflops, "int8": Quantity(value=40.0, source="test")}
INT8 = Target(profile=replace(PROFILE, peak_gflops=PEAK), precision="int8")


@pytest.fixture(scope="module")
def subnet():
    return shaken_subnet(HYBRID, ROW)


@pytest.fixture(scope="module")
def images():
    shape = (24, HYBRID.channels, HYBRID.image_size, HYBRID.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def deployed(subnet, folder, **options):
    given = {
        "target": INT8,
        "architecture": HYBRID.decode(ROW)[0].to_json(),
        "space": HYBRID.to_json(),
        "predicted": {},
        "facts": {},
        "runner": None,
    }
    return deploy(subnet, folder, **(given | options))


def operators(model):
    return {node.op_type for node in model.graph.node}


def test_static_files_hold_scales_from_the_images_given(subnet, images, tmp_path):
    runner = CountingRunner()
    bundle = deployed(
        subnet, tmp_path / "static", calibration_images=images, images=images, runner=runner
    )
    emitted = emit(subnet, 1).SerializeToString()
    expected = quantise(emitted, mode="static", images=images.numpy())
    assert bundle.model_path.read_bytes() == expected
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(load_model(bundle.folder))
    assert runner.calls[0]["models"] == [expected]
    record = read_json(bundle.folder / "bundle.json", kind="bundle")
    assert record["precision"] == record["target"]["precision"] == "int8"
    assert record["quantised"]["mode"] == "static"
    assert record["quantised"]["calibration_images"] == record["quantised"]["images"] == 24
    assert 0 < record["quantised"]["relative_error"] < LARGEST_ERROR
    assert record["quantised"]["top1_agreement"] >= LEAST_TOP1 == record["quantised"]["least_top1"]
    assert record["agreement"]["relative_difference"] < 1e-4  # of the fp32 file


def test_dynamic_files_need_no_images(subnet, tmp_path):
    bundle = deployed(subnet, tmp_path / "dynamic", quantisation="dynamic")
    assert operators(load_model(bundle.folder)) & {"MatMulInteger", "DynamicQuantizeLinear"}
    assert bundle.quantised.mode == "dynamic"
    assert bundle.quantised.calibration_images == 0
    assert not bundle.quantised.are_real
    assert bundle.record["quantised"]["least_top1"] is None


def test_a_file_in_fp32_stays_as_it_is_emitted(subnet, tmp_path):
    emitted = emit(subnet, 1).SerializeToString()
    assert target_file(emitted, TARGET) is emitted
    bundle = deployed(subnet, tmp_path / "fp32", target=TARGET)
    assert bundle.model_path.read_bytes() == emitted
    assert bundle.record["precision"] == "fp32"
    assert bundle.record["quantised"] is bundle.quantised is None


def test_static_int8_without_images_says_what_to_do(subnet, tmp_path):
    with pytest.raises(BadInputError, match=r"calibration_images=data.train.images.*dynamic"):
        deployed(subnet, tmp_path / "none")
    with pytest.raises(BadInputError, match="at least 1 images"):
        deployed(subnet, tmp_path / "none", calibration_images=torch.zeros(0, 3, 16, 16))
    with pytest.raises(UnknownNameError, match="quantisation"):
        deployed(subnet, tmp_path / "none", quantisation="half")
    assert not (tmp_path / "none").exists()


def test_error_and_agreement_by_hand(subnet, images):
    data = quantise(emit(subnet, 4).SerializeToString(), mode="static", images=images.numpy())
    found = verify_quantised(subnet, data, images[:22], quantisation="static")
    assert found.images == 20  # whole batches of 4
    session_input = images[:20].numpy().reshape(5, 4, *images.shape[1:])
    from deployment import open_session

    session = open_session(data)
    theirs = np.concatenate([session.run(None, {"images": b})[0] for b in session_input])
    with torch.no_grad():
        ours = subnet(images[:20]).numpy()
    error = np.sqrt(((ours - theirs) ** 2).mean()) / ours.std()
    assert found.relative_error == pytest.approx(error, rel=1e-5)
    assert found.top1_agreement == (ours.argmax(1) == theirs.argmax(1)).mean()


def test_scales_from_other_images_are_refused(subnet, images, tmp_path):
    """Scales of images a hundredth as large cut everything off."""
    with pytest.raises(VerificationError, match=r"static int8 file differs.*calibration images"):
        deployed(subnet, tmp_path / "cut", calibration_images=images / 100, images=images)
    assert not (tmp_path / "cut").exists()


def test_another_network_is_refused(subnet, images):
    other = shaken_subnet(HYBRID, rows_of(HYBRID, 2)[0])
    data = quantise(emit(other, 1).SerializeToString(), mode="dynamic")
    with pytest.raises(VerificationError, match="dynamic int8 file differs"):
        verify_quantised(subnet, data, quantisation="dynamic")


def test_a_cost_model_hands_the_images_on(subnet, images, tmp_path):
    costs = RooflineCostModel(HYBRID, INT8)
    architecture = HYBRID.decode(ROW)[0]
    with pytest.raises(BadInputError, match="calibration_images"):
        costs.deploy(subnet, architecture, tmp_path / "none", {})
    bundle = costs.deploy(
        subnet, architecture, tmp_path / "some", {}, calibration_images=images, images=images
    )
    assert bundle.record["quantised"]["are_real"] is True
    onnx.checker.check_model(load_model(bundle.folder))


def test_blocks_that_stay_in_fp32_are_on_the_record(subnet, images, tmp_path):
    bundle = deployed(
        subnet, tmp_path / "mixed", calibration_images=images, fp32_blocks=("stem", "classifier")
    )
    emitted = emit(subnet, 1).SerializeToString()
    expected = quantise(
        emitted, mode="static", images=images.numpy(), fp32_blocks=("stem", "classifier")
    )
    assert bundle.model_path.read_bytes() == expected
    assert bundle.record["fp32_blocks"] == ["stem", "classifier"]
    with pytest.raises(UnknownNameError, match="did you mean 'stem'"):
        target_file(emitted, INT8, calibration_images=images, fp32_blocks=("stm",))


def test_a_cost_model_deploys_the_precisions_of_the_architecture(subnet, images, tmp_path):
    space = WithBlockPrecision(base=HYBRID)
    costs = RooflineCostModel(space, INT8)
    (row,) = space.with_fp32(ROW[None], ["stage1"])
    architecture = space.decode(row)[0]
    bundle = costs.deploy(
        subnet, architecture, tmp_path / "mixed", {}, calibration_images=images, images=images
    )
    assert bundle.record["fp32_blocks"] == ["stage1"]
    assert bundle.record["architecture"] == architecture.to_json()
    model = load_model(bundle.folder)
    read = {name for node in model.graph.node if node.name.startswith("stage1.")
            for name in node.input}  # fmt: skip
    small = {entry.name for entry in model.graph.initializer if entry.data_type == 3}
    assert small
    assert not any(name.startswith("stage1.") and name in small for name in read)
    (whole,) = space.with_fp32(ROW[None], space.blocks)
    bundle = costs.deploy(subnet, space.decode(whole)[0], tmp_path / "fp32", {})
    assert bundle.model_path.read_bytes() == emit(subnet, 1).SerializeToString()
