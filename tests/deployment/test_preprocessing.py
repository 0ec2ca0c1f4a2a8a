from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

from deployment import (
    Forms,
    Preprocessing,
    VerificationError,
    emit,
    open_session,
    preprocessed,
    preprocessing_of,
    quantise,
    verify,
)
from deployment.emission.preprocessing import METADATA
from experiments.dataset_files import Labelled
from experiments.dataset_splits import Published, to_splits
from records import BadInputError, UnknownNameError
from search_spaces import SearchSpace
from search_spaces.blocks import classifier
from tests.deployment.doubles import SPACES, VIT, ZOO, rows_of, shaken_subnet

COLOUR = Preprocessing(mean=(0.49, 0.48, 0.1), std=(0.25, 0.3, 0.02))
GREY = Preprocessing(mean=(0.286,), std=(0.353,))


@dataclass(frozen=True, kw_only=True)
class First(SearchSpace):
    """A network with one kind of first convolution."""

    image_size: int = 12
    padding: int = 1
    bias: bool = False
    groups: int = 1
    twice: bool = False

    def build(self, net, images):
        width = net.choice("width", (6, 12))
        x = net.conv2d(images, width, kernel=3, padding=self.padding, bias=self.bias,
                       groups=self.groups, name="first")  # fmt: skip
        x = net.activation(net.scale(net.batch_norm(x)), "hardswish")
        if self.twice:
            x = net.add(x, net.conv2d(images, width, kernel=3, padding=self.padding, name="too"))
        return classifier(net, x, self.num_classes)


def pixels_for(subnet, preprocessing, n=3, seed=0):
    """Random pixels for a file, with black and white ones."""
    first = subnet.graph.layers[0]
    shape = preprocessing.image_shape((first.channels, first.height, first.width))
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    pixels[0], pixels[1] = 0, 255
    return pixels if preprocessing.dtype == "uint8" else (pixels / 255).astype(np.float32)


def difference(subnet, model, preprocessing, n=3):
    """Of the logits from pixels and those of torch from normalised images."""
    pixels = pixels_for(subnet, preprocessing, n)
    first = subnet.graph.layers[0]
    images = preprocessing.normalised(pixels, (first.height, first.width))
    with torch.no_grad():
        ours = subnet(torch.from_numpy(images)).numpy()
    (theirs,) = open_session(model.SerializeToString()).run(None, {"images": pixels})
    return np.abs(ours - theirs).max() / np.abs(ours).max()


def operators(model):
    return [node.op_type for node in model.graph.node]


FIRST = {
    "padded": (First(), ["Transpose", "Cast", "Sub", "Conv"]),
    "padded, with bias": (First(bias=True), ["Transpose", "Cast", "Sub", "Conv"]),
    "not padded": (First(padding=0), ["Transpose", "Cast", "Conv"]),
    "not padded, with bias": (First(padding=0, bias=True), ["Transpose", "Cast", "Conv"]),
    "grey": (First(channels=1), ["Reshape", "Cast", "Sub", "Conv"]),
    "grouped": (First(groups=3), ["Transpose", "Cast", "Sub", "Mul", "Conv"]),
    "read twice": (First(twice=True, padding=0), ["Transpose", "Cast", "Sub", "Mul", "Conv"]),
}


@pytest.mark.parametrize("forms", [Forms(), Forms(norms="kept")], ids=["folded", "kept"])
@pytest.mark.parametrize("name", FIRST)
def test_pixels_give_the_logits_of_normalised_images(name, forms):
    space, begins = FIRST[name]
    preprocessing = GREY if space.channels == 1 else COLOUR
    subnet = shaken_subnet(space, [1])
    model = emit(subnet, 3, forms=forms, preprocessing=preprocessing)
    onnx.checker.check_model(model, full_check=True)
    assert operators(model)[: len(begins)] == begins
    assert difference(subnet, model, preprocessing) <= 1e-5


