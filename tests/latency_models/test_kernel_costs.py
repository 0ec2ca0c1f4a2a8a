import logging
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from deployment import KINDS
from deployment.kernel_tables.descriptions import DescribedLowering, as_descriptions
from hardware_profiles import Target
from latency_models import CalibrationError, latency_quality
from latency_models.kernel_costs import (
    KernelTableCostModel,
    MeasuredKernels,
    TimedFile,
    measure_kernels,
)
from latency_models.kernel_costs.choosing import Candidates
from records import BadInputError, UnknownNameError, generator
from tests.latency_models.contract import CostModelContract
from tests.latency_models.doubles import CNN, HYBRID, PROFILE, TARGET, VIT, SwapSpace
from tests.latency_models.kernel_doubles import (
    AddingRunner,
    a_kernel,
    list_kernels_in_files,
    network_ms,
)
from tests.python_calls import calls_of

LONG = 1e6


@pytest.fixture
def listed(monkeypatch):
    return list_kernels_in_files(monkeypatch)


def truth(space, genes):
    lowering = DescribedLowering(space)
    rows = as_descriptions(lowering.descriptions)
    places = lowering.description_of_variant[lowering.tabulation.codes(genes)].T
    return np.array([network_ms([rows[i] for i in row if i >= 0]) for row in places])


def measured(spaces, target=TARGET, runner=None, **options):
    options = {"budget_s": LONG, "most_files": 48} | options
    return measure_kernels(spaces, target, runner or AddingRunner(), **options)


class TestKernelTableCostModel(CostModelContract):
    tables = {}  # noqa: RUF012

    def make(self, space, target):
        key = (space, target.name)
        if key not in self.tables:
            with pytest.MonkeyPatch.context() as monkeypatch:
                list_kernels_in_files(monkeypatch)
                self.tables[key] = measured([space], target, most_files=250)
        return KernelTableCostModel(space, target, self.tables[key])


@pytest.mark.parametrize("space", [CNN, VIT, HYBRID], ids=["cnn", "vit", "hybrid"])
def test_unseen_networks_are_predicted_from_some_kernels(listed, space):
    genes = space.sample(60, np.random.default_rng(5))
    table = measured(space, most_files=96)
    model = KernelTableCostModel(space, TARGET, table)
    quality = latency_quality(model.latency_ms(genes), truth(space, genes))
    assert quality.mape < 0.02
    assert quality.spearman > 0.99
    assert model.quality.mape < 0.03
    assert len(model.ratios) == 10


def test_noise_of_the_timings_averages_out(listed):
    genes = CNN.sample(60, np.random.default_rng(5))
    table = measured(CNN, runner=AddingRunner(noise=0.02), most_files=150)
    model = KernelTableCostModel(CNN, TARGET, table)
    assert latency_quality(model.latency_ms(genes), truth(CNN, genes)).mape < 0.02


@pytest.mark.slow
def test_active_choice_beats_random_choice(listed):
    genes = HYBRID.sample(60, np.random.default_rng(5))
    true = truth(HYBRID, genes)
    errors = {"active": [], "random": []}
    for seed in range(3):
        for choice in errors:
            table = measured(HYBRID, most_files=48, networks=0, choice=choice, seed=seed)
            model = KernelTableCostModel(HYBRID, TARGET, table)
            assert len(table) == 48
            errors[choice].append(latency_quality(model.latency_ms(genes), true).mape)
    assert np.mean(errors["active"]) < 0.8 * np.mean(errors["random"])


def test_what_is_expected_to_be_unknown_shrinks_as_kernels_are_timed(listed):
    candidates = Candidates([CNN], TARGET, generator(0, "test"))
    table = MeasuredKernels.empty(TARGET)
    spreads = [candidates.state(table).expected_spread()]
    for _ in range(3):
        measured(CNN, table=table, most_files=24, networks=0)
        spreads.append(candidates.state(table).expected_spread())
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] < 0.2 * spreads[0]


