"""Choosing among files that take pixels: timed, judged and shipped as they are deployed."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from deployment import deploy, open_session
from deployment.bundles.deployed import OTHER_INPUT
from deployment.bundles.input import Interface
from deployment.bundles.making import made_files
from deployment.emission.preprocessing import Preprocessing, preprocessing_of
from deployment.numerics import Numerics
from deployment.quantisation.quantised import Quantiser
from deployment.selection.checks import Judge
from deployment.selection.select import select_kernels
from deployment.variant import Variant
from deployment.variant_files import variant_file
from records import BadInputError
from supernet import Split
from supernet.data import Normalisation
from tests.deployment.doubles import CNN, HYBRID, TARGET, VIT, rows_of, shaken_subnet
from tests.deployment.known_times import KnownRunner, is_int8, operators

KNOWN = Normalisation(mean=(0.4, 0.5, 0.3), deviation=(0.2, 0.25, 0.3), source_size=(16, 16))
INSIDE = Preprocessing(mean=KNOWN.mean, std=KNOWN.deviation)
TAKES_PIXELS = Interface(normalisation=KNOWN, takes_pixels=True)


def photos(count, seed=0):
    """Images that were bytes once."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return torch.from_numpy(INSIDE.normalised(pixels))


@pytest.fixture(scope="module")
def vit():
    return shaken_subnet(VIT, rows_of(VIT, 0)[0])


@pytest.fixture(scope="module")
def split(vit):
    images = photos(220)
    with torch.no_grad():
        return Split(images, vit(images).argmax(1))


def select(subnet, runner, split=None, **options):
    given = {"calibration_images": None, "preprocessing": INSIDE}
    return select_kernels(subnet, TARGET, runner=runner, validation=split, **(given | options))


class PixelRunner(KnownRunner):
    """Keeps the type of what each file takes."""

    def __init__(self, ms):
        super().__init__(ms)
        self.types = set()

    def time(self, models, **options):
        for model in models:
            entry = onnx.load_from_string(model).graph.input[0].type.tensor_type
            self.types.add((entry.elem_type, tuple(d.dim_value for d in entry.shape.dim)))
        return super().time(models, **options)


def test_every_file_that_is_timed_takes_pixels(vit, split):
    runner = PixelRunner(lambda model, how: 5.0 if is_int8(model) else 10.0)
    selection = select(vit, runner, split, calibration_images=photos(16, seed=3), largest_loss=0.9)
    assert runner.types == {(onnx.TensorProto.UINT8, (1, 16, 16, 3))}
    assert {one.variant.numerics.way for one in selection.tried} == {"fp32", "dynamic", "static"}
    assert selection.chosen.variant.numerics.way in ("dynamic", "static")
    assert selection.preprocessing == INSIDE
    record = json.loads(json.dumps(selection.to_json(), allow_nan=False))
    assert Preprocessing.from_json(record["preprocessing"]) == INSIDE


def test_the_preprocessing_may_decide():
    """A file is slow by what its preprocessing needs, which no plain file shows."""
    subnet = shaken_subnet(CNN, rows_of(CNN, 0)[0])

    def ms(model, how):
        return 10.0 + 5.0 * ("Mul" in operators(model)) - 3.0 * is_int8(model)

    images = photos(220)
    with torch.no_grad():
        split = Split(images, subnet(images).argmax(1))
    options = {"calibration_images": images[:32], "largest_loss": 0.9}
    plain = select(subnet, KnownRunner(ms), split, preprocessing=None, **options)
    assert plain.chosen.variant.numerics.way != "fp32"
    inside = select(subnet, KnownRunner(ms), split, **options)
    assert inside.chosen.variant.numerics.way == "fp32"  # its convolution takes the factors in


def test_the_chosen_file_is_what_is_written_for_pixels(vit, split):
    runner = KnownRunner(lambda model, how: 8.0 if "Softmax" in operators(model) else 10.0)
    selection = select(vit, runner, split, numerics=("fp32",))
    chosen = selection.chosen
    assert chosen.variant.forms.attention == "plain"
    assert selection.data == variant_file(vit, chosen.variant, 1, preprocessing=INSIDE)
    assert chosen.relative_error < 1e-5  # as compared with torch on the same bytes
    pixels = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    session = open_session(selection.data)
    theirs = np.concatenate([session.run(None, {"images": p[None]})[0] for p in pixels])
    with torch.no_grad():
        ours = vit(torch.from_numpy(INSIDE.normalised(pixels))).numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-5 * np.abs(ours).max())


def test_accuracy_is_judged_on_the_bytes(vit, split):
    """The loss of a file that takes pixels is that of the file that takes tensors."""
    variant = Variant(numerics=Numerics(way="dynamic"))
    judges = [
        Judge(vit, split, batch_size=1, largest_loss=0.01, threads=1, seed=0, preprocessing=p)
        for p in (None, INSIDE)
    ]
    found = []
    for judge, inside in zip(judges, (None, INSIDE), strict=True):
        judge.take_images(220)
        found.append(judge.inexact(variant_file(vit, variant, 1, preprocessing=inside)))
    tensors, pixels = found
    assert pixels.loss == pytest.approx(tensors.loss, abs=1 / 220)
    assert pixels.relative_error == pytest.approx(tensors.relative_error, rel=0.05)
    assert judges[1].fp32_accuracy == 1.0
    wrong = replace(INSIDE, mean=(0.3, 0.3, 0.3))
    other = judges[1].inexact(variant_file(vit, variant, 1, preprocessing=wrong))
    assert other.relative_error > 3 * pixels.relative_error


