"""One real evaluation of a supernet, as workers do it: digits at 8x8, the quickstart's space.

The weights are random: how long a network takes does not depend on what it has learned.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from experiments.datasets import load_dataset
from experiments.spaces import make_space
from search_spaces import Genes
from supernet import Supernet
from supernet.evaluation import SupernetEvaluator
from supernet.worker_evaluation import WorkerEvaluator


def digits_evaluator(space: str = "hybrid") -> SupernetEvaluator:
    """The evaluator of an untrained supernet: 512 images recalibrate, 359 count."""
    data = load_dataset("digits")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        supernet = Supernet(make_space(space, data))
    return SupernetEvaluator(supernet, data, threads=1)


def worker_evaluator(evaluator: SupernetEvaluator) -> WorkerEvaluator:
    """What a worker would evaluate with, on one thread of this process."""
    recipe, arrays = evaluator.shipment()
    return recipe(arrays, 1)


def fixed_rows(evaluator: SupernetEvaluator, count: int) -> Genes:
    """The same distinct networks in every process."""
    space = evaluator.supernet.space
    rows = space.sample(2 * count, np.random.default_rng(0), "architectures")
    first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
    return rows[first[:count]]


def measured_seconds(count: int) -> npt.NDArray[np.float64]:
    """How long `count` evaluations took, one after the other, after one that warms up."""
    evaluator = digits_evaluator()
    worker, rows = worker_evaluator(evaluator), fixed_rows(evaluator, count)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        worker.evaluate(rows[:1])
        return np.array([result.seconds for result in worker.evaluate(rows)])
    finally:
        torch.set_num_threads(threads)
