import pickle

import numpy as np
import pytest
import torch

from records import CorruptFileError
from supernet import SupernetEvaluator
from tests.supernet.doubles import TINY, easy_data, perturbed


def sent(arrays):
    """The arrays as workers see them: elsewhere, and not to be written to."""
    copies = {name: array.copy() for name, array in arrays.items()}
    for copy in copies.values():
        copy.flags.writeable = False
    return copies


def test_a_worker_measures_what_the_evaluator_measures():
    evaluator = SupernetEvaluator(
        perturbed(TINY), easy_data(), batches=3, batch_size=32, threads=1
    )
    recipe, arrays = evaluator.shipment()
    worker = pickle.loads(pickle.dumps(recipe))(sent(arrays), threads=1)
    rows = TINY.sample(4, np.random.default_rng(0))
    expected, measured = evaluator.evaluate(rows), worker.evaluate(rows)
    assert len({m.value for m in measured}) > 1
    assert [m.value for m in measured] == [m.value for m in expected]
    assert [m.dispersion for m in measured] == [m.dispersion for m in expected]
    assert all(m.seconds > 0 for m in measured)
    assert worker.metric == evaluator.metric
    assert worker.weights_hash == evaluator.weights_hash
    images = easy_data().validation.images[:4]
    ours, theirs = (e.subnet(rows[0])(images) for e in (evaluator, worker))
    torch.testing.assert_close(theirs, ours)


def test_weights_stay_where_the_arrays_lie():
    recipe, arrays = SupernetEvaluator(perturbed(TINY), easy_data()).shipment()
    arrays = sent(arrays)
    worker = recipe(arrays, threads=1)
    for name, value in worker.supernet.state_dict().items():
        array = arrays[f"weights/{name}"]
        assert value.data_ptr() == array.ctypes.data or array.size == 0


def test_the_test_split_is_not_sent():
    data = easy_data()
    _, arrays = SupernetEvaluator(perturbed(TINY), data, batches=2, batch_size=16).shipment()
    images = {name: a for name, a in arrays.items() if not name.startswith("weights/")}
    assert set(images) == {
        "calibration/0", "calibration/1", "validation/images", "validation/labels"
    }  # fmt: skip
    np.testing.assert_array_equal(images["validation/images"], data.validation.images.numpy())
    assert images["calibration/1"].shape[0] == 16


def test_weights_that_changed_on_the_way_are_refused():
    recipe, arrays = SupernetEvaluator(perturbed(TINY), easy_data()).shipment()
    name = next(name for name in arrays if name.startswith("weights/"))
    arrays[name] = arrays[name] + 1
    with pytest.raises(CorruptFileError, match="the weights that arrived have hash"):
        recipe(arrays, threads=1)
