import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from deployment import KINDS
from hardware_profiles import Target, local_target
from latency_models import MeasuredCostModel, RooflineCostModel, latency_quality
from latency_models.measured import FOLDS
from records import BadInputError, CorruptFileError, MissingFileError
from search_spaces import HybridSpace
from tests.latency_models.contract import CostModelContract
from tests.latency_models.doubles import (
    BASE_MS,
    CNN,
    HYBRID,
    PROFILE,
    TARGET,
    VIT,
    level,
    planted_ms,
    sampled,
)

UNSEEN = HYBRID.sample(1000, np.random.default_rng(1234))


ENDS = {tuple(row) for which in ("smallest", "largest") for row in HYBRID.extremes(which)}


def fitted(space=HYBRID, target=TARGET, *, n=60, noise=0.01, seed=0):
    genes = sampled(space, n, seed)
    latencies = planted_ms(
        space, genes, batch_size=target.batch_size, noise=noise, seed=seed + 100
    )
    return MeasuredCostModel(space, target, genes, latencies)


class TestMeasured(CostModelContract):
    def make(self, space, target):
        return fitted(space, target)

    def test_nothing_of_a_timed_network_is_guessed(self, model, genes):
        costs = model.costs(model.genes)
        np.testing.assert_allclose(costs.measured, 1)
        assert model.costs(genes).interpolated.max() > 0
        assert (model.costs(genes).analytic == 0).all()


class TestMeasuredOnCNN(TestMeasured):
    space = CNN


class TestMeasuredOnViT(TestMeasured):
    space = VIT


@pytest.mark.parametrize("space", [HYBRID, CNN, VIT], ids=lambda space: space.name)
def test_planted_weights_are_recovered(space):
    model = fitted(space)
    genes = space.sample(500, np.random.default_rng(5))
    truth = planted_ms(space, genes)
    predicted = model.latency_ms(genes)
    error = np.abs(predicted / truth - 1)
    assert error.mean() < 0.01
    assert np.quantile(error, 0.95) < 0.02
    assert spearmanr(predicted, truth).statistic > 0.99


def test_without_noise_the_fit_is_nearly_exact():
    model = fitted(noise=0.0, n=120)
    error = np.abs(model.latency_ms(UNSEEN) / planted_ms(HYBRID, UNSEEN) - 1)
    assert error.max() < 0.01
    assert 0 <= model.base_ms < 3 * BASE_MS


def test_small_networks_count_as_much_as_large_ones():
    model = fitted(noise=0.02, n=100)
    truth = planted_ms(HYBRID, UNSEEN)
    error = np.abs(model.latency_ms(UNSEEN) / truth - 1)
    small, large = truth < np.quantile(truth, 0.2), truth > np.quantile(truth, 0.8)
    assert error[small].mean() < 2.5 * error[large].mean()


def test_weights_are_never_negative():
    rng = np.random.default_rng(0)
    genes = sampled(HYBRID, 40)
    model = MeasuredCostModel(HYBRID, TARGET, genes, rng.uniform(0.1, 1.0, 40))  # pure noise
    assert model.base_ms >= 0
    assert (model.kernel_ms >= 0).all()


def test_intervals_and_bounds_cover_what_they_say():
    inside, below = [], []
    for seed in range(4):
        model = fitted(noise=0.02, seed=seed)
        measured = planted_ms(HYBRID, UNSEEN, noise=0.02, seed=seed + 50)
        costs = model.costs(UNSEEN)
        inside.append(
            ((costs.latency_low_ms <= measured) & (measured <= costs.latency_high_ms)).mean()
        )
        below.append((measured <= model.bound("latency_ms", UNSEEN, 0.95)).mean())
    assert 0.8 <= np.mean(inside) <= 0.98
    assert 0.88 <= np.mean(below) <= 0.995


def test_bound_is_a_quantile_of_the_ratios():
    model = fitted(n=59 + len(ENDS))  # 60 gaps between 59 ratios: extremes have none
    predicted = model.latency_ms(UNSEEN)
    for probability, rank in ((0.05, 3), (0.5, 30), (0.9, 54), (0.95, 57), (0.98, 59)):
        np.testing.assert_allclose(
            model.bound("latency_ms", UNSEEN, probability), predicted * model.ratios[rank - 1]
        )


def test_quality_is_that_of_networks_left_out():
    model = fitted(noise=0.03, n=63)
    predicted = np.empty(63)
    inner = np.array([tuple(row) not in ENDS for row in model.genes])
    fold = np.where(inner, np.arange(63) % FOLDS, -1)
    for f in range(FOLDS):
        rest = MeasuredCostModel(
            HYBRID, TARGET, model.genes[fold != f], model.measured_ms[fold != f]
        )
        predicted[fold == f] = rest.latency_ms(model.genes[fold == f])
    predicted, measured = predicted[inner], model.measured_ms[inner]
    by_hand = latency_quality(predicted, measured)
    assert model.quality.networks == 63 - len(ENDS)
    assert model.quality.mape == pytest.approx(by_hand.mape, rel=1e-4)
    assert model.quality.spearman == pytest.approx(by_hand.spearman, abs=1e-6)
    np.testing.assert_allclose(model.ratios, np.sort(measured / predicted), rtol=1e-5)
    assert f"63 networks timed on {TARGET.name}" in model.latency_source
    assert f"{by_hand.mape:.1%}" in model.latency_source


