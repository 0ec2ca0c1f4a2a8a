from functools import lru_cache

import numpy as np
import pytest
from scipy.stats import spearmanr

from deployment import KINDS
from deployment.kernel_tables.descriptions import DescribedLowering
from latency_models.kernel_features import COLUMNS, edge_outputs, kernel_features, kind_bits
from latency_models.kernel_fit import KernelFit, Measurements, fit_relative
from latency_models.measured import MeasuredCostModel
from records import BadInputError
from tests.latency_models.doubles import CNN, HYBRID, TARGET, VIT, planted_ms, sampled


@lru_cache
def lowering(space):
    return DescribedLowering(space)


def timed(space, n, *, noise=0.0, seed=0, extra=None):
    genes = sampled(space, n, seed)
    latencies = planted_ms(space, genes, noise=noise, seed=seed)
    if extra is not None:
        latencies = latencies + extra(genes)
    return Measurements(lowering=lowering(space), genes=genes, latencies_ms=latencies)


def extremes(space):
    ends = np.concatenate([space.extremes("smallest"), space.extremes("largest")])
    return len(np.unique(ends, axis=0))


def model(measurements, others=()):
    m = measurements
    return MeasuredCostModel(
        m.space, TARGET, m.genes, m.latencies_ms, others=others, lowering=m.lowering
    )


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (8, 3, 1, 1),
        (8, 5, 1, 2),
        (8, 3, 2, 1),
        (16, 5, 2, 2),
        (4, 7, 1, 3),
        (8, 1, 1, 0),
        (2, 5, 1, 2),
    ],
)
def test_outputs_at_the_edge_are_those_whose_window_leaves_the_map(size, kernel, stride, padding):
    width = (size + 2 * padding - kernel) // stride + 1
    starts = np.arange(width) * stride - padding
    expected = ((starts < 0) | (starts + kernel > size)).sum()
    columns = {
        "kernel": kernel, "stride": stride, "padding": padding, "dilation": 1,
        "in_width": size, "width": width,
    }  # fmt: skip
    columns = {name: np.array([float(value)]) for name, value in columns.items()}
    assert edge_outputs(columns)[0] == expected


def test_features_of_absent_kernels_and_other_kinds_are_zero():
    features, flat = kernel_features(lowering(HYBRID)), lowering(HYBRID).tabulation.columns
    assert (features[flat["active"] == 0] == 0).all()
    for place, (kind, feature) in enumerate(COLUMNS):
        others = flat["kind"] != KINDS.index(kind)
        assert (features[others, place] == 0).all()
        if feature.name == "padded_macs":
            mine = ~others & (flat["active"] > 0)
            np.testing.assert_array_equal(features[mine, place], flat["padded_macs"][mine])


def test_design_adds_up_kernels_and_marks_kinds():
    m = timed(HYBRID, 30)
    table = m.lowering.table(m.genes)
    design = m.design()
    occurs = design[:, 1 + len(COLUMNS) :]
    for kind in range(len(KINDS)):
        there = (table.column("kind") == kind) & (table.column("active") > 0)
        np.testing.assert_array_equal(occurs[:, kind], there.any(axis=1))
    place = 1 + COLUMNS.index(next(c for c in COLUMNS if c[1].name == "write_elements"))
    kind = KINDS.index(COLUMNS[place - 1][0])
    written = table.column("write_elements") * (table.column("kind") == kind)
    np.testing.assert_allclose(design[:, place], written.sum(axis=1))
    assert (design[:, 0] == 1).all()


def first_attention_ms(space, genes, cost):
    bits = kind_bits(lowering(space))[lowering(space).tabulation.codes(genes)]
    attends = (bits >> KINDS.index("attention")) & 1
    return cost * attends.any(axis=0)


