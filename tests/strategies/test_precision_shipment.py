"""Evaluators by precision in workers: each gets what it sent, and what is common is sent once."""

import pickle

import numpy as np
import pytest

from records import BadInputError, Measured
from search_spaces import WithPrecision
from strategies import AccuracyByPrecision
from strategies.executor_shipment import check_can_travel, shipment_of
from tests.strategies.doubles import TINY, FormulaAccuracy

SPACE = WithPrecision(base=TINY, precisions=("int8", "fp32"))


class Shipped:
    """An accuracy that is an array's product with the genes, in so many threads."""

    metric = "accuracy"
    weights_hash = "shipped"

    def __init__(self, weights, images, threads=1):
        self.weights, self.images, self.threads = weights, images, threads

    def evaluate(self, genes):
        return [Measured(value=float(row @ self.weights) % 1) for row in genes]

    def shipment(self):
        return ShippedRecipe(), {"weights": self.weights, "images": self.images}


class ShippedRecipe:
    def __call__(self, arrays, threads):
        assert list(arrays) == ["weights", "images"]
        return Shipped(arrays["weights"], arrays["images"], threads)


def made(evaluator, threads=1):
    shipment = shipment_of(evaluator)
    check_can_travel(shipment.recipe)
    return pickle.loads(pickle.dumps(shipment.recipe))(shipment.arrays, threads)


def values(evaluator, genes):
    return [m.value for m in evaluator.evaluate(genes)]


def two(images):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, len(TINY.choices)))
    return {"fp32": Shipped(one, images), "int8": Shipped(other, images.copy())}


def test_a_worker_measures_each_precision_as_its_evaluator_does():
    ours = AccuracyByPrecision(SPACE, two(np.arange(6.0)))
    worker = made(ours, threads=2)
    genes = SPACE.sample(30, np.random.default_rng(1))
    assert values(worker, genes) == values(ours, genes)
    assert len(set(values(ours, genes))) > 10
    assert worker.weights_hash == ours.weights_hash
    assert worker.metric == "accuracy"
    assert {e.threads for e in worker.evaluators.values()} == {2}


def test_what_evaluators_have_in_common_is_sent_once():
    _, arrays = AccuracyByPrecision(SPACE, two(np.arange(6.0))).shipment()
    assert list(arrays) == ["fp32/weights", "fp32/images", "int8/weights"]


def test_an_evaluator_without_a_shipment_travels_in_the_recipe():
    found = {"fp32": FormulaAccuracy(TINY, seed=1), "int8": two(np.zeros(1))["int8"]}
    ours = AccuracyByPrecision(SPACE, found)
    _, arrays = ours.shipment()
    assert list(arrays) == ["int8/weights", "int8/images"]
    genes = SPACE.sample(10, np.random.default_rng(2))
    assert values(made(ours), genes) == values(ours, genes)


def test_the_precision_whose_evaluator_cannot_be_sent_is_named():
    stuck = FormulaAccuracy(TINY, fails=lambda row: False)
    ours = AccuracyByPrecision(SPACE, {"fp32": FormulaAccuracy(TINY), "int8": stuck})
    with pytest.raises(BadInputError, match=r"^in int8, the evaluator cannot be sent"):
        shipment_of(ours)
    objects = Shipped(np.ones(2), np.array(["a", None], object))
    ours = AccuracyByPrecision(SPACE, {"fp32": objects, "int8": FormulaAccuracy(TINY)})
    with pytest.raises(BadInputError, match=r"^in fp32, array 'images' .* holds objects"):
        shipment_of(ours)
