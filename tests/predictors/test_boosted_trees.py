from pathlib import Path

import numpy as np
import pytest

from predictors import BoostedTrees, NotFittedError, features, quality, rank_quality
from predictors.array_file import read_arrays, write_arrays
from records import BadInputError, CorruptFileError
from search_spaces import CNNSpace, HybridSpace
from tests.predictors.contract import PredictorContract
from tests.python_calls import calls_of

BENCHDATA = Path(__file__).parents[3] / "shared" / "benchdata"


class TestBoostedTrees(PredictorContract):
    def make(self, seed=0):
        return BoostedTrees(self.space, seed=seed)


class TestOnAnotherSpace(PredictorContract):
    """A space without attention, and smaller trees."""

    space = CNNSpace()

    def make(self, seed=0):
        return BoostedTrees(self.space, seed=seed, members=8, rounds=40, depth=2)

    def test_load_refuses_another_space(self, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        with pytest.raises(CorruptFileError, match="another space"):
            BoostedTrees.load(tmp_path / "model", HybridSpace())

    def test_load_in_another_process(self):
        """Done once, above."""


SMALL = {"members": 8, "rounds": 20, "depth": 2}
"""Options of a predictor that is fitted at once, for tests that do not ask how good it is."""


def double(genes):
    return np.asarray(genes) * 2.0


def toy(n=40, seed=0):
    rng = np.random.default_rng(seed)
    genes = rng.integers(0, 4, (n, 5))
    return genes, genes[:, 0] + 0.1 * genes[:, 1] + 0.05 * rng.standard_normal(n)


def test_another_seed_is_another_ensemble():
    genes, values = toy()
    first, second = (
        BoostedTrees(featurize=double, seed=s, **SMALL).fit(genes, values).predict(genes).mean
        for s in (0, 1)
    )
    assert (first != second).any()
    np.testing.assert_allclose(first, second, atol=0.5)


def test_featurize_round_trip(tmp_path):
    genes, values = toy()
    model = BoostedTrees(featurize=double, **SMALL).fit(genes, values)
    model.save(tmp_path / "model")
    loaded = BoostedTrees.load(tmp_path / "model", featurize=double)
    np.testing.assert_array_equal(loaded.predict(genes).mean, model.predict(genes).mean)
    with pytest.raises(BadInputError, match="same function"):
        BoostedTrees.load(tmp_path / "model")
    with pytest.raises(CorruptFileError, match="no space"):
        BoostedTrees.load(tmp_path / "model", CNNSpace())


def test_featurize_is_not_for_files_of_a_space(tmp_path):
    space = CNNSpace()
    genes = space.sample(8, np.random.default_rng(0))
    BoostedTrees(space, **SMALL).fit(genes, np.arange(8)).save(tmp_path / "model")
    with pytest.raises(BadInputError, match="leave featurize out"):
        BoostedTrees.load(tmp_path / "model", featurize=double)


def test_featurize_must_return_finite_columns():
    genes, values = toy()
    for wrong, message in (
        (lambda g: g[:, 0], "n x f"),
        (lambda g: g.astype(str), "n x f"),
        (lambda g: np.where(g == 0, np.nan, g), "returned nan"),
    ):
        with pytest.raises(BadInputError, match=message):
            BoostedTrees(featurize=wrong).fit(genes, values)
    model = BoostedTrees(featurize=double, **SMALL).fit(genes, values)
    with pytest.raises(BadInputError, match="5 were fitted"):
        model.predict(genes[:, :4])


def test_featurize_may_not_change_the_genes():
    def greedy(genes):
        genes[:] = 0
        return genes

    genes, values = toy()
    before = genes.copy()
    BoostedTrees(featurize=greedy, **SMALL).fit(genes, values)
    np.testing.assert_array_equal(genes, before)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"space": CNNSpace(), "featurize": double},
        {"featurize": double, "members": 7},
        {"featurize": double, "rounds": 0},
        {"featurize": double, "depth": 7},
        {"featurize": double, "depth": 0},
        {"featurize": double, "learning_rate": 0},
        {"featurize": double, "learning_rate": float("nan")},
    ],
)
def test_bad_options(options):
    with pytest.raises(BadInputError):
        BoostedTrees(**options)


def test_unknown_space_class_is_named(tmp_path):
    class PassingSpace(CNNSpace):
        pass

    space = PassingSpace()
    genes = space.sample(8, np.random.default_rng(0))
    BoostedTrees(space, **SMALL).fit(genes, np.arange(8)).save(tmp_path / "model")
    content, arrays = read_arrays(tmp_path / "model", "boosted trees", 1)
    content["space"]["space"] = "ForgottenSpace"
    write_arrays(tmp_path / "renamed", "boosted trees", 1, content, arrays)
    with pytest.raises(BadInputError, match="import its class"):
        BoostedTrees.load(tmp_path / "renamed")


def test_other_features_are_refused(tmp_path):
    space = CNNSpace()
    genes = space.sample(8, np.random.default_rng(0))
    BoostedTrees(space, **SMALL).fit(genes, np.arange(8)).save(tmp_path / "model")
    content, arrays = read_arrays(tmp_path / "model", "boosted trees", 1)
    content["features"][0] = "older"
    write_arrays(tmp_path / "model", "boosted trees", 1, content, arrays)
    with pytest.raises(CorruptFileError, match="other features"):
        BoostedTrees.load(tmp_path / "model", space)


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**30])  # powers of 2 round nothing anew
def test_unit_of_the_values_does_not_matter(factor):
    genes, values = toy()
    one = BoostedTrees(featurize=double, **SMALL).fit(genes, values).predict(genes)
    many = BoostedTrees(featurize=double, **SMALL).fit(genes, values * factor).predict(genes)
    np.testing.assert_allclose(many.mean, one.mean * factor, rtol=1e-12)
    np.testing.assert_allclose(many.std, one.std * factor, rtol=1e-12)


