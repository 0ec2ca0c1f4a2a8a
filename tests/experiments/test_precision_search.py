"""An int8 and an fp32 target share a search, from a trained supernet to exported files."""

import numpy as np
import pytest

from deployment import QuantisedEvaluator
from experiments.datasets import load_dataset
from hardware_profiles import Target, device
from latency_models import RooflineCostModel
from records import Ledger
from search_spaces import CNNSpace, WithPrecision
from strategies import NSGA2, AccuracyByPrecision, CostsByPrecision, Problem, search
from supernet import Supernet, train

pytestmark = pytest.mark.slow


def test_targets_of_two_precisions_share_a_search(tmp_path):
    data = load_dataset("digits", train_images=300)
    base = CNNSpace(image_size=8, channels=1)
    supernet = train(Supernet(base), data, epochs=4)
    fp32 = supernet.evaluator(data)
    int8 = QuantisedEvaluator(fp32)
    space = WithPrecision(base=base, precisions=("int8", "fp32"))
    board = {
        precision: RooflineCostModel(
            base, Target(profile=device("raspberry-pi-5"), precision=precision)
        )
        for precision in space.precisions
    }
    targets = [CostsByPrecision(space, {name: cost}) for name, cost in board.items()]
    problem = Problem(space, AccuracyByPrecision(space, {"fp32": fp32, "int8": int8}), targets)
    with Ledger.create(tmp_path / "run.sqlite", {}) as ledger:
        front = search(
            problem, evaluations=24, strategy=NSGA2(space, population_size=8), ledger=ledger
        )
        assert len(ledger) == 24
    alone = {"raspberry-pi-5-t1-b1": fp32, "raspberry-pi-5-t1-b1-int8": int8}
    assert set(problem.targets) == set(alone)
    for target, evaluator in alone.items():
        points = front.for_target(target)
        rows = space.to_base(np.array([p.genes for p in points]))
        again = [m.value for m in evaluator.evaluate(rows)]
        assert [p.accuracy for p in points] == again
    point = front.for_target("raspberry-pi-5-t1-b1-int8").knee()
    images = {"calibration_images": data.train.images[:256], "images": data.validation.images}
    bundle = point.export(tmp_path / "knee", **images)
    assert bundle.record["precision"] == "int8"
    assert bundle.record["facts"]["accuracy"] == point.accuracy
