"""What measures int8 files in other processes: the same accuracies, from arrays sent once."""

import pickle

import numpy as np
import onnx
import pytest

from deployment import QuantisedEvaluator
from deployment.quantisation.accuracy import Int8Evaluator
from experiments.datasets import load_dataset
from records import BadInputError, CorruptFileError
from search_spaces import CNNSpace, ConvStage, WithBlockPrecision
from strategies.executor_shipment import check_can_travel, shipment_of
from supernet import Supernet, SupernetEvaluator
from supernet.threads import intra_op_threads

SPACE = CNNSpace(
    image_size=8,
    channels=1,
    num_classes=10,
    stages=(ConvStage(depths=(1,), widths=(8, 16), kernels=(3,), expansions=(1, 2)),),
)


@pytest.fixture(scope="module")
def data():
    return load_dataset("digits", train_images=120)


@pytest.fixture(scope="module")
def evaluator(data):
    return SupernetEvaluator(Supernet(SPACE, seed=3), data, batches=2, batch_size=32)


@pytest.fixture(autouse=True)
def _one_thread():
    """Recipes set torch's threads for good, and sums depend on their number."""
    with intra_op_threads(1):
        yield


def sent(arrays):
    """The arrays as workers see them: elsewhere, and not to be written to."""
    copies = {name: array.copy() for name, array in arrays.items()}
    for copy in copies.values():
        copy.flags.writeable = False
    return copies


def made(evaluator, threads=1):
    recipe, arrays = evaluator.shipment()
    return pickle.loads(pickle.dumps(recipe))(sent(arrays), threads)


def nodes(data):
    return [(node.op_type, node.name) for node in onnx.load_from_string(data).graph.node]


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_a_worker_measures_what_the_evaluator_measures(evaluator, mode):
    ours = QuantisedEvaluator(evaluator, mode=mode, images=16, batch_size=8)
    worker = made(ours)
    assert type(worker) is Int8Evaluator
    rows = SPACE.enumerate()[:3]
    expected, measured = ours.evaluate(rows), worker.evaluate(rows)
    assert len({m.value for m in measured}) > 1
    assert [m.value for m in measured] == [m.value for m in expected]
    assert [m.dispersion for m in measured] == [m.dispersion for m in expected]
    assert worker.weights_hash == ours.weights_hash
    assert (worker.metric, worker.batch_size) == ("accuracy", 8)
    architecture = SPACE.decode(rows[0])[0]
    assert worker.subnet(architecture).graph == SPACE.graph(rows[0])


def test_a_worker_measures_mixed_files(evaluator):
    space = WithBlockPrecision(base=SPACE)
    ours = QuantisedEvaluator(evaluator, space=space, images=16, batch_size=8)
    worker = made(ours)
    rows = space.sample(4, np.random.default_rng(0))
    assert len({space.fp32_blocks(row) for row in rows}) > 1
    for row in rows:  # weights may differ by rounding, from batch-norm statistics
        assert nodes(worker.file(row)) == nodes(ours.file(row))
    assert [m.value for m in worker.evaluate(rows)] == [m.value for m in ours.evaluate(rows)]


def test_a_worker_uses_as_many_threads_as_its_executor_says(evaluator):
    assert made(QuantisedEvaluator(evaluator, images=16, threads=3), threads=2).threads == 2


def test_images_are_sent_once_and_the_test_split_never(evaluator, data):
    whole = QuantisedEvaluator(evaluator, images=120)
    recipe, arrays = whole.shipment()
    images = {name for name in arrays if "/weights/" not in name}
    assert images == {
        "evaluator/calibration/0", "evaluator/calibration/1",
        "evaluator/validation/images", "evaluator/validation/labels",
        "int8/scaling/images",
    }  # fmt: skip
    assert recipe.names["validation/images"] == "evaluator/validation/images"
    np.testing.assert_array_equal(arrays["int8/scaling/images"], data.train.images.numpy())
    tests = {image.tobytes() for image in data.test.images.numpy()}
    tests -= {image.tobytes() for image in data.train.images.numpy()}
    images.remove("evaluator/validation/labels")
    found = {image.tobytes() for name in images for image in arrays[name]}
    assert len(found) > 100
    assert not found & tests
    _, dynamic = QuantisedEvaluator(evaluator, mode="dynamic").shipment()
    assert set(arrays) - set(dynamic) == {"int8/scaling/images"}


def test_images_that_are_also_for_recalibration_are_sent_once(evaluator):
    ours = QuantisedEvaluator(evaluator, images=32)
    ours.scaling = evaluator.batches[1].numpy().copy()
    recipe, arrays = ours.shipment()
    assert recipe.names["scaling/images"] == "evaluator/calibration/1"
    assert not any(name.startswith("int8/") for name in arrays)
    np.testing.assert_array_equal(made(ours).scaling, ours.scaling)


def test_images_that_changed_on_the_way_are_refused(evaluator):
    recipe, arrays = QuantisedEvaluator(evaluator, images=16).shipment()
    arrays["int8/scaling/images"] = arrays["int8/scaling/images"] + 1
    with pytest.raises(CorruptFileError, match="the images that set the scales of int8 files"):
        recipe(arrays, 1)
    name = next(name for name in arrays if name.startswith("evaluator/weights/"))
    arrays[name] = arrays[name] + 1
    with pytest.raises(CorruptFileError, match="the weights that arrived have hash"):
        recipe(arrays, 1)


class Unshipped:
    """Hands out networks as a supernet's evaluator does, and has no shipment."""

    metric = "accuracy"
    weights_hash = "unshipped"

    def __init__(self, data):
        self.data = data
        self.supernet = Supernet(SPACE, seed=3).eval()

    def subnet(self, architecture):
        statistics = self.supernet.recalibrate(architecture, [self.data.train.images[:32]])
        return self.supernet.extract(architecture, statistics)


class Remade(Unshipped):
    """One that knows how it is pickled."""

    def __reduce__(self):
        return Remade, (self.data,)


def test_what_wraps_an_evaluator_without_a_shipment_is_pickled_or_refused(data):
    ours = QuantisedEvaluator(Remade(data), images=16)
    shipment = shipment_of(ours)
    assert shipment.arrays == {}
    worker = pickle.loads(pickle.dumps(shipment.recipe))({}, 1)
    assert worker is not ours
    rows = SPACE.enumerate()[:2]
    expected = [m.value for m in ours.evaluate(rows)]
    assert [m.value for m in worker.evaluate(rows)] == expected
    with pytest.raises(BadInputError, match=r"cannot be sent .* give it a method `shipment`"):
        check_can_travel(shipment_of(QuantisedEvaluator(Unshipped(data), images=16)).recipe)
