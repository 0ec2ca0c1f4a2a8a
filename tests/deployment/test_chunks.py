from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from deployment import emit
from deployment.emission.chunks import body_of, in_chunks, part_of
from deployment.emission.preprocessing import Preprocessing
from deployment.network_blocks import nodes_by_block, nodes_within
from deployment.numerics import Numerics
from deployment.quantisation.quantised import quantise
from deployment.selection.candidates import chunks_of
from deployment.variant import Variant
from deployment.variant_files import VariantFiles, variant_file
from records import BadInputError
from tests.deployment.doubles import HYBRID, rows_of, shaken_subnet


@pytest.fixture(scope="module")
def network():
    return shaken_subnet(HYBRID, rows_of(HYBRID, 1)[-1])


def answers(model, images):
    session = ort.InferenceSession(model.SerializeToString())
    (entry,) = session.get_inputs()
    assert entry.shape == list(images.shape)
    return session.run(None, {entry.name: images})[0]


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_a_batch_in_chunks_has_the_answers_of_the_whole(network, chunk):
    whole = emit(network, 6)
    shape = [d.dim_value for d in whole.graph.input[0].type.tensor_type.shape.dim]
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    part = emit(network, chunk)
    before = part.SerializeToString()
    model = in_chunks(part, 6)
    assert part.SerializeToString() == before
    onnx.checker.check_model(model)
    found = answers(model, images)
    assert found == pytest.approx(answers(whole, images), abs=1e-5)
    alone = [answers(part, images[i : i + chunk]) for i in range(0, 6, chunk)]
    assert (found == np.concatenate(alone)).all()


def test_the_weights_are_there_once(network):
    part = emit(network, 1)
    model = in_chunks(part, 8)
    assert model.ByteSize() < 1.05 * part.ByteSize() + 1000
    body = body_of(model)
    assert len(body.node) == len(part.graph.node)
    assert len(body.initializer) == len(part.graph.initializer)
    assert body_of(part) is None


def test_numbers_and_preprocessing_stay_as_they_are_in_the_part(network):
    rng = np.random.default_rng(0)
    pixels = Preprocessing(mean=(0.4, 0.5, 0.3), std=(0.2, 0.25, 0.3))
    part = emit(network, 2, preprocessing=pixels)
    shape = [d.dim_value for d in part.graph.input[0].type.tensor_type.shape.dim]
    images = rng.integers(0, 256, (4, *shape[1:]), np.uint8)
    model = in_chunks(part, 4)
    assert model.metadata_props == part.metadata_props
    assert (answers(model, images)[2:] == answers(part, images[2:])).all()
    plain = emit(network, 2)
    shape = [d.dim_value for d in plain.graph.input[0].type.tensor_type.shape.dim]
    floats = rng.standard_normal((4, *shape[1:]), np.float32)
    data = quantise(plain.SerializeToString(), mode="dynamic")
    small = onnx.load_from_string(data)
    found = answers(in_chunks(small, 4), floats)
    assert (found[:2] == answers(small, floats[:2])).all()
    assert found != pytest.approx(answers(in_chunks(plain, 4), floats), abs=1e-6)


def test_chunks_that_do_not_fit_are_refused(network):
    with pytest.raises(BadInputError, match="batch of 7 images cannot be taken 2 at a time"):
        in_chunks(emit(network, 2), 7)
    with pytest.raises(BadInputError, match="any number of images has no chunks"):
        in_chunks(emit(network, None), 8)


def test_a_variant_takes_its_batch_in_chunks_in_its_own_numbers(network):
    entry = emit(network, 6).graph.input[0]
    shape = [d.dim_value for d in entry.type.tensor_type.shape.dim]
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    for way in ("fp32", "dynamic"):
        whole = Variant(numerics=Numerics(way=way))
        parts = VariantFiles(network, 6)
        found = answers(onnx.load_from_string(parts.data(replace(whole, chunk=2))), images)
        alone = onnx.load_from_string(variant_file(network, whole, 2))
        assert (found[2:4] == answers(alone, images[2:4])).all()
        assert parts.data(whole) == variant_file(network, whole, 6)
    with pytest.raises(BadInputError, match="cannot be taken 4 at a time"):
        variant_file(network, Variant(chunk=4), 6)
    with pytest.raises(BadInputError, match="any number of images has no chunks"):
        variant_file(network, Variant(chunk=1), None)


@pytest.mark.parametrize(
    ("batch_size", "found"),
    [(1, []), (2, [1]), (3, [1]), (4, [1, 2]), (8, [1, 2, 4]), (12, [3, 6])],
)
def test_the_sizes_of_chunks_that_are_tried(batch_size, found):
    assert chunks_of(batch_size, "cpu") == found
    assert chunks_of(batch_size, "cuda") == []


def test_the_part_is_the_file_that_was_put_in(network):
    part = emit(network, 2)
    found = part_of(in_chunks(part, 6))
    assert found.SerializeToString() == part.SerializeToString()
    assert part_of(part) is None


def test_blocks_of_a_file_in_chunks_are_those_of_the_part(network):
    part = emit(network, 2)
    model = in_chunks(part, 6)
    assert nodes_by_block(model) == nodes_by_block(part)
    block = next(iter(nodes_by_block(part)))
    assert nodes_within(model, [block]) == nodes_within(part, [block])
