"""Accuracy of int8 files: that of the very file that a target is given."""

import numpy as np
import pytest
import torch

from deployment import QuantisedEvaluator, emit, open_session, quantise
from deployment.quantisation import accuracy as quantised_accuracy
from records import BadInputError, CorruptFileError, UnknownNameError
from search_spaces import CNNSpace, ConvStage, WithBlockPrecision
from supernet import ImageData, Split, Supernet, SupernetEvaluator

SPACE = CNNSpace(
    image_size=8,
    channels=1,
    num_classes=3,
    stages=(ConvStage(depths=(1,), widths=(8, 16), kernels=(3,), expansions=(1, 2)),),
)


def split(n, seed):
    """Bright, dark and striped images: untrained networks tell some of them apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    images = 0.3 * torch.randn((n, 1, 8, 8), generator=generator)
    images[labels == 0] += 1
    images[labels == 1, :, ::2] -= 2
    return Split(images, labels)


@pytest.fixture(scope="module")
def evaluator():
    data = ImageData(
        name="shades",
        train=split(48, 0),
        validation=split(30, 1),
        test=split(30, 2),
        flip=False,
        class_names=("a", "b", "c"),
    )
    return SupernetEvaluator(Supernet(SPACE, seed=3), data, batches=1, batch_size=32)


def by_hand(evaluator, row, mode):
    """The share of right classes of the file with one image a run."""
    subnet = evaluator.subnet(SPACE.decode(row)[0])
    scaling = {"images": evaluator.data.train.images[:16].numpy()} if mode == "static" else {}
    session = open_session(quantise(emit(subnet, 1).SerializeToString(), mode=mode, **scaling))
    name = session.get_inputs()[0].name
    images, labels = evaluator.data.validation.images.numpy(), evaluator.data.validation.labels
    found = [session.run(None, {name: image[None]})[0].argmax() for image in images]
    return float((np.array(found) == labels.numpy()).mean())


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_the_accuracy_is_that_of_the_file_whatever_the_batch(evaluator, mode):
    rows = SPACE.enumerate()[:2]
    ours = QuantisedEvaluator(evaluator, mode=mode, images=16, batch_size=8)
    for row, result in zip(rows, ours.evaluate(rows), strict=True):
        assert result.value == pytest.approx(by_hand(evaluator, row, mode))
        assert result.dispersion > 0
        assert result.seconds > 0
    assert ours.metric == "accuracy"
    architecture = SPACE.decode(rows[0])[0]
    assert ours.subnet(architecture).graph == SPACE.graph(rows[0])


def test_the_hash_says_how_files_are_made(evaluator):
    made = [
        QuantisedEvaluator(evaluator, images=16),
        QuantisedEvaluator(evaluator, images=32),
        QuantisedEvaluator(evaluator, mode="dynamic"),
    ]
    hashes = {one.weights_hash for one in made} | {evaluator.weights_hash}
    assert len(hashes) == 4
    assert QuantisedEvaluator(evaluator, images=16).weights_hash == made[0].weights_hash


def test_what_cannot_be_quantised_is_a_failed_evaluation(evaluator, monkeypatch):
    def refuse(*_, **__):
        raise CorruptFileError("no int8 for this one")

    monkeypatch.setattr(quantised_accuracy.Quantiser, "file", refuse)
    (result,) = QuantisedEvaluator(evaluator, images=16).evaluate(SPACE.enumerate()[:1])
    assert (result.status, result.value, result.reason) == ("failed", None, "no int8 for this one")


def test_what_does_not_fit_is_refused(evaluator):
    with pytest.raises(UnknownNameError, match="did you mean 'static'"):
        QuantisedEvaluator(evaluator, mode="statc", images=16)
    with pytest.raises(BadInputError, match="more than the 48 training images"):
        QuantisedEvaluator(evaluator)
    with pytest.raises(BadInputError, match="batch_size must be at least 1"):
        QuantisedEvaluator(evaluator, images=16, batch_size=0)


MIXED = WithBlockPrecision(base=SPACE)


def mixed_rows(evaluator):
    """Two networks, each wholly in int8, wholly in fp32, and in between."""
    base = SPACE.enumerate()[:2]
    kept = ((), MIXED.blocks, ("stem",), ("stage0", "classifier"))
    return [(MIXED.with_fp32(row[None], blocks)[0], blocks) for row in base for blocks in kept]


def test_mixed_files_are_measured_as_their_rows_say(evaluator):
    ours = QuantisedEvaluator(evaluator, space=MIXED, images=16, batch_size=8)
    scaling = evaluator.data.train.images[:16].numpy()
    for row, blocks in mixed_rows(evaluator):
        (result,) = ours.evaluate(row[None])
        subnet = evaluator.subnet(SPACE.decode(MIXED.to_base(row))[0])
        data = quantise(
            emit(subnet, 8).SerializeToString(), mode="static", images=scaling, fp32_blocks=blocks
        )
        assert ours.file(row) == data
        assert result.value == pytest.approx(
            quantised_accuracy.file_accuracy(data, evaluator.data.validation)
        )
        architecture = MIXED.decode(row)[0]
        assert ours.subnet(architecture).graph == MIXED.graph(row)
    whole = MIXED.with_fp32(SPACE.enumerate()[:3], MIXED.blocks)
    expected = [m.value for m in evaluator.evaluate(MIXED.to_base(whole))]
    assert [m.value for m in ours.evaluate(whole)] == expected


def test_files_of_one_network_share_its_scales(evaluator, monkeypatch):
    found = []
    real = quantised_accuracy.emit
    monkeypatch.setattr(
        quantised_accuracy, "emit", lambda *a, **k: found.append(1) or real(*a, **k)
    )
    ours = QuantisedEvaluator(evaluator, space=MIXED, images=16)
    ours.evaluate(np.array([row for row, _ in mixed_rows(evaluator)]))
    assert len(found) == 2
    monkeypatch.setattr(quantised_accuracy, "MOST_REMEMBERED", 1)
    ours.evaluate(np.array([row for row, _ in mixed_rows(evaluator)]))
    assert len(found) == 3  # the first was forgotten as soon as one more was needed


def test_precisions_of_another_space_or_way_are_refused(evaluator):
    other = WithBlockPrecision(base=CNNSpace(image_size=8))
    with pytest.raises(BadInputError, match=r"base=supernet.space"):
        QuantisedEvaluator(evaluator, space=other, images=16)
    with pytest.raises(BadInputError, match="leave the mode out"):
        QuantisedEvaluator(evaluator, space=MIXED, mode="dynamic", images=16)
    assert QuantisedEvaluator(evaluator, space=MIXED, images=16).mode == "static"
