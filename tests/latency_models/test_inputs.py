"""What users hand to cost models by mistake is refused with what to do instead."""

import numpy as np
import pytest

from hardware_profiles import eyeriss_like
from latency_models import (
    AcceleratorCostModel,
    EndToEndCosts,
    KernelTableCostModel,
    MeasuredCostModel,
    MeasuredKernels,
    PatchPlan,
    RooflineCostModel,
    calibrate,
    calibrate_together,
    measure_kernels,
    with_measured_energy,
)
from latency_models.inputs import checked_genes
from records import BadInputError
from tests.latency_models.doubles import CNN, TARGET

MODEL = RooflineCostModel(CNN, TARGET)
CHIP = AcceleratorCostModel(CNN, eyeriss_like())
WHOLE = EndToEndCosts(MODEL, {16: 1.0})
GENES = CNN.sample(12, np.random.default_rng(0))
TABLE = MeasuredKernels.empty(TARGET)


@pytest.mark.parametrize("model", [MODEL, CHIP, WHOLE], ids=["network", "chip", "end-to-end"])
def test_genes_of_another_shape_kind_or_range_are_refused_and_one_row_is_taken(model):
    with pytest.raises(BadInputError, match=f"genes must be n x {GENES.shape[1]}"):
        model.predict(GENES[:, :3])["latency_ms"]
    with pytest.raises(BadInputError, match="integers"):
        model.predict(GENES.astype(float))["latency_ms"]
    for wrong in (99, -1):
        beyond = GENES.copy()
        beyond[3, 2] = wrong
        with pytest.raises(BadInputError, match=f"of row 3 is {wrong}; allowed: 0 to"):
            model.bound("latency_ms", beyond)
    every = model.latency_ms(GENES)
    np.testing.assert_array_equal(model.latency_ms(GENES[5]), every[5:6])
    np.testing.assert_array_equal(model.latency_ms(GENES.tolist()), every)
    assert model.record(GENES[5])["latency_ms"] == pytest.approx(every[5])


def test_every_number_of_a_network_is_asked_for_with_genes_of_the_space():
    asked = (MODEL.costs, MODEL.latency_ms, MODEL.kernel_sum_ms, MODEL.peak_memory_bytes,
             MODEL.flash_bytes, MODEL.parts, MODEL.record, WHOLE.costs, CHIP.area_kgates,
             PatchPlan(CNN, "stem.activation", 2).costs)  # fmt: skip
    for ask in asked:
        with pytest.raises(BadInputError, match="allowed: 0 to"):
            ask(GENES + 50)


def test_genes_that_fit_are_passed_on_without_a_copy():
    assert checked_genes(CNN, GENES) is GENES
    assert checked_genes(CNN, GENES[:0]).shape == (0, GENES.shape[1])


@pytest.mark.parametrize("probability", [0, 1, 1.5, float("nan"), "0.95"])
def test_a_bound_needs_a_probability(probability):
    for model in (MODEL, WHOLE):
        with pytest.raises(BadInputError, match="probability must be within 0 and 1"):
            model.bound("latency_ms", GENES, probability)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RooflineCostModel("cnn", TARGET),
        lambda: AcceleratorCostModel("cnn", eyeriss_like()),
        lambda: MeasuredCostModel("cnn", TARGET, GENES, np.ones(12)),
        lambda: KernelTableCostModel("cnn", TARGET, TABLE),
        lambda: calibrate([CNN], TARGET),
        lambda: measure_kernels("cnn", TARGET),
    ],
    ids=["roofline", "chip", "measured", "table", "calibrate", "kernels"],
)
def test_what_is_no_space_is_refused(make):
    with pytest.raises(BadInputError, match="a SearchSpace is needed"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: RooflineCostModel(CNN, "raspberry-pi-4"),
        lambda: MeasuredCostModel(CNN, "raspberry-pi-4", GENES, np.ones(12)),
        lambda: KernelTableCostModel(CNN, "raspberry-pi-4", TABLE),
        lambda: calibrate(CNN, "raspberry-pi-4"),
        lambda: measure_kernels(CNN, "raspberry-pi-4"),
    ],
    ids=["roofline", "measured", "table", "calibrate", "kernels"],
)
def test_what_is_no_target_is_refused(make):
    with pytest.raises(BadInputError, match=r"a Target is needed.*got 'raspberry-pi-4'"):
        make()


def test_other_mistakes_say_what_is_meant():
    with pytest.raises(BadInputError, match="an Accelerator is needed"):
        AcceleratorCostModel(CNN, TARGET)
    with pytest.raises(BadInputError, match="use calibrate for one"):
        calibrate_together(CNN, TARGET)
    for budget in ("60", float("nan"), -1):
        with pytest.raises(BadInputError, match="budget_s must be positive"):
            calibrate(CNN, TARGET, budget_s=budget)
        with pytest.raises(BadInputError, match="budget_s must be positive"):
            measure_kernels(CNN, TARGET, budget_s=budget)
    with pytest.raises(BadInputError, match="latencies must be numbers"):
        MeasuredCostModel(CNN, TARGET, GENES, ["fast"] * 12)
    with pytest.raises(BadInputError, match="energies must be numbers"):
        with_measured_energy(MODEL, GENES, ["little"] * 12)
    with pytest.raises(BadInputError, match="got AcceleratorCostModel"):
        with_measured_energy(CHIP, GENES, np.ones(12))
    with pytest.raises(BadInputError, match="patches and bytes_per_value must be whole"):
        PatchPlan(CNN, "stem.activation", 1.5)
