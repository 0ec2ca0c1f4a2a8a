"""Searches over networks and devices: accuracy belongs to the network and is measured once."""

import numpy as np

from records import Ledger
from search_spaces import WithPlatform
from strategies import NSGA2, PredictorGuided, Problem, search
from tests.strategies.doubles import TINY, FormulaAccuracy, LayerCost

SPACE = WithPlatform(base=TINY, platform=(("device.rows", (8, 16)), ("device.lanes", (1, 2, 4))))


class NetworkAccuracy(FormulaAccuracy):
    """A formula on the base's genes."""

    def __init__(self):
        super().__init__(TINY)

    def evaluate(self, genes):
        return super().evaluate(SPACE.to_base(genes))


def problem():
    return Problem(SPACE, NetworkAccuracy(), [LayerCost(SPACE)])


def test_a_network_is_measured_once_whatever_the_device():
    p = problem()
    front = search(p, evaluations=40, strategy=NSGA2(SPACE, population_size=8), seed=1)
    observations = front.result.observations
    networks = [tuple(row) for row in SPACE.to_base([o.genes for o in observations]).tolist()]
    assert len(observations) == 40
    assert len(set(networks)) < 40
    measured = [tuple(int(g) for g in row) for row in p.accuracy.seen]
    assert sorted(measured) == sorted(set(networks))
    value = {}
    for observation, network in zip(observations, networks, strict=True):
        assert value.setdefault(network, observation.value) == observation.value


def test_a_search_goes_on_without_measuring_known_networks_again(tmp_path):
    with Ledger.create(tmp_path / "run.sqlite", {}) as ledger:
        first = problem()
        search(first, evaluations=12, strategy=NSGA2(SPACE, population_size=8), ledger=ledger)
        again = problem()
        front = search(
            again, evaluations=24, strategy=NSGA2(SPACE, population_size=8), ledger=ledger
        )
    seen = [tuple(int(g) for g in row) for row in (*first.accuracy.seen, *again.accuracy.seen)]
    assert len(seen) == len(set(seen))
    assert front.result.reused == 12


class WatchedPredictor:
    """Remembers the platform's genes that it was shown."""

    def __init__(self):
        self.shown = []

    def fit(self, genes, values):
        self.shown.append(genes[:, -2:])
        self.mean = float(np.mean(values))
        return self

    def predict(self, genes):
        from predictors import Prediction

        self.shown.append(genes[:, -2:])
        return Prediction(np.full(len(genes), self.mean), np.full(len(genes), 0.1))


def test_predictors_never_see_the_platform():
    predictor = WatchedPredictor()
    p = problem()
    search(p, evaluations=32, strategy=PredictorGuided(p, predictor, generations=2))
    shown = np.concatenate(predictor.shown)
    assert len(shown) > 100
    assert not shown.any()