def test_one_wild_outlier_does_not_spoil_the_rest():
    genes, values = toy(80)
    unseen, true = toy(300, seed=1)
    clean = BoostedTrees(featurize=double).fit(genes, values).predict(unseen)
    values[3] = -1e3  # 500 interquartile ranges away
    wild = BoostedTrees(featurize=double).fit(genes, values).predict(unseen)
    assert np.isfinite(wild.mean).all()
    assert rank_quality(wild.mean, true).kendall_tau > 0.6
    assert rank_quality(clean.mean, true).kendall_tau > 0.8


def test_mostly_equal_values():
    genes, _ = toy(60)
    values = np.where(np.arange(60) % 6 == 0, np.arange(60.0), 5.0)
    prediction = BoostedTrees(featurize=double).fit(genes, values).predict(genes)
    assert np.isfinite(prediction.mean).all()
    assert (np.abs(prediction.mean) < 100).all()
    assert (prediction.std < 1000).all()


def test_std_is_larger_where_nothing_was_seen():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(0, 0.6, 90), rng.uniform(0.6, 1, 10)])[:, None]
    values = np.sin(12 * x[:, 0]) + 0.02 * rng.standard_normal(100)
    model = BoostedTrees(featurize=lambda g: g).fit(x, values)
    std = model.predict(np.linspace(0, 1, 101)[:, None]).std
    assert std[65:].mean() > 1.3 * std[:55].mean()


def test_coverage_on_noisy_synthetic_data():
    covered = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x = rng.random((560, 6))
        values = 3 * x[:, 0] + np.sin(6 * x[:, 1]) + 0.3 * rng.standard_normal(560)
        model = BoostedTrees(featurize=lambda g: g, seed=seed).fit(x[:60], values[:60])
        covered.append(quality(model.predict(x[60:]), values[60:]).coverage_90)
    assert 0.86 <= np.mean(covered) <= 0.96


def test_predicting_a_thousand_has_no_loop_over_rows():
    """9 to 11 ms on a loaded server core, features included."""
    space = HybridSpace()
    genes = space.sample(1000, np.random.default_rng(0))
    values = features(space, genes)[:, -6]
    model = BoostedTrees(space).fit(genes[:150], values[:150])
    model.predict(genes)  # what is made once is there
    alone = calls_of(lambda: model.predict(genes[:100]))
    assert calls_of(lambda: model.predict(genes)) < min(2 * alone, 2000)


class TestNASBenchMacro:
    """8 layers, each identity or one of two MobileNetV2 blocks (Su et al., CVPR 2021)."""

    @pytest.fixture(scope="class")
    @classmethod
    def table(cls):
        parquet = pytest.importorskip("pyarrow.parquet")
        if not (BENCHDATA / "nb_macro.parquet").exists():
            pytest.skip("the benchmark tables are not here")
        columns = parquet.read_table(BENCHDATA / "nb_macro.parquet").to_pydict()
        genes = np.array([[int(c) for c in arch] for arch in columns["arch"]], np.int16)
        sizes = np.full((3**8, 2), np.nan)
        sizes[cls.index(genes)] = np.log(np.stack([columns["flops"], columns["params"]], 1))
        return genes, np.array(columns["mean_acc"]), sizes

    @staticmethod
    def index(genes):
        return genes.astype(int) @ 3 ** np.arange(8)

    def featurize(self, sizes):
        def describe(genes):
            layers = (genes > 0).sum(axis=1, keepdims=True)
            return np.hstack([genes / 2, sizes[self.index(genes)], layers])

        return describe

    def test_rank_and_coverage_from_100_rows(self, table):
        genes, accuracy, sizes = table
        taus, coverages = [], []
        for seed in range(4):
            order = np.random.default_rng(seed).permutation(len(genes))
            seen, rest = order[:100], order[100:]
            model = BoostedTrees(featurize=self.featurize(sizes), seed=seed)
            prediction = model.fit(genes[seen], accuracy[seen]).predict(genes[rest])
            found = quality(prediction, accuracy[rest])
            taus.append(found.kendall_tau)
            coverages.append(found.coverage_90)
        macs_alone = rank_quality(sizes[self.index(genes), 0], accuracy).kendall_tau
        assert macs_alone == pytest.approx(0.56, abs=0.01)
        assert np.mean(taus) > 0.84  # 0.864 over 8 seeds; 0.82 by off-the-shelf models
        assert min(taus) > macs_alone + 0.2
        assert 0.84 <= np.mean(coverages) <= 0.97


def test_save_needs_a_fit(tmp_path):
    with pytest.raises(NotFittedError):
        BoostedTrees(featurize=double).save(tmp_path / "model")


@pytest.mark.parametrize("graph", [False, True])
def test_how_networks_are_described_is_saved(tmp_path, graph):
    space = CNNSpace()
    genes = space.sample(40, np.random.default_rng(3))
    model = BoostedTrees(space, graph=graph, **SMALL).fit(genes, genes.sum(axis=1))
    model.save(tmp_path / "model")
    again = BoostedTrees.load(tmp_path / "model", space)
    assert again.graph is graph
    assert np.array_equal(again.predict(genes).mean, model.predict(genes).mean)
    assert BoostedTrees(space).graph is False  # the space has more networks than are averaged over
