import numpy as np
import pytest

from experiments.datasets import load_dataset
from experiments.export import choose, fresh_networks, remove_bundle
from experiments.spaces import SPACES, make_space
from records import StorageError
from strategies import Problem, RandomSearch, search
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost


def test_a_bundle_left_by_an_interrupted_run_is_replaced(tmp_path):
    left, other = tmp_path / "left", tmp_path / "other"
    for folder in (left, other):
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"x")
    (left / "bundle.json").write_text("{}")

    for folder in (left, other, tmp_path / "none"):
        remove_bundle(folder)

    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_a_bundle_that_cannot_be_removed_is_the_disks_refusal(tmp_path, monkeypatch):
    (tmp_path / "bundle.json").write_text("{}")

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("shutil.rmtree", refuse)

    with pytest.raises(StorageError, match=r"cannot remove .*Read-only file system"):
        remove_bundle(tmp_path)


@pytest.mark.parametrize("name", SPACES)
def test_fresh_networks_are_new_distinct_and_repeat_with_the_seed(name):
    space = make_space(name, load_dataset("digits"))
    known = np.unique(space.sample(500, np.random.default_rng(1)), axis=0)

    fresh = fresh_networks(space, known, 16, seed=5)

    rows = {row.tobytes() for row in fresh}
    assert len(rows) == 16
    assert not rows & {row.astype(np.int16).tobytes() for row in known}
    assert np.array_equal(space.canonical(fresh), fresh)
    assert np.array_equal(fresh, fresh_networks(space, known, 16, seed=5))
    assert not np.array_equal(fresh, fresh_networks(space, known, 16, seed=6))


class FasterIsBetter(FormulaAccuracy):
    """Each network is better than every slower one, so a front has a single point."""

    def values(self, genes):
        return np.exp(-LayerCost(self.space).predict(genes)["latency_ms"])


def test_where_a_front_is_short_networks_of_the_following_ones_join():
    cost = LayerCost(SPACE)
    problem = Problem(SPACE, FasterIsBetter(SPACE), [cost])
    front = search(problem, evaluations=20, strategy=RandomSearch(SPACE))
    assert len(front) == 1

    chosen = choose(front, "board", cost, 4)

    accuracies = sorted({o.value for o in front.result.observations}, reverse=True)
    assert [c.validation_accuracy for c in chosen] == accuracies[:4]
    assert [c.title for c in chosen] == ["most accurate", *["next best"] * 3]
    assert len(choose(front, "board", cost, 30)) == 20  # all that there are
