"""Costs where the precision of each stage or block is a choice."""

from dataclasses import replace

import numpy as np
import pytest

from deployment import Lowering, Timing
from deployment.quantisation.kernel_precision import IN_INT8
from latency_models import MeasuredCostModel, RooflineCostModel, calibrate
from latency_models.kernel_features import COLUMNS, INT8_COLUMNS, columns_of, kernel_features
from latency_models.kernel_fit import KernelFit, Measurements
from latency_models.measured import lowered
from records import BadInputError, UnknownNameError
from search_spaces import CNNSpace, ConvStage, WithBlockPrecision
from tests.latency_models.contract import CostModelContract
from tests.latency_models.doubles import CNN, HYBRID, TARGET, VIT, sampled

INT8 = replace(TARGET, precision="int8")
MIXED = WithBlockPrecision(base=CNN)
GAIN = 0.4
"""Of the planted time in fp32, what a kernel in 8 bits takes."""


def planted_ms(space, genes, batch_size=1):
    """Latencies by kernels: in 8 bits less for products, more for what is read and written."""
    table = Lowering(space, batch_size=batch_size).table(genes)
    small = table.column(IN_INT8) if isinstance(space, WithBlockPrecision) else 1
    macs = table.column("padded_macs") * (1 - (1 - GAIN) * small)
    moved = (table.column("read_elements") + table.column("write_elements")) * (1 + 0.5 * small)
    active = table.column("active")
    return 0.02 + 1e-6 * (500 * active + 0.1 * macs + 0.3 * moved).sum(axis=1)


def measured(space, target=INT8, n=80):
    rows = sampled(space, n)
    return MeasuredCostModel(space, target, rows, planted_ms(space, rows, target.batch_size))


class MixedContract(CostModelContract):
    """What differs from the contract: weights take a byte or four, values four."""

    space = MIXED
    target = INT8

    def test_peak_memory_is_weights_images_and_activations(self, model, genes):
        table = model.lowering.table(genes)
        each = np.where(table.column(IN_INT8) > 0, 1, 4)
        weights = (each * table.column("weight_elements")).sum(axis=1)
        images = 4 * 3 * MIXED.image_size**2
        np.testing.assert_array_equal(model.flash_bytes(genes), weights)
        activations = model.memory.activation_bytes(genes)
        np.testing.assert_array_equal(
            model.peak_memory_bytes(genes), weights + images + activations
        )
        in_fp32 = RooflineCostModel(CNN, TARGET).memory.activation_bytes(MIXED.to_base(genes))
        np.testing.assert_array_equal(activations, in_fp32)


class TestRooflineOfMixedFiles(MixedContract):
    def make(self, space, target):
        return RooflineCostModel(space, target)

    def test_a_network_wholly_in_fp32_costs_what_it_costs_in_fp32(self, model, genes):
        base = MIXED.to_base(genes)
        rows = MIXED.with_fp32(base, MIXED.blocks)
        plain = RooflineCostModel(CNN, TARGET)
        for metric in ("latency_ms", "flash_bytes"):
            np.testing.assert_allclose(
                model.predict(rows)[metric], plain.predict(base)[metric], rtol=1e-5
            )

    def test_every_block_in_int8_makes_it_faster_and_smaller(self, model, genes):
        base = MIXED.to_base(genes[:50])
        blocks = list(MIXED.blocks)
        steps = [MIXED.with_fp32(base, blocks[k:]) for k in range(len(blocks) + 1)]
        latency = np.array([model.latency_ms(rows) for rows in steps])
        weights = np.array([model.flash_bytes(rows) for rows in steps])
        assert (np.diff(latency, axis=0) < 0).all()
        assert (np.diff(weights, axis=0) < 0).all()

    def test_weights_take_a_byte_or_four(self, model):
        (row,) = MIXED.with_fp32(CNN.extremes("smallest"), ["stage1"])
        table = model.lowering.table(row[None])
        small = table.column(IN_INT8)[0] > 0
        elements = table.column("weight_elements")[0]
        assert model.flash_bytes(row)[0] == (np.where(small, 1, 4) * elements).sum()
        names = [kernel.name for kernel in model.lowering.kernels]
        inside = np.array([name.startswith("stage1.") for name in names])
        assert not small[inside].any()
        assert small[~inside].any()


class TestMeasuredMixedFiles(MixedContract):
    def make(self, space, target):
        return measured(space, target)

    def test_it_finds_the_time_of_kernels_in_either_precision(self, model):
        rows = MIXED.sample(200, np.random.default_rng(9))
        ratio = model.latency_ms(rows) / planted_ms(MIXED, rows)
        np.testing.assert_allclose(ratio, 1, atol=0.02)
        assert model.quantisation == "static"
        assert "static int8 or fp32 by stage" in model.latency_source

    def test_the_share_of_measured_kernels_is_told(self, model):
        costs = model.costs(MIXED.sample(50, np.random.default_rng(1)))
        total = costs.measured + costs.interpolated + costs.analytic
        np.testing.assert_allclose(total, 1)
        assert (costs.measured > 0).all()


