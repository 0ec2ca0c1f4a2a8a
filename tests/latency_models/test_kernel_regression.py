import numpy as np
import pytest

from deployment.kernel_tables.descriptions import DescribedLowering, as_descriptions
from deployment.kernel_tables.files import kernel_network, one_network
from latency_models.kernel_costs.regression import (
    CONSTANT,
    OWN,
    SMOOTH,
    KernelRegression,
    covariance,
    sums_of,
)
from latency_models.kernel_costs.table import tuple_of
from records import BadInputError
from tests.latency_models.doubles import CNN
from tests.latency_models.kernel_doubles import BASE_MS, a_kernel, kernel_ms, network_ms

KERNELS = as_descriptions(DescribedLowering(CNN).descriptions)
ROWS = np.array([tuple_of(k) for k in KERNELS])
TRUE_MS = np.array([kernel_ms(k) for k in KERNELS])


def files(kernels, copies=(4, 1)):
    return [
        one_network(kernel_network(k, n), batch_size=1, channel_block=8)
        for k in kernels
        for n in copies
    ]


def sums(kernels, noise=0.0):
    made = files(kernels)
    factor = 1 + noise * np.random.default_rng(0).standard_normal(len(made))
    latency = np.array([network_ms(file) for file in made]) * factor
    return sums_of([[tuple_of(k) for k in file] for file in made], latency)


@pytest.fixture(scope="module")
def some():
    """A third of the kernels timed."""
    drawn = np.random.default_rng(3).permutation(len(KERNELS))
    timed = drawn[: len(KERNELS) // 3]
    rest = drawn[len(KERNELS) // 3 :]
    return KernelRegression(sums([KERNELS[i] for i in timed])), timed, rest


def test_counts_are_how_often_each_kernel_runs():
    a, b = tuple_of(a_kernel()), tuple_of(a_kernel(channels=128))
    got = sums_of([[a, b, a], [b]], [1.0, 2.0])
    np.testing.assert_array_equal(got.rows, [a, b])
    np.testing.assert_array_equal(got.counts.toarray(), [[2, 1], [0, 1]])
    np.testing.assert_array_equal(got.latencies_ms, [1.0, 2.0])


def test_kernels_that_were_timed_are_recovered_from_sums(some):
    regression, timed, _ = some
    got = regression.known(ROWS[timed]).latency_ms
    assert np.median(np.abs(got / TRUE_MS[timed] - 1)) < 0.05
    assert regression.base_ms == pytest.approx(BASE_MS, rel=0.5)


def test_kernels_between_timed_ones_are_interpolated(some):
    regression, _, rest = some
    got = regression.known(ROWS[rest]).latency_ms
    process = np.abs(got / TRUE_MS[rest] - 1)
    formula = np.abs(regression.mean_ms(ROWS[rest]) / TRUE_MS[rest] - 1)
    assert np.median(process) < 0.08
    assert np.median(process) <= np.median(formula)


def test_timed_kernels_are_surer_than_others(some):
    regression, timed, rest = some
    assert (
        np.median(regression.known(ROWS[timed]).spread)
        < np.median(regression.known(ROWS[rest]).spread)
    )  # fmt: skip


def test_most_true_latencies_lie_within_the_intervals(some):
    regression, _, rest = some
    known = regression.known(ROWS[rest])
    z = np.log(TRUE_MS[rest] / known.latency_ms) / known.spread
    assert (np.abs(z) < 1.96).mean() > 0.85


def test_intervals_far_from_everything_timed_are_those_of_the_prior(some):
    regression, _, _ = some
    far = a_kernel(kind=5, in_channels=4096, channels=4096)  # no layer norm was timed
    spread = regression.known(np.array([tuple_of(far)])).spread[0]
    assert spread == pytest.approx(np.sqrt(CONSTANT**2 + SMOOTH**2 + OWN**2))
    assert far.kind not in regression.kinds


def test_the_joint_covariance_has_the_spreads_on_its_diagonal(some):
    regression, _, rest = some
    joint = regression.posterior(ROWS[rest])
    np.testing.assert_allclose(
        np.sqrt(np.diag(joint)), regression.known(ROWS[rest]).spread, rtol=1e-4
    )
    assert np.linalg.eigvalsh(joint).min() > -1e-9


def test_one_step_is_the_textbook_posterior():
    """With one kernel a file and no base, the first step is a plain Gaussian process."""
    rows = ROWS[:12]
    regression = KernelRegression(sums([KERNELS[i] for i in range(12)]), length=3.0, noise=0.02)
    design, y = regression._design.toarray(), regression.sums.latencies_ms
    prior = covariance(regression.sums.rows, regression.sums.rows, 3.0)
    inner = design @ prior @ design.T + 0.02**2 * np.eye(len(y))
    cross = covariance(rows, regression.sums.rows, 3.0) @ design.T
    expected = covariance(rows, rows, 3.0) - cross @ np.linalg.solve(inner, cross.T)
    np.testing.assert_allclose(regression.posterior(rows), expected, atol=1e-9)


def test_noise_is_found():
    quiet, loud = (KernelRegression(sums(KERNELS, noise=n)) for n in (0.0, 0.08))
    assert quiet.noise < loud.noise


def test_nothing_timed_is_refused():
    with pytest.raises(BadInputError, match="at least one file"):
        KernelRegression(sums_of([], []))


def test_prior_is_a_covariance_with_kinds_apart():
    k = covariance(ROWS, ROWS, 3.0)
    assert np.linalg.eigvalsh(k).min() > -1e-9
    kinds = ROWS[:, 0]
    assert (k[kinds[:, None] != kinds[None]] == 0).all()
