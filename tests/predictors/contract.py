"""What every predictor must do; inherit from `PredictorContract` and say how to make one."""

import subprocess
import sys
from abc import ABC, abstractmethod

import numpy as np
import pytest

from predictors import NotFittedError, Predictor, quality
from predictors.features import features
from records import BadInputError, CorruptFileError, MissingFileError
from search_spaces import CNNSpace, HybridSpace

IN_ANOTHER_PROCESS = """
import sys
import numpy as np
from {module} import {name}
prediction = {name}.load(sys.argv[1]).predict(np.load(sys.argv[2]))
np.save(sys.argv[3], np.stack([prediction.mean, prediction.std]))
assert "sklearn" not in sys.modules, "a saved predictor must not need scikit-learn"
"""


class PredictorContract(ABC):
    """Runs over one implementation; `make` returns a new, unfitted predictor of `space`."""

    space = HybridSpace()

    @abstractmethod
    def make(self, seed=0) -> Predictor: ...

    def data(self, n, seed=0, noise=0.002):
        """A made-up accuracy: larger is better with falling returns, attention helps, noise."""
        rng = np.random.default_rng(seed)
        genes = self.space.sample(n, rng)
        columns = features(self.space, genes)
        size = columns[:, -6] - 12  # log MACs
        values = 0.9 - 0.1 * np.exp(-size / 2) + 0.003 * columns[:, -1]
        return genes, values + noise * rng.standard_normal(n)

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls):
        return cls().make().fit(*cls().data(60))

    @pytest.fixture(scope="class")
    @classmethod
    def unseen(cls):
        return cls.space.sample(300, np.random.default_rng(99))

    def test_fit_returns_the_predictor(self):
        predictor = self.make()
        assert predictor.fit(*self.data(10)) is predictor

    def test_prediction_is_finite_and_std_positive(self, fitted, unseen):
        prediction = fitted.predict(unseen)
        assert prediction.mean.shape == prediction.std.shape == (300,)
        assert np.isfinite(prediction.mean).all()
        assert np.isfinite(prediction.std).all()
        assert (prediction.std > 0).all()

    def test_learns_more_than_a_constant(self, fitted):
        genes, values = self.data(400, seed=5)
        _, seen = self.data(60)
        found = quality(fitted.predict(genes), values)
        assert found.kendall_tau > 0.5
        squared = (fitted.predict(genes).mean - values) ** 2
        assert squared.mean() < 0.4 * ((seen.mean() - values) ** 2).mean()

    def test_intervals_cover_about_what_they_say(self, fitted):
        genes, values = self.data(1000, seed=6)
        assert 0.8 <= quality(fitted.predict(genes), values).coverage_90 <= 0.99

    def test_same_seed_same_prediction(self, fitted, unseen):
        again = self.make().fit(*self.data(60)).predict(unseen)
        first = fitted.predict(unseen)
        np.testing.assert_array_equal(again.mean, first.mean)
        np.testing.assert_array_equal(again.std, first.std)

    def test_second_fit_forgets_the_first(self, fitted, unseen):
        predictor = self.make().fit(*self.data(30, seed=3)).fit(*self.data(60))
        np.testing.assert_array_equal(predictor.predict(unseen).mean, fitted.predict(unseen).mean)

    def test_rows_do_not_influence_each_other(self, fitted, unseen):
        whole = fitted.predict(unseen)
        part = fitted.predict(unseen[7:9])
        np.testing.assert_array_equal(part.mean, whole.mean[7:9])
        np.testing.assert_array_equal(part.std, whole.std[7:9])

    def test_equal_networks_get_equal_predictions(self, fitted):
        rng = np.random.default_rng(1)
        raw = rng.integers(0, self.space.gene_space.sizes, (50, len(self.space.choices)))
        canonical = self.space.canonical(raw.astype(np.int16))
        assert (raw != canonical).any()
        np.testing.assert_array_equal(fitted.predict(raw).mean, fitted.predict(canonical).mean)

    def test_no_rows_give_no_predictions(self, fitted):
        assert len(fitted.predict(np.zeros((0, len(self.space.choices)), np.int16))) == 0

    def test_inputs_stay_as_they_are(self):
        genes, values = self.data(20)
        genes.flags.writeable = values.flags.writeable = False
        copies = genes.copy(), values.copy()
        self.make().fit(genes, values).predict(genes)
        np.testing.assert_array_equal(genes, copies[0])
        np.testing.assert_array_equal(values, copies[1])

    def test_constant_values(self, unseen):
        genes, _ = self.data(20)
        prediction = self.make().fit(genes, np.full(20, 0.1)).predict(unseen)
        np.testing.assert_allclose(prediction.mean, 0.1)
        assert (prediction.std > 0).all()
        assert (prediction.std < 1e-3).all()

    @pytest.mark.parametrize("rows", [2, 3, 5])
    def test_very_few_rows(self, rows, unseen):
        genes, values = self.data(rows)
        prediction = self.make().fit(genes, values).predict(unseen)
        assert np.isfinite(prediction.mean).all()
        assert (prediction.std > 0.1 * np.ptp(values)).all()

    def test_one_architecture_measured_several_times(self):
        genes, _ = self.data(1)
        prediction = self.make().fit(genes.repeat(6, 0), np.arange(6.0)).predict(genes)
        assert abs(prediction.mean[0] - 2.5) < 1
        assert prediction.std[0] > 0.5

    def test_bad_input(self):
        genes, values = self.data(10)
        with pytest.raises(BadInputError, match="at least 2"):
            self.make().fit(genes[:1], values[:1])
        with pytest.raises(BadInputError, match="row 3 is nan"):
            self.make().fit(genes, np.where(np.arange(10) == 3, np.nan, values))
        with pytest.raises(BadInputError, match="row 0 is inf"):
            self.make().fit(genes, np.full(10, np.inf))
        with pytest.raises(BadInputError, match="10 rows"):
            self.make().fit(genes, values[:9])
        with pytest.raises(BadInputError, match="10 rows"):
            self.make().fit(genes, values[:, None])
        with pytest.raises(BadInputError, match="numbers"):
            self.make().fit(genes, ["high"] * 10)
        with pytest.raises(BadInputError, match="genes must be"):
            self.make().fit(genes[:, 1:], values)

    def test_failed_fit_keeps_the_earlier_one(self, unseen):
        predictor = self.make().fit(*self.data(10))
        before = predictor.predict(unseen).mean
        with pytest.raises(BadInputError):
            predictor.fit(self.data(10)[0], np.full(10, np.nan))
        np.testing.assert_array_equal(predictor.predict(unseen).mean, before)

    def test_unfitted(self, tmp_path, unseen):
        with pytest.raises(NotFittedError):
            self.make().predict(unseen)
        with pytest.raises(NotFittedError):
            self.make().save(tmp_path / "model")
        assert not any(tmp_path.iterdir())

    def test_save_and_load(self, fitted, unseen, tmp_path):
        path = tmp_path / "folder" / "model.safetensors"
        fitted.save(path)
        for space in (None, self.space):
            loaded = type(fitted).load(path, space)
            np.testing.assert_array_equal(loaded.predict(unseen).mean, fitted.predict(unseen).mean)
            np.testing.assert_array_equal(loaded.predict(unseen).std, fitted.predict(unseen).std)

    def test_a_loaded_predictor_can_be_refitted(self, fitted, unseen, tmp_path):
        fitted.save(tmp_path / "model")
        again = type(fitted).load(tmp_path / "model").fit(*self.data(60))
        np.testing.assert_array_equal(again.predict(unseen).mean, fitted.predict(unseen).mean)

    def test_load_in_another_process(self, fitted, unseen, tmp_path):
        fitted.save(tmp_path / "model")
        np.save(tmp_path / "genes.npy", unseen)
        script = IN_ANOTHER_PROCESS.format(
            module=type(fitted).__module__, name=type(fitted).__name__
        )
        paths = [str(tmp_path / name) for name in ("model", "genes.npy", "found.npy")]
        subprocess.run([sys.executable, "-c", script, *paths], check=True)
        prediction = fitted.predict(unseen)
        np.testing.assert_array_equal(
            np.load(tmp_path / "found.npy"), np.stack([prediction.mean, prediction.std])
        )

    def test_load_refuses_another_space(self, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        for other in (CNNSpace(), HybridSpace(num_classes=7)):
            with pytest.raises(CorruptFileError, match="another space"):
                type(fitted).load(tmp_path / "model", other)

    def test_load_refuses_damage_anywhere(self, fitted, tmp_path):
        path = tmp_path / "model"
        fitted.save(path)
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        places = [0, 8, 20, len(whole) - 1, *rng.integers(8, len(whole), 20)]
        for place in places:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(CorruptFileError):
                type(fitted).load(path)
        for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(CorruptFileError):
                type(fitted).load(path)

    def test_load_refuses_foreign_and_missing_files(self, fitted, tmp_path):
        path = tmp_path / "model"
        with pytest.raises(MissingFileError):
            type(fitted).load(path)
        for content in (b"", b"{}", b"\x80\x04N.", b"PK\x03\x04" + bytes(100)):
            path.write_bytes(content)
            with pytest.raises(CorruptFileError):
                type(fitted).load(path)