def test_a_mean_in_the_bias_of_a_padded_convolution_would_be_wrong():
    """Why it is subtracted before: padding is zero after the normalisation, not before."""
    subnet = shaken_subnet(First(), [1])
    wrong = emit(subnet, 3, preprocessing=COLOUR)
    (sub,) = (node for node in wrong.graph.node if node.op_type == "Sub")
    weight = next(e for e in wrong.graph.initializer if e.name == "first.weight")
    bias = next(e for e in wrong.graph.initializer if e.name == "first.bias")
    mean = next(e for e in wrong.graph.initializer if e.name == sub.input[1])
    shift = np.einsum("oikl,izz->o", onnx.numpy_helper.to_array(weight),
                      onnx.numpy_helper.to_array(mean))  # fmt: skip
    folded = onnx.numpy_helper.to_array(bias) - shift
    bias.CopyFrom(onnx.numpy_helper.from_array(folded.astype(np.float32), bias.name))
    mean.CopyFrom(onnx.numpy_helper.from_array(np.zeros((3, 1, 1), np.float32), mean.name))
    assert difference(subnet, wrong, COLOUR) > 1e-3


@pytest.mark.parametrize("name", [*SPACES, "zoo"])
@pytest.mark.parametrize("batch_size", [3, None])
def test_every_family_takes_pixels(name, batch_size):
    space = {**SPACES, "zoo": ZOO}[name]
    preprocessing = replace(COLOUR, mean=COLOUR.mean[: space.channels],
                            std=COLOUR.std[: space.channels])  # fmt: skip
    for seed, row in enumerate(rows_of(space, 1)[-2:]):
        subnet = shaken_subnet(space, row, seed)
        model = emit(subnet, batch_size, preprocessing=preprocessing)
        assert difference(subnet, model, preprocessing) <= 1e-5


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_layouts_and_types(layout, dtype):
    preprocessing = replace(COLOUR, layout=layout, dtype=dtype)
    subnet = shaken_subnet(VIT, rows_of(VIT, 0)[0])
    model = emit(subnet, 3, preprocessing=preprocessing)
    (images,) = open_session(model.SerializeToString()).get_inputs()
    assert images.type == {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[dtype]
    assert images.shape == ([3, 16, 16, 3] if layout == "hwc" else [3, 3, 16, 16])
    assert difference(subnet, model, preprocessing) <= 1e-5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fields", [
    {"border": (2, 1)}, {"size": (20, 9)}, {"size": (9, 7), "border": (1, 2), "layout": "chw"},
])  # fmt: skip
def test_borders_and_other_sizes(fields, channels):
    preprocessing = replace(GREY if channels == 1 else COLOUR, **fields)
    for padding in (0, 1):
        subnet = shaken_subnet(First(channels=channels, padding=padding), [1])
        model = emit(subnet, 3, preprocessing=preprocessing)
        assert difference(subnet, model, preprocessing) <= 1e-5


# ---- what the datasets do ----------------------------------------------------------------------


def published(side, channels):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (60, side, side, channels), dtype=np.uint8)
    images[:, :, :, 0] //= 2
    labels = np.arange(60) % 3
    some = Labelled(images, labels)
    names = ("a", "b", "c")
    return Published(
        name="toy", stream="toy", train=some, test=some, class_names=names
    )  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "pads", "image_size"), [(16, False, None), (28, True, None),
                                                          (20, False, 16)])  # fmt: skip
def test_it_computes_what_the_loader_of_a_dataset_computed(channels, side, pads, image_size):
    raw = published(side, channels)
    source = raw.padded(from_side=28, to_side=32) if pads else raw
    data = to_splits(source, image_size=image_size, train_images=None, seed=0)
    preprocessing = Preprocessing.of(data.normalisation)
    pixels = raw.test.images
    ours = preprocessing.normalised(pixels, (data.image_size, data.image_size))
    np.testing.assert_allclose(ours, data.test.images.numpy(), rtol=0, atol=1e-5)

    subnet = shaken_subnet(First(image_size=data.image_size, channels=channels), [1])
    model = emit(subnet, None, preprocessing=preprocessing)
    (theirs,) = open_session(model.SerializeToString()).run(None, {"images": pixels})
    with torch.no_grad():
        logits = subnet(data.test.images).numpy()
    np.testing.assert_allclose(theirs, logits, rtol=0, atol=1e-5 * np.abs(logits).max())


