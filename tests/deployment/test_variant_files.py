from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from deployment import emit, open_session, quantise
from deployment.emission.forms import DEFAULT, Forms
from deployment.emission.preprocessing import Preprocessing
from deployment.numerics import Numerics
from deployment.session_settings import SessionSettings
from deployment.variant import Variant
from deployment.variant_files import VariantFiles, half_precision, variant_file
from records import BadInputError, CorruptFileError, UnknownNameError
from tests.deployment.doubles import CNN, HYBRID, VIT, rows_of, shaken_subnet

CARD = SessionSettings(provider="cuda")
PLAIN = Forms(attention="plain")


@pytest.fixture(scope="module")
def vit():
    return shaken_subnet(VIT, rows_of(VIT, 0)[0])


@pytest.fixture(scope="module")
def images():
    return torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def logits_of(data, images):
    session = open_session(data)
    entry = session.get_inputs()[0]
    size = entry.shape[0]
    parts = images.reshape(-1, size, *images.shape[1:])
    return np.concatenate([session.run(None, {entry.name: part})[0] for part in parts])


def test_an_fp32_variant_is_what_is_emitted_in_its_forms(vit):
    assert variant_file(vit, Variant(), 2) == emit(vit, 2).SerializeToString()
    plain = variant_file(vit, Variant(forms=PLAIN), 2)
    assert (
        plain == emit(vit, 2, forms=PLAIN).SerializeToString() != variant_file(vit, Variant(), 2)
    )


def test_int8_variants_are_what_the_quantiser_makes_of_it(vit, images):
    emitted = emit(vit, 4, forms=PLAIN).SerializeToString()
    for way, given in (("dynamic", None), ("static", images)):
        blocks = ("classifier",)
        variant = Variant(forms=PLAIN, numerics=Numerics(way=way, fp32_blocks=blocks))
        ours = variant_file(vit, variant, 4, calibration_images=images)
        theirs = quantise(
            emitted, mode=way, images=None if given is None else given.numpy(), fp32_blocks=blocks
        )
        np.testing.assert_array_equal(
            logits_of(ours, images.numpy()), logits_of(theirs, images.numpy())
        )
        whole = replace(variant, numerics=Numerics(way=way))
        assert variant_file(vit, whole, 4, calibration_images=images) != ours


def test_what_variants_share_is_made_once(vit, images, monkeypatch):
    emitted = []
    real = emit
    monkeypatch.setattr(
        "deployment.variant_files.emit",
        lambda *a, **k: emitted.append(k["forms"]) or real(*a, **k),
    )
    files = VariantFiles(vit, 1, calibration_images=images)
    for way in ("fp32", "dynamic", "static"):
        first = files.data(Variant(numerics=Numerics(way=way)))
        assert files.data(Variant(numerics=Numerics(way=way))) is first
    files.data(Variant(numerics=Numerics(way="static", fp32_blocks=("classifier",))))
    files.data(Variant(settings=SessionSettings(threads=2)))
    assert emitted == [DEFAULT]
    assert files.quantiser(DEFAULT, "static") is files.quantiser(DEFAULT, "static")


def test_static_int8_needs_images(vit):
    with pytest.raises(BadInputError, match="pass calibration_images"):
        variant_file(vit, Variant(numerics=Numerics(way="static")), 1)


@pytest.mark.parametrize("space", [CNN, VIT, HYBRID], ids=["cnn", "vit", "hybrid"])
def test_half_precision_halves_the_weights_and_keeps_the_answers(space, images):
    subnet = shaken_subnet(space, rows_of(space, 0)[0])
    variant = Variant(forms=PLAIN, numerics=Numerics(way="fp16"), settings=CARD)
    full = variant_file(subnet, Variant(forms=PLAIN), 1)
    half = variant_file(subnet, variant, 1)
    assert len(half) < 0.75 * len(full)
    model = onnx.load_from_string(half)
    types = {v.type.tensor_type.elem_type for v in [*model.graph.input, *model.graph.output]}
    assert types == {onnx.TensorProto.FLOAT}
    assert onnx.TensorProto.FLOAT16 in {t.data_type for t in model.graph.initializer}
    ours, theirs = logits_of(half, images.numpy()), logits_of(full, images.numpy())
    assert 0 < np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()


def test_blocks_stay_in_fp32_in_half_precision(vit):
    full = variant_file(vit, Variant(forms=PLAIN), 1)
    whole, kept = half_precision(full), half_precision(full, ("classifier",))

    def weights(data):
        model = onnx.load_from_string(data)
        return {t.name: t.data_type for t in model.graph.initializer if len(t.dims) == 2}

    changed = {n for n, kind in weights(kept).items() if kind != weights(whole).get(n)}
    assert changed == {"classifier.weight"}
    with pytest.raises(UnknownNameError, match="block 'nothing'"):
        half_precision(full, ("nothing",))


def test_half_precision_of_what_cannot_be_converted_is_refused(vit, monkeypatch):
    def fails(*_args, **_kwargs):
        raise RuntimeError("odd operator")

    monkeypatch.setattr("onnxruntime.transformers.float16.convert_float_to_float16", fails)
    with pytest.raises(CorruptFileError, match="cannot be converted to fp16: odd operator"):
        half_precision(variant_file(vit, Variant(), 1))


@pytest.mark.parametrize(
    ("settings", "way", "words"),
    [
        (SessionSettings(), "fp16", r"'cpu' does not take files in fp16.*taken by: cuda"),
        (CARD, "static", r"'cuda' does not take files in int8 static; it takes fp32, fp16"),
    ],
)
def test_numbers_that_a_provider_does_not_take_are_refused(vit, images, settings, way, words):
    variant = Variant(numerics=Numerics(way=way), settings=settings)
    with pytest.raises(BadInputError, match=words):
        variant_file(vit, variant, 1, calibration_images=images)


@pytest.mark.parametrize("way", ["fp32", "dynamic", "static"])
def test_preprocessing_goes_before_every_kind_of_file(vit, images, way):
    preprocessing = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    variant = Variant(numerics=Numerics(way=way))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    data = variant_file(vit, variant, 1, calibration_images=images, preprocessing=preprocessing)
    plain = variant_file(vit, variant, 1, calibration_images=images)
    ours = logits_of(data, pixels)
    theirs = logits_of(plain, preprocessing.normalised(pixels))
    np.testing.assert_allclose(ours, theirs, atol=(1e-4 if way == "fp32" else 0.05)
                               * np.abs(theirs).max())  # fmt: skip
