import math

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from deployment import emit, quantise
from deployment.emission.forms import Forms
from deployment.selection.checks import MOST_IMAGES, Judge
from deployment.session_settings import SessionSettings
from supernet import Split
from tests.deployment.doubles import CNN, VIT, rows_of, shaken_subnet


@pytest.fixture(scope="module")
def subnet():
    return shaken_subnet(VIT, rows_of(VIT, 0)[0])


@pytest.fixture(scope="module")
def split(subnet):
    """Images, four of five with the class that the network says."""
    images = torch.randn(240, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = subnet(images).argmax(1)
    labels[::5] = (labels[::5] + 1) % 10
    return Split(images, labels)


def judge_of(subnet, split, *, loss=0.005, images=None, batch_size=1, seed=0, affordable=1000):
    judge = Judge(
        subnet, split, images, batch_size=batch_size, largest_loss=loss, threads=1, seed=seed
    )
    judge.take_images(affordable)
    return judge


def with_noise(data, scale, seed=0):
    """A file whose last weights are off by some share of their deviation."""
    model = onnx.load_from_string(data)
    tensor = [t for t in model.graph.initializer if len(t.dims) == 2][-1]
    weights = numpy_helper.to_array(tensor)
    noise = np.random.default_rng(seed).standard_normal(weights.shape).astype(np.float32)
    changed = weights + scale * weights.std() * noise
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    return model.SerializeToString()


def test_what_computes_the_same_is_kept_and_what_does_not_is_refused(subnet, split):
    judge = judge_of(subnet, split)
    data = emit(subnet, forms=Forms(attention="plain")).SerializeToString()
    check = judge.exact(data)
    assert check.is_kept
    assert check.relative_error < 1e-5
    assert check.top1_agreement == 1.0
    wrong = judge.exact(with_noise(data, 0.01))
    assert not wrong.is_kept
    assert wrong.reason.startswith("refused: differs from torch by ")
    model = onnx.load_from_string(data)
    model.graph.node[0].op_type = "NoSuchOperator"
    assert "is not valid ONNX" in judge.exact(model.SerializeToString()).reason


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_loss_is_the_paired_difference(subnet, split, batch_size):
    data = with_noise(emit(subnet, batch_size).SerializeToString(), 1.0)
    judge = judge_of(subnet, split, batch_size=batch_size, loss=0.5)
    check = judge.inexact(data)

    import onnxruntime as ort

    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    theirs = np.concatenate(
        [
            session.run(None, {"images": split.images[i : i + batch_size].numpy()})[0]
            for i in range(0, 240, batch_size)
        ]
    ).argmax(1)
    with torch.no_grad():
        ours = subnet(split.images).argmax(1).numpy()
    labels = split.labels.numpy()
    lost = sum(o == t != p for o, p, t in zip(ours, theirs, labels, strict=True))
    won = sum(p == t != o for o, p, t in zip(ours, theirs, labels, strict=True))
    assert lost > won > 0
    assert judge.images == 240
    assert check.loss == pytest.approx((lost - won) / 240)
    assert check.loss == pytest.approx((ours == labels).mean() - (theirs == labels).mean())
    each = (ours == labels).astype(float) - (theirs == labels)
    assert check.loss_error == pytest.approx(each.std() / math.sqrt(240))
    assert check.accuracy == pytest.approx((theirs == labels).mean())
    assert check.top1_agreement == pytest.approx((ours == theirs).mean())
    assert judge.fp32_accuracy == pytest.approx((ours == labels).mean()) == pytest.approx(0.8)


def test_the_bound_decides(subnet, split):
    data = with_noise(emit(subnet).SerializeToString(), 1.0)
    loss = judge_of(subnet, split, loss=0.5).inexact(data).loss
    assert judge_of(subnet, split, loss=loss).inexact(data).is_kept
    refused = judge_of(subnet, split, loss=loss - 1 / 240).inexact(data)
    assert not refused.is_kept
    assert refused.reason == f"lost {100 * loss:.2g} points"


def test_with_few_images_no_class_may_change(subnet, split):
    few = Split(split.images[:40], split.labels[:40])
    data = emit(subnet).SerializeToString()
    judge = judge_of(subnet, few)  # one of 40 images is 2.5 points
    assert judge.inexact(with_noise(data, 1e-4)).is_kept
    changed = judge.inexact(with_noise(data, 1.0))
    assert not changed.is_kept
    assert changed.reason == "refused: classes change, and 40 images are too few to tell the loss"


@pytest.mark.parametrize(
    ("affordable", "batch_size", "loss", "images"),
    [(10, 1, 0.005, 200), (220, 1, 0.005, 220), (10**6, 1, 0.005, 240), (10, 16, 0.1, 16),
     (33, 16, 0.1, 48), (10**6, 100, 0.1, 200), (10, 1, 0.0, 240)],
)  # fmt: skip
def test_as_many_images_as_the_bound_needs_and_the_time_allows(
    subnet, split, affordable, batch_size, loss, images
):
    judge = judge_of(subnet, split, loss=loss, batch_size=batch_size, affordable=affordable)
    assert judge.images == images
    judge.take_images(5)
    assert judge.images == images  # decided once
    assert MOST_IMAGES >= 1000


def test_large_networks_are_compared_on_fewer_images(subnet, split, monkeypatch):
    judge = judge_of(subnet, split, batch_size=3)
    assert judge.compared == 18  # whole batches
    monkeypatch.setattr("deployment.selection.checks.COMPARED_MACS", 5 * subnet.graph.macs)
    assert judge.compared == 6
    monkeypatch.setattr("deployment.selection.checks.COMPARED_MACS", 1)
    assert judge_of(subnet, split).compared == 2


def test_images_are_drawn_by_the_seed(subnet, split):
    by_class = Split(split.images, torch.sort(split.labels).values)
    judge = judge_of(subnet, by_class, loss=0.1, affordable=60)
    assert len(set(judge._labels.tolist())) > 3  # the first 60 have fewer classes
    other = judge_of(subnet, by_class, loss=0.1, affordable=60, seed=1)
    assert judge._chosen.tolist() != other._chosen.tolist()


def test_without_a_split_logits_are_compared(subnet):
    data = emit(subnet).SerializeToString()
    for images in (None, torch.randn(64, 3, 16, 16), torch.randn(3, 3, 16, 16)):
        judge = judge_of(subnet, None, images=images)
        check = judge.inexact(quantise(data, mode="dynamic"))
        assert check.is_kept
        assert 0 < check.relative_error < 0.2
        assert (check.accuracy, check.loss, judge.fp32_accuracy) == (None, None, None)
        far = judge.inexact(with_noise(data, 5.0))
        assert not far.is_kept
        assert far.reason.startswith("refused: logits differ by")


def test_files_that_do_not_open_or_run_are_refused(subnet, split):
    judge = judge_of(subnet, split)
    assert "cannot open" in judge.inexact(b"no model").reason
    larger = emit(shaken_subnet(CNN, rows_of(CNN, 0)[0]), 2).SerializeToString()
    assert "does not run" in judge.inexact(larger).reason


def test_logits_that_are_not_finite_are_refused(subnet, split):
    data = with_noise(emit(subnet).SerializeToString(), np.inf)
    assert judge_of(subnet, split).inexact(data).reason == "refused: its logits are not finite"


def test_opening_otherwise_changes_nothing_but_rounding(subnet, split, monkeypatch):
    judge = judge_of(subnet, split)
    data = emit(subnet).SerializeToString()
    assert judge.same_answers(data, SessionSettings(optimisation="disabled", arena=False)).is_kept
    assert judge.same_answers(data, SessionSettings(provider="qnn")).is_kept  # cannot be asked
    answers = iter([np.ones((16, 10)), np.full((16, 10), 1.01)])
    monkeypatch.setattr(judge, "_logits", lambda session, count: next(answers))
    changed = judge.same_answers(data, SessionSettings(arena=False))
    assert changed.reason == (
        "refused: answers change by 1.0e-02 of the largest logit when opened so"
    )
    monkeypatch.undo()
    assert judge.same_answers(b"", SessionSettings()).reason.startswith("refused: ")
