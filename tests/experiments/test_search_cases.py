from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks import kept_accuracies
from experiments.benchmarks.kept_accuracies import CachedEvaluator
from experiments.benchmarks.search_cases import (
    TARGETS,
    SyntheticCase,
    large_cases,
    table_cases,
)
from experiments.benchmarks.synthetic_accuracy import SyntheticAccuracy
from hardware_profiles import Target, device
from records import Measured
from search_spaces import HybridSpace
from strategies import is_non_dominated

BENCHDATA = Path(__file__).parents[3] / "shared" / "benchdata"
BOARD = Target(profile=device("raspberry-pi-4"))


def case(folder, *, limited=False, long_run=600):
    return SyntheticCase(
        family="hybrid", target=BOARD, limited=limited, folder=folder, long_run=long_run
    )


def test_one_random_network_in_ten_keeps_the_limit(tmp_path):
    problem = case(tmp_path, limited=True).problem(0)
    rows = problem.space.sample(2000, np.random.default_rng(5), "architectures")
    assert (problem.violations(rows) <= 0).mean() == pytest.approx(0.1, abs=0.03)
    assert case(tmp_path).limit() == np.inf
    assert not case(tmp_path).problem(0).constraints


def test_the_seed_draws_the_function_and_errors_are_without_noise(tmp_path):
    one = case(tmp_path)
    problem = one.problem(4)
    rows = problem.space.sample(200, np.random.default_rng(0), "architectures")
    measured = np.array([100 * (1 - m.value) for m in problem.accuracy.evaluate(rows)])
    errors = one.errors(rows, measured, 4)
    assert (measured - errors).std() == pytest.approx(0.2, rel=0.2)
    assert abs(one.errors(rows, measured, 5) - errors).max() > 0.3
    limited = case(tmp_path, limited=True)
    assert limited.front_key(4) == one.front_key(4) != one.front_key(5)
    assert limited.name == f"{one.name} limited"


def test_a_long_run_gives_a_front_once_and_a_longer_one_a_better(tmp_path):
    short = case(tmp_path, long_run=600).front(1)
    assert is_non_dominated(short).all()
    assert len(list(tmp_path.iterdir())) == 1
    written = next(tmp_path.iterdir())
    written.write_text("[[1.0, 2.0]]")
    assert case(tmp_path, limited=True, long_run=600).front(1).tolist() == [[1.0, 2.0]]
    longer = case(tmp_path, long_run=3000).front(1)
    both = np.concatenate([short, longer])
    kept = is_non_dominated(both)
    assert kept[len(short) :].mean() > kept[: len(short)].mean()


def test_each_large_space_has_its_devices_with_and_without_limit(tmp_path):
    found = large_cases(tmp_path, ["ofa", "hybrid"])
    assert [c.name for c in found] == [
        f"{family} {name}{limited}"
        for family in ("ofa", "hybrid")
        for limited in ("", " limited")
        for name, _ in TARGETS[family]
    ]
    sizes = {c.family: c.problem(0).space.cardinality for c in found}
    assert sizes["ofa"] > 1e19
    assert sizes["hybrid"] > 1e9


@pytest.mark.skipif(not (BENCHDATA / "nb_macro.parquet").exists(), reason="no tables")
def test_networks_that_a_table_lacks_miss_its_limit_and_the_front_is_its_own():
    found = next(c for c in table_cases(BENCHDATA) if c.family == "nb_macro")
    problem = found.problem(0)
    rows = problem.space.enumerate()
    has = problem.violations(rows) <= 0
    assert has.sum() == len(np.unique(found.table.genes, axis=0)) < len(rows)
    values = [m.value for m in problem.accuracy.evaluate(found.table.genes[:4])]
    assert values == pytest.approx((found.table.accuracy[:4] / 100).tolist())
    front = found.front(0)
    errors = 100 - found.table.accuracy
    for error, macs in front.tolist():
        better = (errors <= error) & (found.table.latency_ms <= macs)
        assert ((errors == error) & (found.table.latency_ms == macs))[better].all()


def test_tables_that_are_not_there_are_left_out(tmp_path):
    assert table_cases(tmp_path) == []


class Counting:
    metric, weights_hash = "accuracy", "w"

    def __init__(self):
        self.rows = []

    def evaluate(self, genes):
        self.rows += [tuple(row) for row in genes.tolist()]
        return [
            Measured(value=None, status="failed", reason="odd")
            if row[0]
            else Measured(value=float(row[1]) / 10)
            for row in genes
        ]

    def subnet(self, architecture):
        return architecture


def test_each_network_is_measured_once_also_after_a_restart(tmp_path):
    rows = np.array([[0, 1], [0, 2], [0, 1], [1, 0]], np.int16)
    first, second = Counting(), Counting()
    one = CachedEvaluator(first, tmp_path / "kept")
    expected = [0.1, 0.2, 0.1, None]
    for _ in range(2):
        assert [m.value for m in one.evaluate(rows)] == expected
    assert sorted(first.rows) == [(0, 1), (0, 2), (1, 0), (1, 0)]  # what fails is tried again
    again = CachedEvaluator(second, tmp_path / "kept")
    assert [m.value for m in again.evaluate(rows)] == expected
    assert second.rows == [(1, 0)]
    assert again.subnet("a") == "a"


def test_accuracies_of_other_weights_are_not_used(tmp_path):
    row = np.array([[0, 1]], np.int16)
    CachedEvaluator(Counting(), tmp_path / "kept").evaluate(row)
    other = Counting()
    other.weights_hash = "v"
    CachedEvaluator(other, tmp_path / "kept").evaluate(row)
    assert other.rows == [(0, 1)]


@pytest.mark.slow
def test_the_supernet_is_trained_once_and_then_loaded(tmp_path, monkeypatch, capsys):
    space = HybridSpace(image_size=8, channels=1, stem_stride=1)
    monkeypatch.setattr(kept_accuracies, "make_space", lambda name, data: space)
    monkeypatch.setattr(kept_accuracies, "EPOCHS", {("digits", "hybrid"): 1})
    monkeypatch.setattr(
        kept_accuracies,
        "load_dataset",
        lambda name, load=kept_accuracies.load_dataset: load(name, train_images=64),
    )
    one = kept_accuracies.digits_evaluator(tmp_path / "new")
    again = kept_accuracies.digits_evaluator(tmp_path / "new")
    elsewhere = kept_accuracies.digits_evaluator(
        tmp_path, tmp_path / "new" / kept_accuracies.SUPERNET
    )
    assert one.weights_hash == again.weights_hash == elsewhere.weights_hash
    assert capsys.readouterr().out.count("training") == 1
    rows = space.extremes("smallest")[:1]
    assert again.evaluate(rows) == one.evaluate(rows)


def test_a_synthetic_case_has_the_accuracy_of_its_space(tmp_path):
    one = case(tmp_path)
    assert isinstance(one.accuracy(3), SyntheticAccuracy)
    assert one.accuracy(3).space == one.problem(3).space
