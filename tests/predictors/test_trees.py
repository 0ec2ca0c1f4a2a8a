import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.tree import DecisionTreeRegressor

from predictors.trees import Trees, export_trees
from records import BadInputError


def boosted(depth, x, y, **options):
    return GradientBoostingRegressor(
        n_estimators=30, max_depth=depth, init="zero", random_state=0, **options
    ).fit(x, y)


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("kind", ["continuous", "discrete", "awkward"])
def test_equals_scikit_learn(depth, kind):
    rng = np.random.default_rng(depth)
    x = {
        "continuous": rng.standard_normal((700, 9)),
        "discrete": rng.integers(-1, 3, (700, 9)) / 2,
        "awkward": np.round(rng.standard_normal((700, 9)), 1) * 1e7 + 0.1,
    }[kind]
    y = x[:, 0] / np.abs(x).max() + rng.standard_normal(700)
    model = boosted(depth, x[:300], y[:300], subsample=0.8, max_features=0.5)
    trees = export_trees(model.estimators_[:, 0], depth, model.learning_rate)
    np.testing.assert_allclose(trees.predict(x)[0], model.predict(x), rtol=0, atol=1e-6)


def test_rows_exactly_on_a_threshold_go_left():
    x = np.array([[0.1], [0.2], [0.3], [0.4]])
    tree = DecisionTreeRegressor(max_depth=2).fit(x, [1.0, 2.0, 3.0, 4.0])
    trees = export_trees([tree], 2)
    edges = tree.tree_.threshold[tree.tree_.feature >= 0]
    near = np.concatenate([edges, np.nextafter(edges, 1), np.nextafter(edges, 0), x[:, 0]])
    near = np.concatenate([near, near.astype(np.float32)])[:, None]
    np.testing.assert_allclose(trees.predict(near)[0], tree.predict(near))


def test_groups_are_summed_apart():
    rng = np.random.default_rng(0)
    trees = Trees(
        feature=rng.integers(0, 4, (12, 7)).astype(np.int32),
        threshold=rng.random((12, 7)).astype(np.float32),
        value=rng.random((12, 8)),
    )
    rows = rng.random((600, 4))
    apart = trees.predict(rows, groups=3)
    assert apart.shape == (3, 600)
    np.testing.assert_allclose(apart.sum(axis=0), trees.predict(rows)[0])
    for g in range(3):
        part = slice(4 * g, 4 * g + 4)
        alone = Trees(
            feature=trees.feature[part],
            threshold=trees.threshold[part],
            value=trees.value[part],
        )
        np.testing.assert_allclose(alone.predict(rows)[0], apart[g])


def test_equals_a_walk_down_each_tree():
    rng = np.random.default_rng(1)
    trees = Trees(
        feature=rng.integers(0, 3, (5, 15)).astype(np.int32),
        threshold=rng.random((5, 15)).astype(np.float32),
        value=rng.random((5, 16)),
    )
    rows = rng.random((40, 3)).astype(np.float32)
    expected = np.zeros(40)
    for i, row in enumerate(rows):
        for t in range(5):
            node = 0
            while node < 15:
                left = row[trees.feature[t, node]] <= trees.threshold[t, node]
                node = 2 * node + (1 if left else 2)
            expected[i] += trees.value[t, node - 15]
    np.testing.assert_allclose(trees.predict(rows)[0], expected)


def test_trees_that_do_not_split_are_padded():
    tree = DecisionTreeRegressor(max_depth=3).fit(np.zeros((4, 2)), [1.0, 1.0, 1.0, 1.0])
    trees = export_trees([tree], 3, scale=0.5)
    assert trees.value.shape == (1, 8)
    np.testing.assert_array_equal(trees.predict(np.ones((3, 2))), np.full((1, 3), 0.5))


def test_too_deep_is_refused():
    rng = np.random.default_rng(0)
    deep = DecisionTreeRegressor(max_depth=4).fit(rng.random((50, 2)), rng.random(50))
    with pytest.raises(BadInputError, match="between the deepest tree's 4 and 6, got 3"):
        export_trees([deep], 3)
    with pytest.raises(BadInputError):
        export_trees([deep], 7)


def test_shapes_that_are_no_trees():
    with pytest.raises(BadInputError, match="t x 2"):
        Trees(
            feature=np.zeros((2, 3), np.int32),
            threshold=np.zeros((2, 3), np.float32),
            value=np.zeros((2, 3)),
        )