# ---- kernels that were never timed -----------------------------------------------------------


def conv_only(n):
    """Networks of the hybrid space without attention."""
    rows = sampled(HYBRID, 2000)
    kinds = RooflineCostModel(HYBRID, TARGET).lowering.table(rows)
    attends = (kinds.column("kind") == KINDS.index("attention")) & (kinds.column("active") > 0)
    with_attention = attends.any(axis=1)
    return rows[~with_attention][:n], rows[with_attention]


@pytest.mark.parametrize(
    "profile",
    [
        PROFILE,
        # A device of which so little is known that the roofline of many kernels is 0.
        replace(
            PROFILE,
            kernel_launch_us=None,
            memory=(level("dram", None, None, None),),
            pj_per_byte={},
        ),
    ],
    ids=["known device", "unknown device"],
)
def test_unknown_kernels_are_never_free_and_lower_the_coverage(profile):
    timed, others = conv_only(60)
    model = MeasuredCostModel(HYBRID, Target(profile=profile), timed, planted_ms(HYBRID, timed))
    costs = model.costs(others)
    assert (costs.analytic > 0).all()
    assert (model.costs(timed).analytic == 0).all()
    new = {"attention", "layer_norm", "elementwise", "layout"}
    for row in others[:20]:
        parts = model.parts(row)
        assert {part.kind for part in parts} >= new
        assert min(part.latency_ms for part in parts if part.kind in new) > 0
        known = sum(part.latency_ms for part in parts if part.kind not in new)
        assert model.latency_ms(row[None])[0] > known + model.base_ms
        share = model.costs(row[None]).analytic[0]
        total = sum(part.latency_ms for part in parts)
        assert share == pytest.approx(1 - known / total, rel=1e-5)


def test_unknown_kernels_are_slowed_down_as_the_known_ones_are():
    timed, others = conv_only(60)
    slow = MeasuredCostModel(HYBRID, TARGET, timed, 10 * planted_ms(HYBRID, timed))
    model = MeasuredCostModel(HYBRID, TARGET, timed, planted_ms(HYBRID, timed))
    at = [part.kind == "attention" for part in model.parts(others[0])].index(True)
    ratio = slow.parts(others[0])[at].latency_ms / model.parts(others[0])[at].latency_ms
    assert ratio == pytest.approx(10, rel=0.05)
    ceiling = RooflineCostModel(HYBRID, TARGET).parts(others[0])[at]
    assert model.parts(others[0])[at].latency_ms >= ceiling.latency_ms


def test_timing_attention_makes_it_known():
    timed, others = conv_only(60)
    model = MeasuredCostModel(HYBRID, TARGET, timed, planted_ms(HYBRID, timed))
    wiser = model.refitted(others[:60], planted_ms(HYBRID, others[:60]))
    assert (wiser.costs(others).analytic == 0).all()
    truth = planted_ms(HYBRID, others)
    before, after = (np.abs(m.latency_ms(others) / truth - 1).mean() for m in (model, wiser))
    assert after < 0.02 < before


# ---- refitting, files, refusals --------------------------------------------------------------


def test_refitting_leaves_the_old_model_as_it_was():
    model = fitted()
    before, genes = model.latency_ms(UNSEEN), model.genes.copy()
    more = UNSEEN[:20]
    new = model.refitted(more, 1.5 * planted_ms(HYBRID, more))
    np.testing.assert_array_equal(model.latency_ms(UNSEEN), before)
    np.testing.assert_array_equal(model.genes, genes)
    np.testing.assert_array_equal(new.genes, np.concatenate([genes, more]))
    np.testing.assert_array_equal(new.measured_ms[60:], 1.5 * planted_ms(HYBRID, more))
    assert (new.latency_ms(more) > model.latency_ms(more)).mean() > 0.9
    assert new.runner is model.runner


def test_later_changes_of_the_callers_array_do_not_matter():
    genes = sampled(HYBRID, 30)
    latencies = planted_ms(HYBRID, genes)
    model = MeasuredCostModel(HYBRID, TARGET, genes, latencies)
    latencies[:] = 1e6
    assert model.latency_ms(genes).max() < 10