def test_planted_cost_of_the_first_attention_is_found():
    m = timed(HYBRID, 80, extra=lambda genes: first_attention_ms(HYBRID, genes, 0.05))
    costs = model(m)
    genes = HYBRID.sample(400, np.random.default_rng(9))
    truth = planted_ms(HYBRID, genes) + first_attention_ms(HYBRID, genes, 0.05)
    assert np.abs(costs.latency_ms(genes) / truth - 1).mean() < 0.005
    transformer = [KINDS.index(k) for k in ("attention", "gemm", "layer_norm", "layout")]
    assert costs.first_ms.sum() == pytest.approx(0.05, rel=0.4)
    assert costs.first_ms[[*transformer, KINDS.index("elementwise")]].sum() > 0.03


def test_first_kernels_are_in_every_answer():
    costs = model(timed(HYBRID, 60, extra=lambda g: first_attention_ms(HYBRID, g, 0.05)))
    genes = HYBRID.sample(200, np.random.default_rng(2))
    quick = costs.latency_ms(genes)
    np.testing.assert_allclose(quick, costs.kernel_sum_ms(genes), rtol=1e-12)
    np.testing.assert_allclose(quick, costs.costs(genes).latency_ms, rtol=1e-12)
    for row in genes[:10]:
        parts = sum(part.latency_ms for part in costs.parts(row))
        assert costs.base_ms + parts == pytest.approx(costs.latency_ms(row[None])[0], rel=1e-9)
    (least, low), (most, high) = costs.extremes("latency_ms")
    drawn = costs.latency_ms(HYBRID.sample(20_000, np.random.default_rng(3)))
    assert least <= drawn.min()
    assert most >= drawn.max()
    np.testing.assert_allclose(costs.latency_ms(np.stack([low, high])), [least, most], rtol=1e-12)


def test_networks_of_other_spaces_help():
    """Ten networks of a space are few; forty of two others that have the same kernels help."""
    own, others = (
        timed(HYBRID, 10, noise=0.01, seed=1),
        [
            timed(CNN, 40, noise=0.01, seed=2),
            timed(VIT, 40, noise=0.01, seed=3),
        ],
    )
    genes = HYBRID.sample(500, np.random.default_rng(5))
    truth = planted_ms(HYBRID, genes)
    alone, together = (
        np.abs(m.latency_ms(genes) / truth - 1).mean() for m in (model(own), model(own, others))
    )
    assert together < 0.5 * alone
    assert together < 0.03


def test_fit_is_the_same_for_every_space_of_it():
    parts = [timed(space, 20, noise=0.01) for space in (CNN, VIT)]
    cnn = model(parts[0], [parts[1]])
    vit = cnn.in_space(VIT)
    genes = VIT.sample(100, np.random.default_rng(0))
    direct = model(parts[1], [parts[0]])
    np.testing.assert_allclose(vit.latency_ms(genes), direct.latency_ms(genes), rtol=1e-5)
    assert vit.in_space(CNN).base_ms == pytest.approx(cnn.base_ms, rel=1e-5)
    assert "20 of other spaces" in vit.latency_source


def test_fit_serves_a_space_of_which_nothing_was_timed():
    cnn = model(timed(CNN, 60, noise=0.01), [timed(VIT, 60, noise=0.01)])
    hybrid = cnn.in_space(HYBRID)
    assert len(hybrid.genes) == 0
    genes = HYBRID.sample(300, np.random.default_rng(0))
    truth = planted_ms(HYBRID, genes)
    predicted = hybrid.latency_ms(genes)
    assert (
        np.abs(predicted / truth - 1).mean() < 0.2
    )  # base and first kernels are told apart badly
    assert spearmanr(predicted, truth).statistic > 0.97
    costs = hybrid.costs(genes)
    assert (costs.measured < 1).all()
    assert (costs.latency_low_ms < costs.latency_high_ms).all()
    assert hybrid.quality.networks == 120 - extremes(CNN) - extremes(VIT)
    more = hybrid.refitted(genes[:30], truth[:30], drift=1.0)
    assert np.abs(more.latency_ms(genes) / truth - 1).mean() < 0.03


