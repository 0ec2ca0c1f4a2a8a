"""Accuracy by precision of a supernet, in a worker: that of this process, bit for bit."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from deployment import QuantisedEvaluator
from experiments.datasets import load_dataset
from search_spaces import CNNSpace, ConvStage, WithPrecision
from strategies import AccuracyByPrecision, LocalProcesses
from strategies.executor_shipment import check_can_travel, shipment_of
from strategies.tune_config import network_config
from supernet import Supernet, SupernetEvaluator
from supernet.threads import intra_op_threads

SPACE = WithPrecision(
    base=CNNSpace(
        image_size=8,
        channels=1,
        stages=(ConvStage(depths=(1,), widths=(8, 16), kernels=(3,), expansions=(1, 2)),),
    ),
    precisions=("int8", "fp32"),
)
BASE_ROWS = SPACE.base.enumerate()[:2]
ROWS = np.concatenate([SPACE.in_precision(BASE_ROWS, name) for name in SPACE.precisions])


@pytest.fixture(scope="module")
def accuracy():
    data = load_dataset("digits", train_images=120)
    supernet = Supernet(SPACE.base, seed=3)
    fp32 = SupernetEvaluator(supernet, data, batches=2, batch_size=32, threads=1)
    int8 = QuantisedEvaluator(fp32, images=16, batch_size=8)
    return AccuracyByPrecision(SPACE, {"fp32": fp32, "int8": int8})


@pytest.fixture(scope="module")
def expected(accuracy):
    with intra_op_threads(1):
        return [m.value for m in accuracy.evaluate(ROWS)]


def test_a_worker_measures_both_precisions(accuracy, expected):
    recipe, arrays = accuracy.shipment()
    check_can_travel(recipe)
    with intra_op_threads(1):
        worker = pickle.loads(pickle.dumps(recipe))(arrays, 1)
        assert [m.value for m in worker.evaluate(ROWS)] == expected
    assert len(set(expected)) > 2
    assert worker.weights_hash == accuracy.weights_hash


def test_what_both_precisions_need_is_sent_once(accuracy):
    _, alone = accuracy.evaluators["fp32"].shipment()
    arrays = shipment_of(accuracy).arrays
    assert set(arrays) == {f"fp32/{name}" for name in alone} | {"int8/int8/scaling/images"}
    test = accuracy.evaluators["fp32"].data.test
    assert not any(np.array_equal(a, test.images.numpy()) for a in arrays.values())


@pytest.mark.slow
def test_a_process_measures_both_precisions(accuracy, expected, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    with LocalProcesses(workers=1, batch_size=len(ROWS)).open(accuracy) as session:
        session.submit(ROWS)
        (finished,) = session.wait()
    np.testing.assert_array_equal(finished.genes, ROWS)
    assert [m.value for m in finished.results] == expected


@pytest.mark.slow
def test_a_trial_of_ray_tune_measures_int8(accuracy, expected, monkeypatch, tmp_path):
    pytest.importorskip("ray")
    from strategies.tune_evaluation import evaluation_trainable

    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path))
    with intra_op_threads(1):
        trial = evaluation_trainable(accuracy, SPACE)(network_config(SPACE, ROWS[0]))
        assert trial.train()["accuracy"] == expected[0]
        trial.stop()
