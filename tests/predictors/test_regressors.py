import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge as Reference
from sklearn.utils.estimator_checks import parametrize_with_checks

from predictors.kernel_ridge import KernelRidge, kernel
from predictors.regressors import BoostedEnsemble, MLPEnsemble, PairwiseRidge, PretrainedMLP


@parametrize_with_checks(
    [
        PairwiseRidge(),
        BoostedEnsemble(members=1, rounds=30, learning_rate=0.2),
        MLPEnsemble(members=1, width=8, steps=30),
        PretrainedMLP(members=1, width=12, follows=0.1, head=0.1),
    ]
)
def test_keeps_scikit_learns_conventions(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def products():
    """Values that are products of features, 50 rows to learn and 200 others."""
    x = np.random.default_rng(0).standard_normal((250, 5))
    return x, x[:, 0] * x[:, 1] + 0.5 * x[:, 2] - x[:, 3] ** 2


@pytest.mark.parametrize(
    ("estimator", "least"),
    [
        (PairwiseRidge(), 0.9),
        (BoostedEnsemble(random_state=0), 0.2),
        (MLPEnsemble(random_state=0, members=2), 0.4),
    ],
    ids=["pairwise", "boosted", "mlp"],
)
def test_learns_products_better_than_a_line(products, estimator, least):
    x, y = products
    line = PairwiseRidge(degree=1).fit(x[:50], y[:50]).score(x[50:], y[50:])
    found = estimator.fit(x[:50], y[:50]).score(x[50:], y[50:])
    assert found > max(least, line)


def test_statistics_of_other_rows_help(products):
    x, y = products
    seen, others = x[:25], np.random.default_rng(1).standard_normal((400, 5))
    known = np.stack([others[:, 0] * others[:, 1], others[:, 3] ** 2], axis=1)
    given = {"unlabelled": others, "statistics": known}
    plain, pretrained = (
        PretrainedMLP(members=2, random_state=0, **more).fit(seen, y[:25]).score(x[50:], y[50:])
        for more in ({}, given)
    )
    assert pretrained > max(plain, 0) + 0.3


def test_rows_to_pretrain_on_must_fit(products):
    x, y = products
    with pytest.raises(ValueError, match="or neither"):
        PretrainedMLP(unlabelled=x).fit(x, y)
    with pytest.raises(ValueError, match="3 features, but 5"):
        PretrainedMLP(unlabelled=x[:, :3], statistics=y).fit(x, y)


@pytest.mark.parametrize("estimator", [BoostedEnsemble, MLPEnsemble, PretrainedMLP])
def test_a_seed_decides_all(products, estimator):
    x, y = products
    first, again, other = (
        estimator(random_state=seed, members=1).fit(x[:30], y[:30]).predict(x)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_settings_that_make_no_sense(products):
    x, y = products
    with pytest.raises(ValueError, match="degree must be 1 or 2"):
        PairwiseRidge(degree=3).fit(x, y)
    with pytest.raises(ValueError, match="members must be at least 1"):
        BoostedEnsemble(members=0).fit(x, y)


@pytest.mark.parametrize("degree", [1, 2])
def test_the_kernel_is_that_of_all_products(degree):
    x, others = np.random.default_rng(1).standard_normal((2, 6, 4))

    def written_out(rows):
        i, j = np.triu_indices(4)
        double = rows[:, i] * rows[:, j] * np.where(i == j, np.sqrt(0.5), 1)
        return np.concatenate([rows, double], axis=1) if degree == 2 else rows

    expected = written_out(x) @ written_out(others).T
    np.testing.assert_allclose(kernel(x, others, degree), expected)


@pytest.mark.parametrize("degree", [1, 2])
def test_equals_scikit_learns_ridge_and_its_leave_one_out(degree):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((25, 4))
    y = x[:, 0] + x[:, 1] ** 2 + rng.standard_normal(25)
    gram = kernel(x, x, degree)
    unit, level = np.trace(gram) / 25, y.mean()

    def reference(penalty, kept):
        model = Reference(alpha=penalty * unit, kernel="precomputed")
        return model.fit(gram[np.ix_(kept, kept)], y[kept] - level)

    found = KernelRidge.fit(x, y, degree)
    everything = np.arange(25)
    np.testing.assert_allclose(
        found.predict(x), level + reference(found.penalty, everything).predict(gram), rtol=1e-6
    )

    def left_out(penalty):
        errors = []
        for i in everything:
            kept = np.delete(everything, i)
            missed = reference(penalty, kept).predict(gram[i : i + 1, kept])[0] + level - y[i]
            errors.append(missed**2)
        return np.mean(errors)

    for factor in (0.4, 2.5):
        assert left_out(found.penalty) <= left_out(factor * found.penalty) + 1e-9
