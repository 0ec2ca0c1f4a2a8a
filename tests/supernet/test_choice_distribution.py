import json
import math

import numpy as np
import pytest

from records import BadInputError, json_text
from supernet import ChoiceDistribution
from supernet.expected_sum import ExpectedSum
from tests.supernet.doubles import SPACES, TINY

ROWS = TINY.enumerate()


def random_distribution(space=TINY, seed=0, sharpness=1.0):
    rng = np.random.default_rng(seed)
    sizes = space.gene_space.sizes
    table = np.exp(sharpness * rng.normal(size=(len(sizes), int(sizes.max()))))
    return ChoiceDistribution.from_table(space, table)


def test_the_probabilities_of_all_architectures_sum_to_one():
    for seed in range(3):
        logs = random_distribution(seed=seed).log_probability(ROWS)
        assert np.exp(logs).sum() == pytest.approx(1)


def test_samples_are_canonical_and_come_as_often_as_their_probability():
    distribution = random_distribution()
    n = 40_000
    drawn = distribution.sample(n, np.random.default_rng(1))
    assert drawn.dtype == np.int16
    rows, counts = np.unique(drawn, axis=0, return_counts=True)
    np.testing.assert_array_equal(rows, TINY.gene_space.check(rows))
    share = np.exp(distribution.log_probability(rows))
    error = np.sqrt(share * (1 - share) / n)
    assert np.abs(counts / n - share).max() < (4.5 * error).max()
    assert (np.abs(counts / n - share) < 4.5 * error).all()
    expected = np.exp(distribution.log_probability(ROWS))
    assert len(rows) >= (expected * n > 20).sum()


def test_sampling_is_a_function_of_the_generator():
    distribution = random_distribution(SPACES[0])
    first, second, other = (distribution.sample(9, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    assert distribution.sample(0, np.random.default_rng(0)).shape == (0, len(SPACES[0].choices))


def test_values_without_probability_are_never_drawn():
    sizes = TINY.gene_space.sizes
    certain = tuple((0.0,) * (int(s) - 2) + (1.0, 0.0) for s in sizes)
    distribution = ChoiceDistribution(space=TINY, probabilities=certain)
    drawn = distribution.sample(2000, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, np.repeat(distribution.most_likely()[None], 2000, axis=0))
    assert distribution.entropy == 0
    assert distribution.log_probability(drawn[:1])[0] == 0
    assert distribution.log_probability(TINY.extremes("largest"))[0] == -np.inf


def test_the_entropy_is_that_of_all_architectures():
    for seed in range(3):
        distribution = random_distribution(seed=seed)
        logs = distribution.log_probability(ROWS)
        assert distribution.entropy == pytest.approx(-(np.exp(logs) @ logs))
        share = np.exp(logs) @ TINY.active(ROWS)
        np.testing.assert_allclose(distribution.active_share, share)
    uniform = ChoiceDistribution.uniform(TINY)
    for choice in TINY.choices:
        assert uniform.choice_entropies[choice.name] == pytest.approx(math.log(len(choice.values)))


def test_the_most_likely_row_has_the_most_probable_values():
    distribution = random_distribution(SPACES[2], seed=3)
    best = [int(np.argmax(shares)) for shares in distribution.probabilities]
    expected = SPACES[2].canonical(np.array([best], np.int16))[0]
    np.testing.assert_array_equal(distribution.most_likely(), expected)


def test_json_gives_the_same_distribution_back():
    distribution = random_distribution(SPACES[2])
    value = json.loads(json_text(distribution.to_json()))
    assert ChoiceDistribution.from_json(SPACES[2], value) == distribution
    with pytest.raises(BadInputError, match="other parameters"):
        ChoiceDistribution.from_json(TINY, value)
    del value["probabilities"][SPACES[2].choices[0].name]
    with pytest.raises(BadInputError, match="pairs"):
        ChoiceDistribution.from_json(SPACES[2], value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[1:], "has 7 choices"),
        (lambda p: ((0.5, 0.4), *p[1:]), "of sum 1"),
        (lambda p: ((1.5, -0.5), *p[1:]), "needs 2 probabilities"),
        (lambda p: ((math.nan, 1.0), *p[1:]), "needs 2 probabilities"),
        (lambda p: ((1.0,), *p[1:]), "needs 2 probabilities"),
    ],
    ids=["fewer", "sum", "negative", "nan", "values"],
)
def test_what_is_no_distribution_is_refused(change, message):
    shares = ChoiceDistribution.uniform(TINY).probabilities
    with pytest.raises(BadInputError, match=message):
        ChoiceDistribution(space=TINY, probabilities=change(shares))


# ---- sums ------------------------------------------------------------------------------------


def macs_of(space=TINY, **options):
    table = space.layers
    return ExpectedSum(space, table, table.columns["macs"], **options)


def test_the_expectation_of_a_sum_is_that_over_all_architectures():
    macs = macs_of(constant=300.0, reference=1e3)
    np.testing.assert_allclose(macs(ROWS), (TINY.layer_table(ROWS).macs + 300) / 1e3)
    for seed in range(3):
        distribution = random_distribution(seed=seed)
        exact = np.exp(distribution.log_probability(ROWS)) @ macs(ROWS)
        assert macs.expectation(distribution.arrays)[0] == pytest.approx(exact)


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
def test_the_expectation_of_a_sum_is_the_mean_of_samples(space):
    macs = macs_of(space)
    distribution = random_distribution(space, seed=5)
    values = macs(distribution.sample(20_000, np.random.default_rng(6)))
    value = macs.expectation(distribution.arrays)[0]
    assert abs(values.mean() - value) < 4 * values.std() / math.sqrt(len(values))


def test_slopes_are_the_derivatives_of_the_expectation():
    macs, arrays = macs_of(reference=1e3), random_distribution().arrays
    value, slopes = macs.expectation(arrays)
    for gene, value_of in ((0, 1), (len(arrays) - 1, 0), (1, 1)):
        moved = [a.copy() for a in arrays]
        moved[gene][value_of] += 1e-4
        slope = (macs.expectation(moved)[0] - value) / 1e-4
        assert slopes[gene][value_of] == pytest.approx(slope, rel=1e-6)


def test_sums_that_read_inactive_choices_are_refused():
    conditional, activity = TINY.gene_space.activity
    assert len(conditional)
    gene = conditional[0]
    strides = np.zeros_like(TINY.layers.strides[:1])
    strides[0, gene] = 1
    table = type(activity)(
        strides=strides,
        offsets=np.zeros(1, np.int64),
        columns={"ms": np.arange(TINY.gene_space.sizes[gene])},
    )
    with pytest.raises(BadInputError, match="not active"):
        ExpectedSum(TINY, table, table.columns["ms"])
    with pytest.raises(BadInputError, match="reference"):
        macs_of(reference=0.0)
