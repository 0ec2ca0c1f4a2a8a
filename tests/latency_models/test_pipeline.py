"""The way of an image to the network, and costs that count it."""

import io

import numpy as np
import pytest
from PIL import Image

from latency_models import MeasuredCostModel, RooflineCostModel
from latency_models.pipeline import (
    EndToEndCosts,
    PipelineCost,
    encoded_image,
    measure_pipeline,
    network_sides,
    parse_size,
)
from records import BadInputError, json_text
from search_spaces.standard import standard_space
from strategies import Problem, check_feasible
from tests.latency_models.doubles import CNN, TARGET
from tests.strategies.doubles import FormulaAccuracy

MODEL = RooflineCostModel(CNN, TARGET)
GENES = CNN.sample(50, np.random.default_rng(0))


def test_larger_images_take_longer_to_decode():
    small, large = (measure_pipeline(encoded_image(size), 32) for size in ((64, 48), (1280, 960)))
    assert large.decode_ms > 5 * small.decode_ms
    assert small.total_ms == pytest.approx(
        small.decode_ms + small.resize_ms + small.normalise_ms + small.transfer_ms
    )
    assert all(getattr(small, name) > 0 for name in PipelineCost.__slots__)


def test_an_image_of_the_size_asked_for_is_made_or_read(tmp_path):
    made = encoded_image((40, 30))
    assert Image.open(io.BytesIO(made)).size == (40, 30)
    file = tmp_path / "a.jpg"
    file.write_bytes(made)
    assert encoded_image(file) == made
    assert parse_size("40x30") == (40, 30)
    assert parse_size("a.jpg") is None
    assert measure_pipeline(made, 8, channels=1, rounds=1).total_ms > 0


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="there is no image"):
        encoded_image(tmp_path / "none.jpg")
    with pytest.raises(BadInputError, match="at least 1 x 1"):
        encoded_image((0, 5))
    with pytest.raises(BadInputError, match="cannot decode"):
        measure_pipeline(b"none", 32)
    with pytest.raises(BadInputError, match="side and rounds"):
        measure_pipeline(b"none", 0)


def test_the_constant_is_added_to_the_latency_alone():
    costs = EndToEndCosts(MODEL, {16: 2.5})
    alone, whole = MODEL.predict(GENES), costs.predict(GENES)
    assert tuple(whole) == tuple(alone)
    np.testing.assert_allclose(whole["latency_ms"], alone["latency_ms"] + 2.5)
    np.testing.assert_array_equal(whole["energy_mj"], alone["energy_mj"])
    np.testing.assert_allclose(
        costs.bound("latency_ms", GENES), MODEL.bound("latency_ms", GENES) + 2.5
    )
    (low, _), (high, _) = costs.extremes("latency_ms")
    assert low <= whole["latency_ms"].min() <= whole["latency_ms"].max() <= high
    assert costs.extremes("energy_mj")[0][0] == MODEL.extremes("energy_mj")[0][0]
    assert costs.target_name == MODEL.target_name
    with pytest.raises(BadInputError, match="no time is known for images of side 16"):
        EndToEndCosts(MODEL, {32: 1.0}).predict(GENES)["latency_ms"]


def test_a_limit_holds_for_the_whole_way():
    costs = EndToEndCosts(MODEL, {16: 2.5})
    limit = float(np.median(costs.predict(GENES)["latency_ms"]))
    kept = check_feasible(Problem(CNN, FormulaAccuracy(CNN), [costs], {"latency_ms": limit}))
    assert (MODEL.latency_ms(kept.feasible_genes) <= limit - 2.5 + 1e-9).all()


def test_each_resolution_has_its_own_constant():
    space = standard_space("ofa-mobilenetv3")
    model = RooflineCostModel(space, TARGET)
    genes = space.sample(30, np.random.default_rng(0))
    sides = network_sides(model, genes)
    assert len(set(sides.tolist())) > 1
    costs = EndToEndCosts(model, {side: side / 10 for side in set(sides.tolist())})
    np.testing.assert_allclose(costs.added_ms(genes), sides / 10)
    assert costs.extremes("latency_ms") is None


def test_costs_and_record_count_the_images_in_latency_and_interval_alone():
    measured = MeasuredCostModel(CNN, TARGET, GENES, MODEL.latency_ms(GENES) * 2)
    measure = PipelineCost(decode_ms=2.0, resize_ms=0.25, normalise_ms=0.25, transfer_ms=0.0)
    costs = EndToEndCosts(measured, {16: measure})
    alone, whole = measured.costs(GENES), costs.costs(GENES)
    for name in ("latency_ms", "latency_low_ms", "latency_high_ms"):
        np.testing.assert_allclose(getattr(whole, name), getattr(alone, name) + 2.5)
    np.testing.assert_allclose(costs.latency_ms(GENES), whole.latency_ms, rtol=1e-6)
    np.testing.assert_array_equal(whole.energy_mj, alone.energy_mj)
    before, after = measured.record(GENES[3]), costs.record(GENES[3])
    assert after["images_ms"] == 2.5
    assert after["latency_ms"] == pytest.approx(before["latency_ms"] + 2.5)
    low, high = after["latency_interval_90_ms"]
    assert low <= after["latency_ms"] <= high
    assert after["latency_source"].startswith(before["latency_source"])
    assert after["coverage"] == before["coverage"]
    assert costs.unmeasured == measured.unmeasured == ("energy_mj",)
    json_text(after)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), "1"])
def test_a_time_of_images_is_a_number(wrong):
    with pytest.raises(BadInputError, match="images of side 16 must be a number"):
        EndToEndCosts(MODEL, {16: wrong})


def test_a_size_may_be_text_and_mistakes_say_what_is_needed():
    assert encoded_image("40x30") == encoded_image((40, 30))
    with pytest.raises(BadInputError, match="use encoded_image"):
        measure_pipeline("a.jpg", 16)
    with pytest.raises(BadInputError, match="cannot decode these 4 bytes"):
        measure_pipeline(b"none", 16)
    with pytest.raises(BadInputError, match="a CostModel is needed, got EndToEndCosts"):
        EndToEndCosts(EndToEndCosts(MODEL, {}), {16: 1.0})