def test_saved_model_comes_back(tmp_path):
    model = fitted()
    model.save(tmp_path / "costs.json")
    loaded = MeasuredCostModel.load(tmp_path / "costs.json", HYBRID, TARGET)
    np.testing.assert_array_equal(loaded.latency_ms(UNSEEN), model.latency_ms(UNSEEN))
    np.testing.assert_array_equal(loaded.ratios, model.ratios)
    np.testing.assert_array_equal(loaded.genes, model.genes)
    assert loaded.genes.dtype == model.genes.dtype


@pytest.mark.parametrize(
    ("space", "target", "what"),
    [
        (HybridSpace(image_size=16, num_classes=7), TARGET, "space_hash"),
        (HYBRID, replace(TARGET, batch_size=2), "target"),
        (HYBRID, Target(profile=replace(PROFILE, machine="another")), "machine"),
    ],
)
def test_file_of_something_else_is_refused(tmp_path, space, target, what):
    fitted().save(tmp_path / "costs.json")
    with pytest.raises(CorruptFileError, match=f"its {what} is .*calibrate again"):
        MeasuredCostModel.load(tmp_path / "costs.json", space, target)


def without(key):
    return lambda value: value.pop(key)


def changed(key, change):
    return lambda value: value.update({key: change(value[key])})


@pytest.mark.parametrize(
    "damage",
    [
        without("genes"),
        without("latencies_ms"),
        without("format"),
        changed("format", lambda _: "hwnas-latencies-0"),
        changed("genes", lambda rows: rows[:-1]),
        changed("genes", lambda rows: [[99999, *rows[0][1:]], *rows[1:]]),
        changed("genes", lambda rows: [[-1, *rows[0][1:]], *rows[1:]]),
        changed("genes", lambda rows: [[0.5, *rows[0][1:]], *rows[1:]]),
        changed("genes", lambda rows: [rows[0][1:], *rows[1:]]),
        changed("genes", lambda _: "none"),
        changed("latencies_ms", lambda values: [-1.0, *values[1:]]),
        changed("latencies_ms", lambda values: [None, *values[1:]]),
        changed("latencies_ms", lambda values: ["fast", *values[1:]]),
        changed("latencies_ms", lambda values: {"a": 1}),
    ],
)
def test_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "costs.json"
    fitted().save(path)
    value = json.loads(path.read_text())
    damage(value)
    path.write_text(json.dumps(value))
    with pytest.raises(CorruptFileError, match=r"costs\.json"):
        MeasuredCostModel.load(path, HYBRID, TARGET)


def test_foreign_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "costs.json"
    with pytest.raises(MissingFileError):
        MeasuredCostModel.load(path, HYBRID, TARGET)
    fitted().save(path)
    whole = path.read_text()
    for text in ("", "[]", "null", '"text"', whole[: len(whole) // 2]):
        path.write_text(text)
        with pytest.raises(CorruptFileError):
            MeasuredCostModel.load(path, HYBRID, TARGET)


def test_fewer_than_ten_networks_are_refused():
    genes = sampled(HYBRID, 10)
    latencies = planted_ms(HYBRID, genes)
    assert np.isfinite(MeasuredCostModel(HYBRID, TARGET, genes, latencies).quality.mape)
    with pytest.raises(BadInputError, match="at least 10 networks"):
        MeasuredCostModel(HYBRID, TARGET, genes[:9], latencies[:9])
    with pytest.raises(BadInputError, match="a latency for each"):
        MeasuredCostModel(HYBRID, TARGET, genes, latencies[:9])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_latencies_that_cannot_be_are_refused(value):
    genes = sampled(HYBRID, 12)
    latencies = planted_ms(HYBRID, genes)
    latencies[5] = value
    with pytest.raises(BadInputError, match="positive and finite"):
        MeasuredCostModel(HYBRID, TARGET, genes, latencies)
    with pytest.raises(BadInputError, match="positive and finite"):
        fitted().refitted(genes, latencies)


def test_genes_outside_the_space_are_refused():
    genes = sampled(HYBRID, 12)
    latencies = planted_ms(HYBRID, genes)
    genes[0, 0] = 9
    with pytest.raises(BadInputError, match="allowed: 0 to 1"):
        MeasuredCostModel(HYBRID, TARGET, genes, latencies)


def test_a_prediction_without_a_network_does_not_rest_on_it():
    space = HybridSpace(image_size=8, channels=1, stem_stride=1)
    target = local_target()
    genes = space.sample(40, np.random.default_rng(0))
    latencies = space.layer_table(genes).macs / 1e6 + 0.05
    other = latencies.copy()
    other[7] *= 3
    model, wrong = (MeasuredCostModel(space, target, genes, y) for y in (latencies, other))
    row = genes[7]
    assert model.without(row).latency_ms(row[None]) == wrong.without(row).latency_ms(row[None])
    assert model.latency_ms(row[None]) != wrong.latency_ms(row[None])
    unseen = space.sample(1, np.random.default_rng(9))[0]
    assert model.without(unseen) is model
