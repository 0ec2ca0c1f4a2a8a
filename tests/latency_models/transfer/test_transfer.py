"""Transfer to planted devices whose latencies are known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from latency_models.transfer import LatencyTransfer, selection, space_features
from records import BadInputError
from search_spaces.standard import FBNetSpace

SPACE = FBNetSpace.cifar100()


@pytest.fixture(scope="module")
def genes():
    return SPACE.sample(600, np.random.default_rng(0))


@pytest.fixture(scope="module")
def devices(genes):
    """A device that is all multiply-accumulates, one that is all layers, and five mixtures."""
    table = SPACE.layer_table(genes)
    macs, layers = table.macs / table.macs.mean(), table.total("active") / 200.0
    shares = np.array([0.0, 1.0, 0.2, 0.4, 0.5, 0.7, 0.9])
    return 10 * (macs[:, None] * shares + layers[:, None] * (1 - shares))


@pytest.fixture(scope="module")
def transfer(genes, devices):
    rng = np.random.default_rng(1)
    noisy = devices * rng.normal(1, 0.05, devices.shape)
    return LatencyTransfer(space_features(SPACE, genes), genes, noisy)


def spearman(first, second):
    return spearmanr(first, second).statistic


def test_a_mixture_of_known_devices_is_found_from_three_networks(transfer, devices):
    known = transfer.with_sources([0, 1, 2, 4, 5, 6])
    rows = known.choose(3, seed=0)
    predicted = known.predict(rows, devices[rows, 3])
    assert spearman(predicted.latency_ms, devices[:, 3]) > 0.98
    np.testing.assert_allclose(predicted.latency_ms, devices[:, 3], rtol=0.1)


def test_an_opposite_device_is_found_though_all_known_ones_are_of_another_kind(transfer, devices):
    known = transfer.with_sources([0, 2])  # mostly layers
    rows = known.choose(10, seed=0)
    predicted = known.predict(rows, devices[rows, 1])  # all work
    assert spearman(known._prior.mean[known._place], devices[:, 1]) < 0.8
    assert spearman(predicted.latency_ms, devices[:, 1]) > 0.97


def test_a_device_that_is_all_work_is_guessed_from_three_networks(transfer, devices):
    known = transfer.with_sources([0, 2])  # mostly layers
    rows = known.choose(3, seed=0)
    predicted = known.predict(rows, devices[rows, 1])
    assert spearman(predicted.latency_ms, devices[:, 1]) > 0.97


def test_physics_alone_finds_a_device_where_no_other_is_known(transfer, devices):
    alone = transfer.with_sources([])
    rows = alone.choose(10, seed=0)
    assert spearman(alone.predict(rows, devices[rows, 4]).latency_ms, devices[:, 4]) > 0.97


def test_one_bad_reading_does_little_harm(transfer, devices):
    known = transfer.with_sources([0, 1, 2, 4, 5, 6])
    rows = known.choose(10, seed=0)
    measured = devices[rows, 3].copy()
    measured[4] *= 1.8
    assert spearman(known.predict(rows, measured).latency_ms, devices[:, 3]) > 0.97


def test_more_networks_do_no_harm_on_a_device_that_repeats_badly(transfer, devices):
    known = transfer.with_sources([0, 1, 2, 4, 5, 6])
    truth, rng = devices[:, 3], np.random.default_rng(6)
    rows = known.choose(20, seed=0)
    few, many = [], []
    for _ in range(5):
        measured = truth[rows] + rng.normal(0, 0.5 * truth.std(), len(rows))
        for samples, found in ((5, few), (20, many)):
            predicted = known.predict(rows[:samples], measured[:samples]).latency_ms
            found.append(spearman(predicted, truth))
    assert np.mean(many) > 0.97
    assert np.mean(many) > np.mean(few) - 0.005


def test_the_first_rows_tell_known_devices_apart_better_than_random_ones(transfer, devices):
    rng = np.random.default_rng(7)
    chosen = transfer.choose(3, seed=0)

    def least_distance(rows):
        measured = devices[rows] / devices[rows].mean(axis=0)
        apart = ((measured[:, :, None] - measured[:, None]) ** 2).sum(axis=0)
        return apart[np.triu_indices(devices.shape[1], 1)].min()

    random = [least_distance(rng.choice(len(devices), 3, replace=False)) for _ in range(200)]
    assert least_distance(chosen) > np.quantile(random, 0.9)


def test_intervals_hold_the_measurements_they_promise(transfer, devices):
    rng = np.random.default_rng(2)
    shares = []
    for device in range(7):
        known = transfer.with_sources([d for d in range(7) if d != device])
        measured = devices[:, device] * rng.normal(1, 0.04, len(devices))
        rows = known.choose(20, seed=0)
        found = known.predict(rows, measured[rows])
        shares.append(((found.lower_ms <= measured) & (measured <= found.upper_ms)).mean())
    assert 0.8 < np.mean(shares) < 0.97


def test_wider_coverage_gives_wider_intervals_around_the_same_value(transfer, devices):
    rows = transfer.choose(5, seed=0)
    half, most = (transfer.predict(rows, devices[rows, 0], coverage=c) for c in (0.5, 0.95))
    np.testing.assert_array_equal(half.latency_ms, most.latency_ms)
    assert (most.upper_ms > half.upper_ms).all()
    assert (most.lower_ms <= half.lower_ms).all()
    assert (most.lower_ms >= 0).all()


def test_the_order_of_the_rows_makes_no_difference(transfer, genes, devices):
    rng = np.random.default_rng(3)
    noisy = devices * rng.normal(1, 0.05, devices.shape)
    shuffled = rng.permutation(len(genes))
    first = LatencyTransfer(space_features(SPACE, genes), genes, noisy)
    second = LatencyTransfer(
        space_features(SPACE, genes[shuffled]), genes[shuffled], noisy[shuffled]
    )
    rows = first.choose(6, seed=5)
    others = second.choose(6, seed=5)
    assert shuffled[others].tolist() == rows.tolist()
    one = first.predict(rows, devices[rows, 0])
    two = second.predict(others[::-1], devices[rows, 0][::-1])
    np.testing.assert_array_equal(one.latency_ms[shuffled], two.latency_ms)
    np.testing.assert_array_equal(one.upper_ms[shuffled], two.upper_ms)


def test_seeds_choose_differently_and_the_same_seed_alike(transfer, monkeypatch):
    monkeypatch.setattr(selection, "_CANDIDATES", 100)  # as in a table of many more rows
    assert transfer.choose(8, seed=1).tolist() == transfer.choose(8, seed=1).tolist()
    assert transfer.choose(8, seed=1).tolist() != transfer.choose(8, seed=2).tolist()


def test_latencies_keep_their_order_and_stay_positive_where_some_networks_are_empty():
    genes = SPACE.sample(300, np.random.default_rng(4))
    macs = SPACE.layer_table(genes).macs.astype(float)
    device = np.maximum(macs - np.quantile(macs, 0.2), 0.002 * macs.mean()) / 1e6
    transfer = LatencyTransfer(space_features(SPACE, genes), genes, device[:, None])
    rows = transfer.choose(10, seed=0)
    predicted = transfer.predict(rows, device[rows])
    assert (predicted.latency_ms > 0).all()
    assert (predicted.lower_ms <= predicted.latency_ms).all()
    assert spearman(predicted.latency_ms, device) > 0.95


@pytest.mark.parametrize(
    ("rows", "measured", "message"),
    [
        ([0, 1], [1.0, 2.0], "at least 3 measured rows are needed, got 2"),
        ([], [], "at least 3 measured rows are needed, got 0"),
        ([0, 1, 2], [1.0, 2.0], "each measured row needs one latency"),
        ([0.5, 1, 2], [1.0, 2.0, 3.0], "rows must be integers"),
        ([0, 1, 600], [1.0, 2.0, 3.0], "row 600 is not in the table: rows are 0 to 599"),
        ([0, -1, 2], [1.0, 2.0, 3.0], "row -1 is not in the table"),
        ([0, 1, 1], [1.0, 2.0, 3.0], "row 1 is measured twice"),
        ([0, 1, 2], [1.0, 0.0, 3.0], "latency_ms of row 1 is 0"),
        ([0, 1, 2], [1.0, 2.0, np.nan], "latency_ms of row 2 is nan"),
        ([0, 1, 2], [2.0, 2.0, 2.0], "latency_ms is 2 for all measured rows"),
    ],
    ids=str,
)
def test_measurements_that_cannot_be_are_refused(transfer, rows, measured, message):
    with pytest.raises(BadInputError, match=message):
        transfer.predict(rows, measured)


def test_sources_that_cannot_be_are_refused(genes):
    features = space_features(SPACE, genes)
    sources = np.ones((600, 2))
    sources[7, 1] = -1
    with pytest.raises(BadInputError, match="source 1 of row 7 is -1"):
        LatencyTransfer(features, genes, sources)
    with pytest.raises(BadInputError, match="source 0 is 0 for all rows"):
        LatencyTransfer(features, genes, np.zeros((600, 1)))
    with pytest.raises(BadInputError, match="at least 3 architectures"):
        LatencyTransfer(features, genes[:5])


@pytest.mark.parametrize("samples", [2, 601])
def test_too_few_and_too_many_samples_are_refused(transfer, samples):
    with pytest.raises(BadInputError, match=f"samples must be 3 to 600, got {samples}"):
        transfer.choose(samples, seed=0)