def test_images_given_as_tensors_have_no_known_preprocessing():
    with pytest.raises(BadInputError, match=r"state Preprocessing\(mean"):
        Preprocessing.of(None)


def test_reference_is_what_torch_computes_step_by_step():
    preprocessing = replace(COLOUR, size=(20, 10), border=(1, 2), layout="chw")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 20, 10), dtype=np.uint8)
    x = F.pad(torch.from_numpy(pixels).double(), (1, 2, 1, 2))
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None]
                 for v in (preprocessing.mean, preprocessing.std))  # fmt: skip
    x = (x / 255 - mean) / std
    x = F.interpolate(x, size=(12, 12), mode="bilinear", antialias=True).numpy()
    found = preprocessing.normalised(pixels, (12, 12))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, x, rtol=0, atol=1e-5 * np.abs(x).max())


# ---- in front of a file ------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [3, None])
def test_in_front_of_a_file_it_computes_the_same(batch_size):
    subnet = shaken_subnet(First(), [1])
    plain = emit(subnet, batch_size)
    before = plain.SerializeToString(deterministic=True)
    model = preprocessed(plain, COLOUR)
    assert plain.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(model, full_check=True)
    assert difference(subnet, model, COLOUR) <= 1e-5
    assert preprocessing_of(model) == COLOUR
    assert preprocessing_of(plain) is None


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_in_front_of_an_int8_file(mode):
    subnet = shaken_subnet(VIT, rows_of(VIT, 0)[0])
    pixels = pixels_for(subnet, COLOUR)
    images = COLOUR.normalised(pixels)
    scaling = {"images": images} if mode == "static" else {}
    data = quantise(emit(subnet, 3).SerializeToString(), mode=mode, **scaling)
    (plain,) = open_session(data).run(None, {"images": images})
    model = preprocessed(onnx.load_from_string(data), COLOUR)
    (found,) = open_session(model.SerializeToString()).run(None, {"images": pixels})
    np.testing.assert_allclose(found, plain, rtol=0, atol=2e-2 * np.abs(plain).max())


def test_in_front_of_a_file_that_cannot_have_it_is_refused():
    subnet = shaken_subnet(First(), [0])
    model = emit(subnet, preprocessing=COLOUR)
    with pytest.raises(BadInputError, match="float32 n x channels"):
        preprocessed(model, COLOUR)
    floats = emit(subnet, preprocessing=replace(COLOUR, layout="chw", dtype="float32"))
    with pytest.raises(BadInputError, match="has a preprocessing already"):
        preprocessed(floats, COLOUR)


# ---- records and bad input ---------------------------------------------------------------------


def test_it_round_trips_and_the_file_states_it():
    one = replace(COLOUR, size=(20, 10), border=(1, 2), layout="chw", dtype="float32")
    assert Preprocessing.from_json(one.to_json()) == one
    assert Preprocessing.from_json(COLOUR.to_json()) == COLOUR
    subnet = shaken_subnet(First(), [0])
    assert preprocessing_of(emit(subnet, preprocessing=one)) == one


@pytest.mark.parametrize("text", ["no json", '{"average": 3}', "{}", "3"])
def test_metadata_that_state_something_else_are_refused(text):
    model = emit(shaken_subnet(First(), [0]), preprocessing=COLOUR)
    entry = next(one for one in model.metadata_props if one.key == METADATA)
    entry.value = text
    with pytest.raises(BadInputError, match="preprocessing"):
        preprocessing_of(model)


