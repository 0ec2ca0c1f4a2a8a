import json

import numpy as np
import pytest

from predictors import NotFittedError, StackedPredictor, quality
from predictors.normal_scores import NormalScores
from predictors.stack_members import MEMBERS
from predictors.stacked import WEIGHTS, stacking_weights
from records import BadInputError, UnknownNameError
from search_spaces import HybridSpace
from search_spaces.standard import NASBench201
from tests.predictors.contract import PredictorContract

CELLS = NASBench201(cells=1)


class TestStackedPredictor(PredictorContract):
    def make(self, seed=0):
        return StackedPredictor(self.space, seed=seed, members=("pairwise", "linear"))


@pytest.fixture(scope="module")
def whole():
    """The default, fitted to a score of cells that convolutions raise and cut-off cells lack."""
    genes = np.unique(CELLS.sample(400, np.random.default_rng(0)), axis=0)
    genes = genes[np.random.default_rng(1).permutation(len(genes))]
    macs = CELLS.layer_table(genes).macs
    reached = (genes[:, 3] > 0) | ((genes[:, 0] > 0) & (genes[:, 4] > 0))
    accuracy = np.where(reached, 60 + 5 * np.log(macs / macs.min()), 10.0)
    return StackedPredictor(CELLS).fit(genes[:50], accuracy[:50]), genes[50:], accuracy[50:]


def test_all_members_weigh_in(whole):
    model, genes, accuracy = whole
    assert set(model.weights) == set(MEMBERS) == set(WEIGHTS)
    assert sum(model.weights.values()) == pytest.approx(1)
    assert min(model.weights.values()) >= 0
    assert quality(model.predict(genes), accuracy).kendall_tau > 0.7


def test_all_members_are_written_down(whole, tmp_path):
    model, genes, _ = whole
    model.save(tmp_path / "model")
    again = StackedPredictor.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(genes).mean, model.predict(genes).mean)
    assert again.weights == model.weights


def test_the_same_network_gets_the_same_prediction(whole):
    model, _, _ = whole
    twins = [[3, 0, 1, 0, 0, 2], [0, 3, 0, 0, 0, 2], [3, 0, 0, 0, 2, 0]]
    found = model.interval(twins)
    assert found.mean[0] == found.mean[1] == found.mean[2]


def test_intervals_grow_with_their_coverage(whole):
    model, genes, accuracy = whole
    shares, widths = [], []
    for coverage in (0.5, 0.8, 0.95):
        found = model.interval(genes, coverage)
        assert (found.lower <= found.mean).all()
        assert (found.mean <= found.upper).all()
        shares.append(((found.lower <= accuracy) & (accuracy <= found.upper)).mean())
        widths.append((found.upper - found.lower).mean())
    assert widths == sorted(widths)
    assert shares == sorted(shares)
    assert shares[0] < 0.85 < shares[-1]


def test_order_is_all_that_values_say():
    """Another monotone scale of the values, and the predictions are in the same order."""
    space = HybridSpace()
    genes = space.sample(60, np.random.default_rng(0))
    values = genes[:, 0] + 0.1 * genes[:, 1] + 0.01 * np.arange(60)
    first, second = (
        StackedPredictor(space, members=("linear",)).fit(genes[:40], v[:40]).predict(genes).mean
        for v in (values, -np.exp(-values))
    )
    np.testing.assert_array_equal(np.argsort(first, stable=True), np.argsort(second, stable=True))


def test_bad_settings(whole):
    with pytest.raises(UnknownNameError, match="pairwise"):
        StackedPredictor(CELLS, members=("pairwize",))
    with pytest.raises(BadInputError, match="at least one member"):
        StackedPredictor(CELLS, members=())
    with pytest.raises(BadInputError, match="coverage"):
        whole[0].interval(whole[1], 1.0)
    with pytest.raises(NotFittedError):
        _ = StackedPredictor(CELLS).weights


# ---- weights ------------------------------------------------------------------------------------


def test_weights_follow_the_data_where_there_is_much_of_it():
    rng = np.random.default_rng(0)
    z = rng.standard_normal(5000)
    held_out = np.stack([z + 0.1 * rng.standard_normal(5000), rng.standard_normal(5000)])
    assert stacking_weights(held_out, z, np.array([0.5, 0.5]))[0] > 0.97


def test_weights_stay_where_members_agree():
    z = np.random.default_rng(0).standard_normal(30)
    prior = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(stacking_weights(np.stack([z] * 3), z, prior), prior, atol=1e-4)


def test_few_rows_move_weights_little():
    rng = np.random.default_rng(0)
    z = rng.standard_normal(6)
    held_out = np.stack([z + 0.5 * rng.standard_normal(6), rng.standard_normal(6)])
    few = stacking_weights(held_out, z, np.array([0.5, 0.5]))
    many = stacking_weights(np.tile(held_out, 100), np.tile(z, 100), np.array([0.5, 0.5]))
    assert 0.5 < few[0] < many[0]


# ---- scores -------------------------------------------------------------------------------------


def test_scores_are_those_of_a_normal_sample():
    from scipy.stats import norm

    values = np.random.default_rng(0).exponential(size=9)
    known = NormalScores.of(values)
    expected = norm.ppf((np.arange(9) + 0.5) / 9)
    np.testing.assert_allclose(known.transform(np.sort(values)), expected)
    np.testing.assert_allclose(known.restore(known.transform(values)), values)


def test_ties_share_a_score_and_come_back():
    values = np.array([1.0, 1.0, 1.0, 2.0, 3.0])
    known = NormalScores.of(values)
    np.testing.assert_allclose(known.restore(known.transform(values)), values)
    same = NormalScores.of(np.full(4, 7.0))
    np.testing.assert_array_equal(same.restore(np.array([-3.0, 0.0, 3.0])), [7.0, 7.0, 7.0])


def test_restoring_goes_on_beyond_the_ends():
    known = NormalScores.of(np.array([1.0, 2.0, 3.0, 4.0, 10.0]))
    scores = np.linspace(-4, 4, 50)
    assert (np.diff(known.restore(scores)) > 0).all()
    assert known.restore(np.array([4.0]))[0] > 10
    assert known.restore(np.array([-4.0]))[0] < 1


def test_metadata_is_plain(whole, tmp_path):
    from safetensors import safe_open

    whole[0].save(tmp_path / "model")
    with safe_open(tmp_path / "model", framework="numpy") as file:
        content = json.loads(file.metadata()["hwnas"])["content"]
    assert content["fitted"] == list(MEMBERS)
