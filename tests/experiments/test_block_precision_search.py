"""A search over networks and the precision of each stage, from a trained supernet to a file."""

import numpy as np
import onnx
import pytest

from deployment import QuantisedEvaluator
from experiments.datasets import load_dataset
from hardware_profiles import Target, device
from latency_models import RooflineCostModel
from predictors import GaussianProcess, graph_feature_groups, graph_feature_names
from records import Ledger
from search_spaces import CNNSpace, ConvStage, WithBlockPrecision
from strategies import PredictorGuided, Problem, search
from supernet import Supernet, train

pytestmark = pytest.mark.slow

BASE = CNNSpace(
    image_size=8,
    channels=1,
    stages=(
        ConvStage(depths=(1, 2), widths=(8, 16), kernels=(3,), expansions=(1, 2)),
        ConvStage(depths=(1, 2), widths=(16, 24), kernels=(3,), expansions=(1, 2), stride=2),
    ),
)
SPACE = WithBlockPrecision(base=BASE)


@pytest.fixture(scope="module")
def data():
    return load_dataset("digits", train_images=300)


@pytest.fixture(scope="module")
def evaluator(data):
    supernet = train(Supernet(BASE, seed=0), data, epochs=6)
    return QuantisedEvaluator(supernet.evaluator(data), space=SPACE, images=128)


def test_a_search_over_networks_and_precisions_finds_a_front(evaluator, data, tmp_path):
    costs = RooflineCostModel(SPACE, Target(profile=device("raspberry-pi-5"), precision="int8"))
    problem = Problem(SPACE, evaluator, [costs])
    strategy = PredictorGuided(problem, GaussianProcess(SPACE), generations=5)
    with Ledger.create(tmp_path / "run.sqlite", {}) as ledger:
        front = search(problem, evaluations=40, strategy=strategy, ledger=ledger)
        assert len(ledger) == 40
    rows = np.array([point.genes for point in front])
    assert len(rows) >= 3
    for point, again in zip(front, evaluator.evaluate(rows), strict=True):
        assert point.accuracy == again.value  # that of the mixed file
    seen = np.array([o.genes for o in front.result.observations])
    kept = np.array([len(SPACE.fp32_blocks(row)) for row in seen])
    assert ((kept > 0) & ~SPACE.is_fp32(seen)).any()  # mixed files were measured
    mixed = [p for p in front if SPACE.fp32_blocks(p.genes) and not SPACE.is_fp32(p.genes)[0]]
    point = max(mixed or front, key=lambda p: p.accuracy)
    bundle = point.export(
        tmp_path / "best", calibration_images=data.train.images[:128],
        images=data.validation.images[:64],
    )  # fmt: skip
    names = SPACE.fp32_blocks(point.genes)
    model = onnx.load(bundle.folder / "model.onnx")
    if mixed:
        assert tuple(bundle.record["fp32_blocks"]) == names
    quantised = {n.name for n in model.graph.node if n.op_type == "QuantizeLinear"}
    assert bool(quantised) == (not SPACE.is_fp32(point.genes)[0])


def test_a_predictor_learns_what_the_precision_of_each_stage_costs():
    """Planted losses: what it learns of some networks holds for others in other precisions."""
    numerics = graph_feature_groups(SPACE)["numerics"]
    names = np.array(graph_feature_names(SPACE))[numerics]
    assert {name.partition(".precision=")[0] for name in names} == set(SPACE.blocks)
    losses = dict(zip(SPACE.blocks, (0.05, 0.0, 0.02, 0.01), strict=True))
    rows = np.unique(SPACE.sample(120, np.random.default_rng(0)), axis=0)
    rows = rows[np.random.default_rng(1).permutation(len(rows))]
    kept = [SPACE.fp32_blocks(row) for row in rows]
    values = np.array([0.9 - sum(v for b, v in losses.items() if b not in own) for own in kept])
    predictor = GaussianProcess(SPACE)
    predictor.fit(rows[:60], values[:60])
    found = predictor.predict(rows[60:]).mean
    assert np.corrcoef(found, values[60:])[0, 1] > 0.95
    network = SPACE.to_base(rows[60:61])
    one_by_one = np.concatenate([SPACE.with_fp32(network, [block]) for block in SPACE.blocks])
    gains = predictor.predict(one_by_one).mean
    assert [SPACE.blocks[k] for k in np.argsort(-gains)[:2]] == ["stem", "stage1"]
