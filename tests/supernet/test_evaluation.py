from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from records import BadInputError, Measured
from supernet import ImageData, Split, Supernet, SupernetEvaluator, accuracy, standard_error
from tests.supernet.doubles import SPACES, TINY, easy_data, perturbed


class Fixed(nn.Module):
    """Predicts the class that the first pixel names."""

    def forward(self, images):
        return nn.functional.one_hot(images[:, 0, 0, 0].long(), 4).float()


def test_accuracy_is_the_share_of_right_predictions_for_any_batch_size():
    labels = torch.arange(40) % 4
    images = torch.zeros(40, 1, 2, 2)
    images[:, 0, 0, 0] = labels
    images[:10, 0, 0, 0] = (labels[:10] + 1) % 4
    for batch_size in (1, 7, 40, 512):
        assert accuracy(Fixed(), Split(images, labels), batch_size) == 0.75


def test_standard_error_is_binomial_and_never_zero():
    assert standard_error(0.8, 400) == pytest.approx(0.02)
    for share in (0.0, 1.0):
        assert standard_error(share, 100) == pytest.approx(standard_error(0.005, 100))
    draws = np.random.default_rng(0).binomial(400, 0.9, 20_000) / 400
    assert standard_error(0.9, 400) == pytest.approx(draws.std(), rel=0.02)


def test_one_measurement_a_row_in_any_order_and_with_any_threads():
    supernet, data = perturbed(TINY), easy_data()
    rows = TINY.sample(12, np.random.default_rng(0))
    before = {k: v.clone() for k, v in supernet.state_dict().items()}
    measured = SupernetEvaluator(supernet, data, threads=1).evaluate(rows)
    assert len(measured) == 12
    assert len({m.value for m in measured}) > 3
    for m in measured:
        assert isinstance(m, Measured)
        assert m.status == "ok"
        assert m.dispersion == standard_error(m.value, 200) > 0
        assert m.seconds > 0
    evaluator = SupernetEvaluator(supernet, data, threads=3)
    order = np.random.default_rng(1).permutation(12)
    again = evaluator.evaluate(rows[order])
    assert [m.value for m in again] == [measured[i].value for i in order]
    assert all(torch.equal(v, before[k]) for k, v in supernet.state_dict().items())
    assert evaluator.evaluate(rows[:0]) == []


def test_a_value_is_the_accuracy_of_the_slice_on_the_validation_split():
    supernet, data = perturbed(TINY), easy_data()
    evaluator = supernet.evaluator(data)
    row = TINY.extremes("largest")[0]
    statistics = evaluator.statistics(row)
    with torch.no_grad():
        predicted = supernet(data.validation.images, row, statistics).argmax(1)
    right = (predicted == data.validation.labels).float().mean().item()
    assert evaluator.evaluate(row[None])[0].value == pytest.approx(right)
    tested = evaluator.test_accuracy(TINY.decode(row)[0])
    assert tested == accuracy(evaluator.subnet(row), data.test)
    assert tested == evaluator.test_accuracy(evaluator.subnet(row))


def test_statistics_come_from_training_images_of_all_classes():
    """Also where the training images are sorted by class, and never from other splits."""
    data = easy_data(n=400)
    order = data.train.labels.argsort(stable=True)
    shift = torch.arange(4.0)[data.train.labels[order]].view(-1, 1, 1, 1)
    far = Split(torch.full((20, 1, 8, 8), 1e6), torch.arange(20) % 4)
    sorted_by_class = ImageData(
        name="sorted",
        train=Split(data.train.images[order] + 10 * shift, data.train.labels[order]),
        validation=far,
        test=far,
        class_names=data.class_names,
    )
    supernet = perturbed(TINY)
    row = TINY.extremes("smallest")[0]
    some = SupernetEvaluator(supernet, sorted_by_class, batches=2, batch_size=50).statistics(row)
    everything = supernet.recalibrate(row, [sorted_by_class.train.images])
    for name in everything:
        for part in ("running_mean", "running_var"):
            torch.testing.assert_close(
                some[name][part], everything[name][part], rtol=0.3, atol=0.5
            )


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
def test_data_that_do_not_fit_the_space_are_refused(space):
    with pytest.raises(BadInputError, match=r"'easy' has .* but the space was made with"):
        SupernetEvaluator(Supernet(space), easy_data())
    with pytest.raises(BadInputError, match="'easy' has num_classes 4"):
        SupernetEvaluator(Supernet(replace(TINY, num_classes=9)), easy_data())


def test_the_weights_are_identified_by_their_hash():
    data = easy_data()
    first, second = perturbed(TINY, 0), perturbed(TINY, 1)
    assert first.evaluator(data).weights_hash == perturbed(TINY, 0).evaluator(data).weights_hash
    assert first.evaluator(data).weights_hash != second.evaluator(data).weights_hash
    assert first.evaluator(data).metric == "accuracy"


def test_statistics_of_a_subnet_are_found_once(monkeypatch):
    supernet = perturbed(TINY)
    evaluator = SupernetEvaluator(supernet, easy_data())
    calls = []
    real = supernet.recalibrate
    monkeypatch.setattr(supernet, "recalibrate", lambda *a: calls.append(a) or real(*a))
    (row,) = TINY.sample(1, np.random.default_rng(0))
    (architecture,) = TINY.decode(row)
    first = evaluator.statistics(row)
    for same in (row, architecture, supernet.graph(row)):
        again = evaluator.statistics(same)
        assert again.keys() == first.keys()
        assert all(torch.equal(again[k]["running_mean"], first[k]["running_mean"]) for k in first)
    assert len(calls) == 1
    other = TINY.extremes("largest")[0]
    evaluator.statistics(other)
    assert len(calls) == 2