def test_kernels_never_timed_in_8_bits_are_analytic_and_not_free():
    rows = sampled(MIXED, 60)
    fp32 = MIXED.with_fp32(MIXED.to_base(rows), MIXED.blocks)
    fp32 = np.unique(fp32, axis=0)
    model = MeasuredCostModel(MIXED, INT8, fp32, planted_ms(MIXED, fp32))
    base = MIXED.to_base(MIXED.sample(20, np.random.default_rng(2)))
    mixed = MIXED.with_fp32(base, [b for b in MIXED.blocks if b != "stage1"])
    costs, whole = model.costs(mixed), model.costs(MIXED.with_fp32(base, MIXED.blocks))
    assert (costs.analytic > 0).all()
    assert (whole.analytic == 0).all()
    parts = [p for p in model.parts(mixed[0]) if p.name.startswith("stage1.")]
    assert all(p.latency_ms > 0 for p in parts if p.kind in ("pointwise", "depthwise"))


@pytest.mark.parametrize("base", [CNN, VIT, HYBRID], ids=lambda s: s.name)
def test_features_of_either_precision_are_those_of_the_base(base):
    space = WithBlockPrecision(base=base, by="block")
    rows = space.sample(10, np.random.default_rng(5))
    mixed, plain = lowered(space, INT8), lowered(base, INT8)
    assert columns_of(mixed) == len(COLUMNS) + len(INT8_COLUMNS)
    codes = mixed.tabulation.codes(rows)
    found = kernel_features(mixed)[codes].sum(axis=0)
    expected = kernel_features(plain)[plain.tabulation.codes(space.to_base(rows))].sum(axis=0)
    places = [COLUMNS.index(column) for column in INT8_COLUMNS]
    both = found[:, : len(COLUMNS)].copy()
    both[:, places] += found[:, len(COLUMNS) :]
    np.testing.assert_allclose(both, expected)
    assert (found[:, len(COLUMNS) :] > 0).any()


def test_the_extremes_are_exact():
    base = CNNSpace(
        image_size=8,
        stages=(ConvStage(depths=(1, 2), widths=(8, 16), kernels=(3,), expansions=(1, 2)),),
    )
    space = WithBlockPrecision(base=base)
    model = RooflineCostModel(space, INT8)
    every = model.latency_ms(space.enumerate())
    (low, low_row), (high, high_row) = model.extremes("latency_ms")
    assert (low, high) == pytest.approx((every.min(), every.max()))
    assert model.latency_ms(low_row)[0] == pytest.approx(low)
    assert model.latency_ms(high_row)[0] == pytest.approx(high)


class FileRunner:
    """Says that a file takes a microsecond a kilobyte: mixed files lie between int8 and fp32."""

    name = "sizes"

    def time(self, models, *, threads, rounds=7, runs=3, min_seconds=0.0, seed=0, on_round=None):
        return [
            Timing(samples_ms=(len(model) * 1e-6,) * (rounds * runs), rounds=rounds, preempted=0.0)
            for model in models
        ]


def test_a_calibration_times_mixed_files():
    space = WithBlockPrecision(base=VIT, quantisation="dynamic")
    model = calibrate(space, INT8, networks=14, runner=FileRunner(), budget_s=60)
    assert model.quantisation == "dynamic"
    rows = model.genes
    shares = np.array([len(space.fp32_blocks(row)) for row in rows])
    assert shares.min() == 0
    assert shares.max() >= 4
    same = space.to_base(rows) == space.to_base(rows[:1])
    first = same.all(axis=1)
    sizes = model.measured_ms[first]
    assert len(sizes) == 2  # the smallest network, in int8 and in fp32
    assert sizes.max() > 1.3 * sizes.min()


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadInputError, match="precision='int8'"):
        RooflineCostModel(MIXED, TARGET)
    with pytest.raises(BadInputError, match="precision='int8'"):
        calibrate(MIXED, TARGET, runner=FileRunner())
    rows = sampled(MIXED, 20)
    ms = planted_ms(MIXED, rows)
    with pytest.raises(BadInputError, match="says static"):
        MeasuredCostModel(MIXED, INT8, rows, ms, quantisation="dynamic")
    with pytest.raises(UnknownNameError, match="quantisation"):
        MeasuredCostModel(MIXED, INT8, rows, ms, quantisation="half")
    plain = Measurements(lowering=lowered(CNN, INT8), genes=MIXED.to_base(rows), latencies_ms=ms)
    mixed = Measurements(lowering=lowered(MIXED, INT8), genes=rows, latencies_ms=ms)
    with pytest.raises(BadInputError, match="share no fit"):
        KernelFit((plain, mixed))


def test_a_saved_model_comes_back(tmp_path):
    model = measured(MIXED, n=40)
    model.save(tmp_path / "mixed.json")
    again = MeasuredCostModel.load(tmp_path / "mixed.json", MIXED, INT8)
    rows = MIXED.sample(20, np.random.default_rng(3))
    np.testing.assert_allclose(again.latency_ms(rows), model.latency_ms(rows))
    left = model.without(model.genes[-1])
    assert len(left.genes) == len(model.genes) - 1
