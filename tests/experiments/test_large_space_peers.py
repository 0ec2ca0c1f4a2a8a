import sys

import numpy as np
import pytest

from experiments.benchmarks import large_space_peers
from experiments.benchmarks.large_space_peers import (
    LIBRARIES,
    PEERS,
    _decoded,
    _encoded,
    is_installed,
)
from experiments.benchmarks.search_cases import SyntheticCase
from experiments.benchmarks.search_scores import peer_rows
from hardware_profiles import Target, device
from search_spaces import HybridSpace
from strategies import Problem

SPACE = HybridSpace(image_size=8, channels=1, stem_stride=1)
BOARD = Target(profile=device("raspberry-pi-4"))


def problem(tmp_path, *, limited=False):
    case = SyntheticCase(family="hybrid", target=BOARD, limited=limited, folder=tmp_path)
    return case.problem(0)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=pytest.mark.slow if "NSGA" not in name else ())
        for name in PEERS
        if name != "BoTorch qLogNEHVI"
    ],
)
@pytest.mark.parametrize("limited", [False, True], ids=["free", "limited"])
def test_a_peer_evaluates_distinct_networks_within_the_limit(tmp_path, method, limited):
    given = problem(tmp_path, limited=limited)
    budget = 12 if method == "Optuna GP" else 22  # beyond what it starts with
    rows, errors = peer_rows(given, PEERS[method], budget, seed=3)
    assert len(rows) == len(errors) == budget
    assert len(np.unique(rows, axis=0)) == budget
    assert (given.space.canonical(rows) == rows).all()
    assert (given.violations(rows) <= 0).all()


def test_inactive_choices_are_not_suggested_unless_flat(tmp_path):
    import optuna

    seen = []

    class Noting(optuna.samplers.RandomSampler):
        def after_trial(self, study, trial, state, values):
            seen.append(len(trial.params))

    given = problem(tmp_path)
    for flat in (False, True):

        def peer(problem, evaluate, seed, flat=flat):
            large_space_peers._optuna(problem, evaluate, lambda: Noting(seed=seed), flat=flat)

        seen.clear()
        rows, _ = peer_rows(given, peer, 8, seed=0)
        active = given.space.active(rows).sum(axis=1).tolist()
        expected = [len(given.space.choices)] * 8 if flat else active
        assert seen[:8] == expected


def test_rows_are_decoded_to_what_was_encoded():
    genes = SPACE.sample(300, np.random.default_rng(0), "architectures")
    points = _encoded(SPACE, genes)
    assert (_decoded(SPACE, points) == genes).all()
    active = SPACE.active(genes)
    assert (points[active] >= 0).all()
    assert points[active].max() == 1
    assert (points[~active] < 0).all()


def test_a_library_that_is_missing_is_said_to_be(monkeypatch):
    assert is_installed("pymoo NSGA-II")
    monkeypatch.setitem(LIBRARIES, "BoTorch qLogNEHVI", "no_such_library")
    assert not is_installed("BoTorch qLogNEHVI")


def test_candidates_keep_the_limit_are_new_and_go_towards_the_gain(tmp_path):
    given = problem(tmp_path, limited=True)
    rng = np.random.default_rng(0)
    rows = large_space_peers.sample_feasible(given, 10, rng, given.space.extremes("smallest"))
    found = np.column_stack([np.arange(10.0), given.cheap_objectives(rows)[:, 0]])

    def gain(genes):
        return genes.sum(axis=1).astype(float)

    pool = large_space_peers._bred(given, rows, found, gain, rng)
    assert (given.violations(pool) <= 0).all()
    together = np.concatenate([pool, rows])
    assert len(np.unique(together, axis=0)) == len(together)
    random = large_space_peers.sample_feasible(given, 256, rng, rows)
    assert gain(pool).max() > gain(random).max()


@pytest.mark.slow
@pytest.mark.skipif(not is_installed("BoTorch qLogNEHVI"), reason="BoTorch is not installed")
def test_botorch_does_better_than_random_with_the_latency_as_a_model(tmp_path):
    given: Problem = problem(tmp_path, limited=True)
    rows, errors = peer_rows(given, PEERS["BoTorch qLogNEHVI"], 20, seed=0)
    assert "botorch" in sys.modules
    assert len(np.unique(rows, axis=0)) == 20
    assert (given.violations(rows) <= 0).all()
    assert errors[10:].min() < errors[:10].min()