@pytest.mark.slow
def test_one_table_serves_spaces_that_it_was_not_measured_for(listed):
    table = measured([CNN, VIT], most_files=150)
    genes = HYBRID.sample(40, np.random.default_rng(5))
    model = KernelTableCostModel(HYBRID, TARGET, table)
    quality = latency_quality(model.latency_ms(genes), truth(HYBRID, genes))
    assert quality.spearman > 0.9
    shares = model.costs(genes)
    assert shares.interpolated.mean() > shares.measured.mean()
    before = quality.mape
    measured(HYBRID, table=table, most_files=150)
    model = KernelTableCostModel(HYBRID, TARGET, table)
    assert latency_quality(model.latency_ms(genes), truth(HYBRID, genes)).mape < before
    assert model.costs(genes).measured.mean() > shares.measured.mean()


def test_kinds_that_the_runtime_refuses_are_named_and_the_rest_goes_on(listed, caplog):
    runner = AddingRunner(refuses=["attention"])
    with caplog.at_level(logging.WARNING):
        table = measured(HYBRID, runner=runner, networks=0, most_files=150)
    kinds = {KINDS[kernel.kind] for kernel in table.refused}
    assert kinds == {"attention"}
    assert "no such operator: attention" in caplog.text
    assert {KINDS[k.kind] for k in table.kernels} >= {"pointwise", "depthwise", "gemm"}
    model = KernelTableCostModel(HYBRID, TARGET, table)
    genes = HYBRID.sample(100, np.random.default_rng(0))
    analytic = model.costs(genes).analytic
    has = (
        (model.lowering.table(genes).column("kind") == KINDS.index("attention"))
        & (model.lowering.table(genes).column("active") > 0)
    ).any(axis=1)
    assert (analytic[has] > 0).all()
    assert (analytic[~has] == 0).all()
    assert "refused by the runtime" in model.latency_source
    flat = model.lowering.tabulation.columns
    refused = (flat["kind"] == KINDS.index("attention")) & (flat["active"] > 0)
    assert (model.kernel_ms[refused] > 0).all()
    assert np.isnan(model.kernel_spread[refused]).all()
    assert (model.origin[refused] == 2).all()


def test_a_runtime_that_refuses_everything_is_an_error(listed):
    with pytest.raises(CalibrationError, match=r"nothing could be timed.*no such operator"):
        measured(CNN, runner=AddingRunner(refuses=KINDS), networks=0)


def test_interrupted_it_keeps_what_it_has(listed, tmp_path):
    table, path = MeasuredKernels.empty(TARGET), tmp_path / "t.json"
    with pytest.raises(KeyboardInterrupt):
        measured(
            CNN, runner=AddingRunner(interrupted_after=2), table=table, path=path, most_files=200
        )
    kept = len(table)
    assert kept > 24
    again = MeasuredKernels.load(path)
    assert len(again) == kept
    measured(CNN, table=again, most_files=24)
    assert len(again) > kept
    kernels = [row.kernels for row in again.rows("kernel")]
    assert len(set(kernels)) == len(kernels)  # nothing was timed twice
    assert len(again.rows("network")) == 10


@pytest.mark.slow
def test_it_stops_where_enough_is_known(listed):
    table = measured(CNN, tolerance=0.1, most_files=1000)
    rest = measured(CNN, tolerance=0.001, most_files=1000)
    assert len(table) < len(rest)


def test_it_ends_when_everything_was_timed(listed):
    space = SwapSpace(image_size=8)
    table = measured(space, most_files=None)
    candidates = Candidates([space], TARGET, generator(0, "test"))
    assert table.kernels >= set(candidates.kernels)
    model = KernelTableCostModel(space, TARGET, table)
    assert (model.origin == 0).all()
    assert model.costs(space.sample(5, np.random.default_rng(0))).measured == pytest.approx(1)


def test_the_budget_ends_it(listed, monkeypatch):
    looks = count(100)  # a clock that moves on by a second with every look
    clock = SimpleNamespace(perf_counter=lambda: next(looks))
    monkeypatch.setattr("latency_models.kernel_costs.measuring.time", clock)
    told = []
    table = measure_kernels(
        CNN, TARGET, AddingRunner(), budget_s=3.0, on_progress=lambda *a: told.append(a)
    )
    assert len(table) > 0
    assert told == [("timing kernels", 1, 3), ("timing kernels", 2, 3)]