@pytest.mark.parametrize(("fields", "message"), [
    ({"std": (1.0,)}, "got 3 and 1"),
    ({"mean": (), "std": ()}, "got 0 and 0"),
    ({"std": (1.0, 0.0, 1.0)}, "positive"),
    ({"mean": (1.0, float("nan"), 1.0)}, "finite"),
    ({"size": (0, 3)}, r"got \(0, 3\)"),
    ({"border": (-1, 3)}, r"got \(-1, 3\)"),
])  # fmt: skip
def test_numbers_that_cannot_be_are_refused(fields, message):
    with pytest.raises(BadInputError, match=message):
        replace(COLOUR, **fields)


@pytest.mark.parametrize(("fields", "names"), [
    ({"layout": "whc"}, "hwc.*chw"), ({"dtype": "int8"}, "uint8.*float32"),
])  # fmt: skip
def test_names_that_do_not_exist_are_refused(fields, names):
    with pytest.raises(UnknownNameError, match=names):
        replace(COLOUR, **fields)


@pytest.mark.parametrize(("preprocessing", "message"), [
    (GREY, "3 channels, the preprocessing states means of 1"),
    (replace(COLOUR, border=(6, 6)), "leaves nothing of images of 12 x 12"),
])  # fmt: skip
def test_preprocessing_of_other_images_is_refused(preprocessing, message):
    with pytest.raises(BadInputError, match=message):
        emit(shaken_subnet(First(), [0]), preprocessing=preprocessing)


def test_any_record_of_a_normalisation_will_do():
    facts = SimpleNamespace(mean=(0.5,), deviation=(0.2,), source_size=(28, 28), border=(2, 2))
    assert Preprocessing.of(facts, dtype="float32") == Preprocessing(
        mean=(0.5,), std=(0.2,), size=(28, 28), border=(2, 2), dtype="float32"
    )


@pytest.mark.parametrize("layout", ["hwc", "chw"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_way_back_gives_what_the_images_were_made_from(layout, dtype):
    inside = replace(COLOUR, layout=layout, dtype=dtype, border=(1, 2), size=(5, 4))
    rng = np.random.default_rng(0)
    given = rng.integers(0, 256, inside.image_shape((3, 8, 7)), dtype=np.uint8)[None]
    if dtype == "float32":
        given = (given / 255).astype(np.float32)
    seen = inside.normalised(given)
    assert seen.shape == (1, 3, 8, 7)
    back = inside.denormalised(seen)
    assert (back.dtype, back.shape) == (given.dtype, given.shape)
    np.testing.assert_allclose(back, given, atol=1e-6)
    assert inside.denormalised(np.full((1, 3, 8, 7), 1e3, np.float32)).max() >= inside.white


def test_there_is_no_way_back_from_another_size():
    inside = replace(COLOUR, size=(12, 12))
    with pytest.raises(BadInputError, match="12 x 12 are resized inside the file to 16 x 16"):
        inside.denormalised(np.zeros((1, 3, 16, 16), np.float32))
    with pytest.raises(BadInputError, match="takes images of 1 channels"):
        COLOUR.denormalised(np.zeros((1, 1, 16, 16), np.float32))


@pytest.mark.parametrize("size", [None, (24, 20)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_files_with_their_preprocessing_are_verified_as_they_are(size, dtype):
    subnet = shaken_subnet(SPACES["hybrid"], rows_of(SPACES["hybrid"], 0)[0])
    inside = replace(COLOUR, size=size, dtype=dtype)
    model = emit(subnet, 2, preprocessing=inside)
    seen = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    images = torch.from_numpy(COLOUR.normalised(seen)) if size is None else None
    agreement = verify(subnet, model, images)
    assert agreement.images == 6 + 4 * (size is None)
    assert agreement.top1_agreement == 1.0
    entry = next(e for e in model.metadata_props if e.key == METADATA)
    entry.value = replace(inside, mean=(0.1, 0.2, 0.9)).to_text()
    with pytest.raises(VerificationError):
        verify(subnet, model, images)
    del model.metadata_props[:]
    if dtype == "uint8":
        with pytest.raises(BadInputError, match="do not say what it does to them"):
            verify(subnet, model, images)