@pytest.mark.parametrize("n", [10, 20, 40])
def test_bound_of_few_networks_is_narrow_and_covers(n):
    """Planted latencies, 1 % noise: what stays below the bound is counted."""
    rng = np.random.default_rng(n)
    unseen = HYBRID.sample(400, rng)
    truth = planted_ms(HYBRID, unseen)
    covered, factors = [], []
    for seed in range(12):
        costs = model(timed(HYBRID, n, noise=0.01, seed=seed))
        bound = costs.bound("latency_ms", unseen, 0.95)
        covered.append((truth * np.exp(rng.normal(0, 0.01, 400)) <= bound).mean())
        factors.append(float((bound / costs.latency_ms(unseen))[0]))
    assert np.mean(covered) >= 0.93
    assert np.mean(factors) < {10: 1.3, 20: 1.1, 40: 1.05}[n]


def test_extremes_stay_in_every_fold():
    """Without the smallest network a fit may say anything about it; that is nobody's error."""
    m = timed(HYBRID, 40, noise=0.01)
    ends = {tuple(r) for w in ("smallest", "largest") for r in HYBRID.extremes(w)}
    inner = np.array([tuple(row) not in ends for row in m.genes])
    fit = KernelFit([m])
    np.testing.assert_array_equal(fit.is_left_out[0], inner)
    np.testing.assert_array_equal(fit.left_out_measured_ms[0], m.latencies_ms[inner])
    fast = m.latencies_ms.copy()
    fast[~inner] *= 0.5  # they are fitted, so this shows in the others' predictions alone
    other = KernelFit([Measurements(lowering=m.lowering, genes=m.genes, latencies_ms=fast)])
    assert len(other.log_ratios[0]) == inner.sum()
    assert (other.left_out_ms[0] != fit.left_out_ms[0]).any()


def test_a_few_networks_that_are_mostly_extremes_are_all_left_out():
    m = timed(HYBRID, 10)
    ends = m.genes[: extremes(HYBRID)]
    again = Measurements(
        lowering=m.lowering,
        genes=np.concatenate([ends, ends, m.genes[:4]]),
        latencies_ms=np.ones(2 * len(ends) + 4),
    )
    assert KernelFit([m]).is_left_out[0].sum() == 10 - extremes(HYBRID)
    assert KernelFit([again]).is_left_out[0].all()


def test_drift_slows_the_other_spaces_too():
    costs = model(timed(CNN, 20), [timed(VIT, 20)])
    slower = costs.refitted(costs.genes[:1], 2 * costs.measured_ms[:1], drift=2.0)
    np.testing.assert_array_equal(slower.others[0].latencies_ms, 2 * costs.others[0].latencies_ms)


def test_row_of_a_bad_latency_is_named():
    m = timed(CNN, 12)
    for wrong in (0.0, -1.0, np.nan, np.inf):
        latencies = m.latencies_ms.copy()
        latencies[7] = wrong
        with pytest.raises(BadInputError, match="row 7"):
            Measurements(lowering=m.lowering, genes=m.genes, latencies_ms=latencies)
    with pytest.raises(BadInputError, match="a latency for each"):
        Measurements(lowering=m.lowering, genes=m.genes, latencies_ms=m.latencies_ms[:3])
    few = Measurements(lowering=m.lowering, genes=m.genes[:9], latencies_ms=m.latencies_ms[:9])
    with pytest.raises(BadInputError, match="at least 10 networks, got 9"):
        KernelFit([few])


def test_fit_agrees_with_plain_least_squares_where_all_weights_are_positive():
    rng = np.random.default_rng(0)
    design = rng.uniform(0, 1, (200, 5))
    weights = np.array([1.0, 2.0, 0.5, 3.0, 0.1])
    found = fit_relative(design, design @ weights)
    np.testing.assert_allclose(found, weights, rtol=2e-3)
    unused = np.concatenate([design, np.zeros((200, 1))], axis=1)
    assert fit_relative(unused, design @ weights)[-1] == 0