def test_a_wrong_preprocessing_is_no_exact_file(vit, split):
    data = variant_file(vit, Variant(), 1, preprocessing=INSIDE)
    judge = Judge(
        vit, split, batch_size=1, largest_loss=0.01, threads=1, seed=0, preprocessing=INSIDE
    )
    assert judge.exact(data).is_kept
    model = onnx.load_from_string(data)
    entry = next(e for e in model.metadata_props if e.key == "preprocessing")
    entry.value = replace(INSIDE, std=(0.2, 0.25, 0.31)).to_text()  # the nodes do other things
    assert not judge.exact(model.SerializeToString()).is_kept


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        (Preprocessing(mean=(0.5,), std=(0.5,)), "3 channels"),
        (replace(INSIDE, size=(32, 32)), "32 x 32 are resized inside the file to 16 x 16"),
    ],
)
def test_what_cannot_be_judged_is_refused_at_once(vit, inside, words):
    runner = KnownRunner(lambda model, how: 10.0)
    with pytest.raises(BadInputError, match=words):
        select(vit, runner, preprocessing=inside)
    assert not runner.calls


def test_without_images_random_ones_are_made_bytes(vit):
    selection = select(vit, KnownRunner(lambda model, how: 10.0))
    assert selection.chosen.relative_error < 1e-5


# ---- from the selection into the bundle --------------------------------------------------------


def deployed(folder, subnet, selection, interface, **options):
    row = rows_of(HYBRID, 0)[0]
    given = {
        "target": TARGET, "architecture": HYBRID.decode(row)[0].to_json(),
        "space": HYBRID.to_json(), "predicted": {"latency_ms": 1.0}, "facts": {}, "runner": None,
        "images": photos(24, seed=5), "selection": selection, "interface": interface,
    }  # fmt: skip
    return deploy(subnet, folder, **(given | options))


def test_the_selected_file_is_shipped_and_not_made_again(tmp_path, monkeypatch):
    subnet = shaken_subnet(HYBRID, rows_of(HYBRID, 0)[0])
    images = photos(220)
    with torch.no_grad():
        split = Split(images, subnet(images).argmax(1))
    selection = select(
        subnet, KnownRunner(lambda model, how: 5.0 if is_int8(model) else 10.0), split,
        numerics=("fp32", "static"), calibration_images=photos(32, seed=2), largest_loss=0.9,
    )  # fmt: skip
    assert selection.chosen.variant.numerics.way == "static"
    monkeypatch.setattr(Quantiser, "file", lambda *args: pytest.fail("the file is there"))
    bundle = deployed(tmp_path / "bundle", subnet, selection, TAKES_PIXELS)
    assert bundle.model_path.read_bytes() == selection.data
    assert preprocessing_of(onnx.load_from_string(selection.data)) == bundle.inside == INSIDE
    assert OTHER_INPUT not in bundle.record["selection"]["notes"]
    assert 0 < bundle.quantised.relative_error < 0.25
    assert bundle.quantised.are_real


def test_another_input_than_the_selections_is_made_and_noted(tmp_path):
    subnet = shaken_subnet(HYBRID, rows_of(HYBRID, 0)[0])
    selection = select(
        subnet, KnownRunner(lambda model, how: 10.0), preprocessing=None, numerics=("fp32",)
    )
    bundle = deployed(tmp_path / "bundle", subnet, selection, TAKES_PIXELS)
    assert bundle.inside == INSIDE
    assert bundle.model_path.read_bytes() != selection.data
    assert OTHER_INPUT in bundle.record["selection"]["notes"]
    assert OTHER_INPUT in (bundle.folder / "README.md").read_text()


def test_a_file_for_any_batch_is_made_anew():
    subnet = shaken_subnet(HYBRID, rows_of(HYBRID, 0)[0])
    selection = select(subnet, KnownRunner(lambda model, how: 10.0), numerics=("fp32",))
    variant = selection.chosen.variant
    fixed = made_files(subnet, variant, TARGET, TAKES_PIXELS, selection=selection)
    assert fixed.data is fixed.timed is selection.data
    tensors = made_files(subnet, variant, TARGET, Interface(), selection=selection)
    assert tensors.data == variant_file(subnet, variant, 1)  # what other runtimes stand beside
    loose = replace(TAKES_PIXELS, any_batch=True)
    found = made_files(subnet, variant, TARGET, loose, selection=selection)
    assert open_session(found.data).get_inputs()[0].shape == ["batch", 16, 16, 3]
    assert open_session(found.timed).get_inputs()[0].shape == [1, 16, 16, 3]
    other = made_files(
        subnet, replace(variant, forms=replace(variant.forms, norms="kept")), TARGET,
        TAKES_PIXELS, selection=selection,
    )  # fmt: skip
    assert other.data != selection.data
