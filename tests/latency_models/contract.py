"""What every cost model keeps; a test class per model inherits it and says how one is made."""

import json
from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np
import pytest

from deployment import KINDS
from latency_models import METRICS, CostModel, Costs
from records import UnknownNameError, json_text
from tests.latency_models.doubles import HYBRID, TARGET, SwapSpace

PROBABILITIES = (0.01, 0.05, 0.3, 0.5, 0.51, 0.8, 0.9, 0.95, 0.99, 0.999)


class CostModelContract(ABC):
    """Inherit as `TestX(CostModelContract)`."""

    space = HYBRID
    target = TARGET

    @abstractmethod
    def make(self, space, target) -> CostModel:
        """A model of a space on a target."""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls):
        return cls().make(cls.space, cls.target)

    @pytest.fixture(scope="class")
    @classmethod
    def genes(cls):
        return cls.space.sample(300, np.random.default_rng(42))

    def test_costs_are_positive_and_one_per_row(self, model, genes):
        costs = model.costs(genes)
        for name in ("latency_ms", "energy_mj", "peak_memory_bytes"):
            values = getattr(costs, name)
            assert values.shape == (300,)
            assert values.dtype == np.float64
            assert np.isfinite(values).all()
            assert (values > 0).all()
        assert all(getattr(costs, name).shape == (300,) for name in Costs.__slots__)

    def test_every_way_to_ask_gives_the_same(self, model, genes):
        costs, predicted = model.costs(genes), model.predict(genes)
        assert tuple(predicted) == METRICS == model.metrics
        for name, values in predicted.items():
            np.testing.assert_allclose(values, getattr(costs, name), rtol=1e-12)
        np.testing.assert_allclose(model.latency_ms(genes), costs.latency_ms, rtol=1e-12)
        np.testing.assert_array_equal(model.peak_memory_bytes(genes), costs.peak_memory_bytes)

    def test_rows_do_not_depend_on_each_other(self, model, genes):
        together = model.costs(genes[:15])
        for i in range(15):
            alone = model.costs(genes[i : i + 1])
            for name in Costs.__slots__:
                np.testing.assert_allclose(
                    getattr(alone, name)[0], getattr(together, name)[i], rtol=1e-12
                )

    def test_equal_rows_cost_the_same(self, model, genes):
        twice = model.costs(np.concatenate([genes, genes]))
        for name in Costs.__slots__:
            values = getattr(twice, name)
            np.testing.assert_array_equal(values[:300], values[300:])

    def test_no_rows_cost_nothing(self, model, genes):
        assert model.latency_ms(genes[:0]).shape == (0,)
        assert model.peak_memory_bytes(genes[:0]).shape == (0,)

    def test_coverage_shares_add_up_to_one(self, model, genes):
        costs = model.costs(genes)
        shares = np.stack([costs.measured, costs.interpolated, costs.analytic])
        assert (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(axis=0), 1, rtol=1e-9)

    def test_interval_holds_the_prediction_or_is_unknown(self, model, genes):
        costs = model.costs(genes)
        if len(model.ratios) == 0:
            assert np.isnan(costs.latency_low_ms).all()
            assert np.isnan(costs.latency_high_ms).all()
        else:
            assert (costs.latency_low_ms <= costs.latency_ms).all()
            assert (costs.latency_high_ms >= costs.latency_ms).all()

    def test_unknown_metric_lists_the_known(self, model, genes):
        for ask in (lambda: model.bound("latency", genes), lambda: model.extremes("latency")):
            with pytest.raises(UnknownNameError, match="'latency'") as error:
                ask()
            assert all(name in str(error.value) for name in METRICS)

    @pytest.mark.parametrize("metric", ["latency_ms", "energy_mj", "flash_bytes"])
    def test_extremes_are_exact(self, model, metric):
        (least, least_genes), (most, most_genes) = model.extremes(metric)
        drawn = self.space.sample(20_000, np.random.default_rng(7))
        values = model.predict(drawn)[metric]
        assert least <= values.min() * (1 + 1e-12)
        assert most >= values.max() * (1 - 1e-12)
        ends = np.stack([least_genes, most_genes])
        np.testing.assert_array_equal(self.space.gene_space.check(ends), ends)
        np.testing.assert_allclose(model.predict(ends)[metric], [least, most], rtol=1e-12)

    def test_extremes_of_the_peak_memory_are_not_known(self, model):
        assert model.extremes("peak_memory_bytes") is None

    def test_parts_add_up_to_the_latency(self, model, genes):
        for row in genes[:20]:
            parts = model.parts(row)
            table = model.lowering.table(row[None])
            assert len(parts) == table.column("active").sum()
            assert len({part.name for part in parts}) == len(parts)
            assert {part.kind for part in parts} <= set(KINDS)
            assert min(part.latency_ms for part in parts) >= 0
            total = sum(part.latency_ms for part in parts)
            expected = model.latency_ms(row[None])[0] - model.base_ms
            assert total == pytest.approx(expected, rel=1e-5)

    def test_no_kernel_is_free(self, model, genes):
        kinds = {}
        for row in genes:
            for part in model.parts(row):
                kinds[part.kind] = max(kinds.get(part.kind, 0.0), part.latency_ms)
        assert all(latency > 0 for latency in kinds.values()), kinds

    def test_record_is_json_with_its_sources(self, model, genes):
        record = model.record(genes[3])
        assert json.loads(json_text(record)) == record
        costs = model.costs(genes[3:4])
        for name in METRICS:
            assert record[name] == getattr(costs, name)[0]
        assert record["coverage"] == {
            name: getattr(costs, name)[0] for name in ("measured", "interpolated", "analytic")
        }
        interval = record["latency_interval_90_ms"]
        if len(model.ratios) == 0:
            assert interval is None
        else:
            assert interval == [costs.latency_low_ms[0], costs.latency_high_ms[0]]
        assert record["latency_source"] == model.latency_source
        assert record["energy_source"] == model.energy_source
        assert record["energy_source"].startswith("modelled")

    def test_peak_memory_is_weights_images_and_activations(self, model, genes):
        layers = self.space.layer_table(genes)
        norms = [node.operator == "batch_norm" for node in self.space.nodes]
        weights = layers.parameters - layers.column("parameters")[:, norms].sum(axis=1)
        images = 4 * 3 * self.space.image_size**2
        np.testing.assert_array_equal(model.flash_bytes(genes), 4 * weights)
        np.testing.assert_array_equal(
            model.peak_memory_bytes(genes),
            4 * weights + images + model.memory.activation_bytes(genes),
        )

    def test_bound_grows_with_the_probability(self, model, genes):
        genes = genes[:50]
        for metric in METRICS:
            bounds = np.stack([model.bound(metric, genes, p) for p in PROBABILITIES])
            assert (np.diff(bounds, axis=0) >= 0).all()
            assert (bounds[-3] >= model.predict(genes)[metric]).all()

    def test_bound_of_what_is_not_measured_is_the_prediction(self, model, genes):
        for metric in ("energy_mj", "peak_memory_bytes", "flash_bytes"):
            np.testing.assert_array_equal(
                model.bound(metric, genes, 0.5), model.predict(genes)[metric]
            )

    def test_wider_networks_cost_more(self, model, genes):
        widths = [
            j
            for j, choice in enumerate(self.space.choices)
            if choice.name.split(".")[-1] in ("width", "embed_dim")
        ]
        assert widths
        before = model.predict(genes)
        for j in widths:
            grow = genes[:, j] < self.space.gene_space.sizes[j] - 1
            wider = genes[grow].copy()
            wider[:, j] += 1
            after = model.predict(wider)
            assert (after["energy_mj"] > before["energy_mj"][grow]).all()
            assert (after["flash_bytes"] > before["flash_bytes"][grow]).all()
            memory = after["peak_memory_bytes"] / before["peak_memory_bytes"][grow]
            assert memory.mean() > 1  # one buffer more or less is reused
            assert memory.min() > 0.7
            assert (after["latency_ms"] >= before["latency_ms"][grow]).all()

    def test_larger_batches_cost_more(self, model, genes):
        batch = self.make(self.space, replace(self.target, batch_size=4)).predict(genes)
        one = model.predict(genes)
        assert (batch["latency_ms"] > one["latency_ms"]).all()
        assert (batch["energy_mj"] > one["energy_mj"]).all()
        np.testing.assert_array_equal(batch["flash_bytes"], one["flash_bytes"])
        of_images = (batch["peak_memory_bytes"] - one["flash_bytes"]) / (
            one["peak_memory_bytes"] - one["flash_bytes"]
        )
        assert (of_images > 3).all()
        assert (of_images < 5).all()

    def test_same_macs_of_other_operators_cost_differently(self):
        space = SwapSpace(image_size=8)
        model = self.make(space, self.target)
        pair = np.array([[1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], np.int16)
        one, nine = space.layer_table(pair).macs
        assert one == nine
        dense, chain = model.latency_ms(pair)
        assert abs(dense / chain - 1) > 0.05

    def test_target_is_named(self, model):
        assert model.target_name == self.target.name == model.target.name
        assert model.latency_source
