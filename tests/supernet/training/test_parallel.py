import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from records import BadInputError
from supernet.training import Ranks, join_ranks
from tests.supernet.training import together

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of this process alone."""
    folder = tmp_path_factory.mktemp("alone")
    together.main(folder)
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The results of two processes that train together."""
    folder = tmp_path_factory.mktemp("both")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node", "2", together.__file__, str(folder)]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def told(folder, rank=0):
    return json.loads((folder / f"{rank}.json").read_text())


def weights(folder, name, rank=0):
    with np.load(folder / f"{name}-{rank}.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", together.RECIPES)
def test_two_ranks_train_what_one_process_trains(alone, both, name):
    one, first, second = told(alone)[name], told(both)[name], told(both, 1)[name]
    assert first["genes"] == second["genes"] == one["genes"]
    assert len(one["genes"]) == 4
    np.testing.assert_allclose(first["losses"], one["losses"], atol=1e-5)
    np.testing.assert_array_equal(first["losses"], second["losses"])
    expected = weights(alone, name)
    for rank in (0, 1):
        found = weights(both, name, rank)
        for key, value in expected.items():
            # a key's bias has no effect: its gradient is rounding, which AdamW makes large
            if not key.endswith("key_bias"):
                np.testing.assert_allclose(found[key], value, atol=1e-5, err_msg=key)


def test_ranks_have_the_same_weights_bit_for_bit(both):
    for name in together.RECIPES:
        first, second = (weights(both, name, rank) for rank in (0, 1))
        for key, value in first.items():
            np.testing.assert_array_equal(second[key], value)


def test_members_with_nan_on_one_rank_are_dropped_on_both(alone, both):
    """One image is NaN; only one of the ranks computes it."""
    for found in (told(alone), told(both), told(both, 1)):
        bad = [k for k, losses in enumerate(found["nan"]["losses"]) if np.isnan(losses).any()]
        assert len(bad) == 1
        assert np.isnan(found["nan"]["losses"][bad[0]]).all()
        assert found["nan"]["dropped"] == 3
    assert all(np.isfinite(v).all() for v in weights(both, "nan", 1).values())


def test_the_cosine_is_that_of_all_shards(alone, both):
    expected = told(alone)["conflicts"]["cosines"]
    assert all(-1 <= c <= 1 for c in expected)
    for rank in (0, 1):
        np.testing.assert_allclose(told(both, rank)["conflicts"]["cosines"], expected, atol=1e-4)


def test_a_resumed_run_equals_one_that_was_not_stopped(both):
    """On two ranks: 2 of 4 steps, then the rest, against a run of the same recipe."""
    assert len(told(both)["resumed"]["losses"]) == 4
    plain, resumed = (told(both)[name] for name in ("uninterrupted", "resumed"))
    assert resumed["losses"] == plain["losses"]
    first, second = (weights(both, name) for name in ("uninterrupted", "resumed"))
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value)


def test_what_two_ranks_cannot_do_together_is_refused_by_both(both):
    for rank in (0, 1):
        assert "3 shards cannot be spread over 2 processes" in told(both, rank)["uneven"]
        assert "not all processes read one checkpoint" in told(both, rank)["unseen"]


# ---- one process -------------------------------------------------------------------------------


def test_a_process_that_was_not_started_with_others_is_alone():
    with join_ranks() as ranks:
        assert ranks == Ranks.current() == Ranks(rank=0, world=1)
        values = torch.tensor([2.0])
        assert ranks.sum(values).tolist() == [2.0]
        ranks.take_from_first([values])
        ranks.sum_gradients([values, None])
        ranks.wait()
        assert values.tolist() == [2.0]
        assert ranks.agree(3, "cpu")


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_the_shards_are_spread_evenly(world):
    own = [Ranks(rank, world).own(6) for rank in range(world)]
    assert {len(part) for part in own} == {6 // world}
    assert sorted(k for part in own for k in part) == list(range(6))


def test_shards_that_cannot_be_spread_are_refused():
    with pytest.raises(BadInputError, match="6 shards cannot be spread over 4 processes; make"):
        Ranks(1, 4).own(6)