def test_without_networks_the_sum_is_raw_and_there_is_no_interval(listed):
    model = KernelTableCostModel(CNN, TARGET, measured(CNN, networks=0))
    genes = CNN.sample(3, np.random.default_rng(0))
    assert np.isnan(model.costs(genes).latency_low_ms).all()
    assert "not calibrated" in model.latency_source
    with pytest.raises(BadInputError, match="two networks"):
        _ = model.quality
    assert (model.calibration.scales == 1).all()


def test_prediction_has_no_loop_over_rows(listed):
    model = KernelTableCostModel(HYBRID, TARGET, measured(HYBRID))
    genes = HYBRID.sample(50_000, np.random.default_rng(0))
    model.latency_ms(genes)
    few, many = (calls_of(lambda n=n: model.latency_ms(genes[:n])) for n in (500, 50_000))
    assert many < 3 * few
    assert many < 50_000 / 2


def test_a_growing_table_does_not_change_a_model(listed):
    table = measured(CNN, most_files=24)
    model = KernelTableCostModel(CNN, TARGET, table)
    genes = CNN.sample(20, np.random.default_rng(0))
    before = KernelTableCostModel(CNN, TARGET, table).latency_ms(genes)
    measured(CNN, table=table, most_files=48)
    np.testing.assert_array_equal(model.latency_ms(genes), before)


def test_tables_that_do_not_fit_are_refused(listed):
    with pytest.raises(BadInputError, match="no kernels yet"):
        KernelTableCostModel(CNN, TARGET, MeasuredKernels.empty(TARGET))
    table = measured(CNN, most_files=24)
    with pytest.raises(BadInputError, match="threads"):
        KernelTableCostModel(CNN, replace(TARGET, threads=2), table)
    with pytest.raises(BadInputError, match="batch_size"):
        measured(CNN, replace(TARGET, batch_size=2), table=table)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"budget_s": 0.0}, BadInputError, "budget_s"),
        ({"budget_s": float("nan")}, BadInputError, "budget_s"),
        ({"networks": -1}, BadInputError, "networks"),
        ({"choice": "best"}, UnknownNameError, "active"),
    ],
    ids=["budget", "nan", "networks", "choice"],
)
def test_bad_input_is_named(options, error, says):
    with pytest.raises(error, match=says):
        measured(CNN, **options)


def test_no_space_no_runner_and_other_precisions_are_refused():
    with pytest.raises(BadInputError, match="needs a space"):
        measured([])
    with pytest.raises(CalibrationError, match="not this machine"):
        measure_kernels(CNN, TARGET)
    with pytest.raises(BadInputError, match="int8"):
        measured(CNN, Target(profile=PROFILE, precision="int8"))


def test_a_runner_that_says_nonsense_is_named(listed):
    class Broken(AddingRunner):
        def time(self, models, **options):
            timings = super().time(models, **options)
            return [replace(t, samples_ms=(float("nan"),)) for t in timings]

    with pytest.raises(CalibrationError, match="positive and finite"):
        measured(CNN, runner=Broken(), networks=0, most_files=24)


def test_rows_of_networks_of_other_spaces_calibrate_too(listed):
    table = measured(CNN, networks=0)
    before = KernelTableCostModel(CNN, TARGET, table).latency_ms(CNN.extremes("largest"))
    lowering = DescribedLowering(VIT)
    rows = as_descriptions(lowering.descriptions)
    for row in VIT.sample(3, np.random.default_rng(0)):
        place = lowering.description_of_variant[lowering.tabulation.codes(row[None])[:, 0]]
        kernels = tuple(rows[i] for i in place if i >= 0)
        table.add(
            [TimedFile(what="network", kernels=kernels, latency_ms=10 * network_ms(kernels))]
        )
    after = KernelTableCostModel(CNN, TARGET, table).latency_ms(CNN.extremes("largest"))
    assert (after > 1.5 * before).all()


def test_a_kernel_that_no_file_can_hold_is_refused_and_remembered():
    candidates = Candidates([CNN], TARGET, generator(0, "test"))
    odd = a_kernel(groups=5)
    assert candidates.file(odd, 1) is None
    assert "groups" in candidates.refused[odd]
    assert candidates.file(odd, 4) is None
