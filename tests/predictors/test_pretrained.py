import numpy as np
import pytest

from predictors import NotFittedError, PretrainedPredictor, rank_quality
from predictors.pretraining import Encoder, FineTuned
from records import BadInputError
from search_spaces import HybridSpace
from tests.predictors.contract import PredictorContract

SMALL = {"networks": 300, "encoders": 2, "width": 12, "steps": 15}


class TestPretrainedPredictor(PredictorContract):
    def make(self, seed=0):
        return PretrainedPredictor(self.space, seed=seed, **SMALL)


@pytest.mark.parametrize("seed", [5, 6])
def test_what_pretraining_learned_of_a_statistic_needs_few_rows(seed):
    """A value that hangs on the statistic alone is learned from 16 rows, if the statistic is."""
    space = HybridSpace()
    weights = np.random.default_rng(seed).standard_normal((len(space.choices), 4))

    def secret(genes):
        return np.asarray([weights[j, genes[:, j]] for j in range(genes.shape[1])]).sum(axis=0)

    genes = space.sample(300, np.random.default_rng(0))
    taus = [
        rank_quality(
            PretrainedPredictor(space, statistics=statistics, networks=1000, encoders=2)
            .fit(genes[:16], secret(genes[:16]))
            .predict(genes[16:])
            .mean,
            secret(genes[16:]),
        ).kendall_tau
        for statistics in (None, secret)
    ]
    assert taus[1] > taus[0] + 0.1


def test_networks_without_a_statistic_are_left_out():
    space = HybridSpace()

    def patchy(genes):
        return np.where(genes[:, 0] == 0, np.nan, genes[:, 1])

    genes = space.sample(30, np.random.default_rng(0))
    model = PretrainedPredictor(space, statistics=patchy, **SMALL)
    assert np.isfinite(model.fit(genes, genes[:, 1]).predict(genes).mean).all()
    for statistics, message in (
        (lambda rows: np.full(len(rows), np.nan), "fewer than 2"),
        (lambda rows: rows[:5], "length n or n x s"),
    ):
        bad = PretrainedPredictor(space, statistics=statistics, **SMALL)
        with pytest.raises(BadInputError, match=message):
            bad.fit(genes, genes[:, 1])


def test_a_loaded_one_needs_its_statistics_only_to_be_fitted_again(tmp_path):
    space = HybridSpace()
    genes = space.sample(30, np.random.default_rng(0))
    statistics = space.layer_table

    def sizes(rows):
        return np.log(statistics(rows).parameters)

    model = PretrainedPredictor(space, statistics=sizes, **SMALL).fit(genes, genes[:, 1])
    model.save(tmp_path / "model")
    loaded = PretrainedPredictor.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(genes).mean, model.predict(genes).mean)
    with pytest.raises(BadInputError, match="the same function"):
        loaded.fit(genes, genes[:, 1])
    again = PretrainedPredictor.load(tmp_path / "model", statistics=sizes).fit(genes, genes[:, 1])
    np.testing.assert_array_equal(again.predict(genes).mean, model.predict(genes).mean)
    loaded.save(tmp_path / "copy")
    with pytest.raises(BadInputError, match="the same function"):
        PretrainedPredictor.load(tmp_path / "copy").fit(genes, genes[:, 1])


def test_settings_that_make_no_sense():
    with pytest.raises(BadInputError, match="networks must be at least 8, got 7"):
        PretrainedPredictor(HybridSpace(), networks=7)
    with pytest.raises(BadInputError, match="encoders must be at least 2"):
        PretrainedPredictor(HybridSpace(), encoders=1)
    with pytest.raises(NotFittedError):
        PretrainedPredictor(HybridSpace()).predict(np.zeros((1, 27), int))


# ---- on arrays ----------------------------------------------------------------------------------


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 5))
    return Encoder.drawn(5, 6, rng), rows, np.sin(rows[:, 0]) + rows[:, 1]


def test_the_gradient_is_that_of_the_loss(arrays):
    from scipy.optimize import check_grad

    encoder, rows, values = arrays
    model = FineTuned.of(encoder, rows, 3 * values, steps=0)
    difference = check_grad(
        lambda flat: model._with(flat)._huber(rows, 3 * values)[0],
        lambda flat: model._with(flat)._huber(rows, 3 * values)[1],
        model._flat() + 0.1,
    )
    assert difference < 1e-3
    np.testing.assert_array_equal(model._with(model._flat())._flat(), model._flat())


def test_a_frozen_encoder_has_the_head_of_ridge_regression(arrays):
    from sklearn.linear_model import Ridge

    encoder, rows, values = arrays
    found = FineTuned.of(encoder, rows, values, head=0.7, steps=0)
    expected = Ridge(alpha=0.7).fit(encoder(rows), values)
    np.testing.assert_allclose(found.predict(rows), expected.predict(encoder(rows)))
    assert found.encoder is encoder


def test_a_great_penalty_keeps_the_encoder_where_it_was(arrays):
    encoder, rows, values = arrays
    moved = [FineTuned.of(encoder, rows, values, follows=follows) for follows in (1e6, 10.0, 0.1)]
    distances = [np.abs(model.encoder.first - encoder.first).max() for model in moved]
    errors = [np.abs(model.predict(rows) - values).mean() for model in moved]
    assert distances[0] < 1e-3 < distances[1] < distances[2]
    assert errors == sorted(errors, reverse=True)
