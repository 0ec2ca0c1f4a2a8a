import json

import pytest

from experiments.benchmarks import large_space
from experiments.benchmarks.harness import benchmark_main
from experiments.benchmarks.large_space_peers import LIBRARIES
from experiments.benchmarks.search_cases import SyntheticCase, large_cases
from hardware_profiles import Target, device


def test_slow_peers_have_fewer_seeds_and_a_smaller_budget(tmp_path):
    cases = large_cases(tmp_path, ["hybrid"])
    plan = list(large_space.planned(cases, ["NSGA2", "Optuna GP"], 5, 200))
    quick = [(c.name, seed, b) for c, m, seed, b in plan if m == "NSGA2"]
    slow = [(c.name, seed, b) for c, m, seed, b in plan if m == "Optuna GP"]
    assert quick == [(c.name, seed, 200) for seed in range(5) for c in cases]
    assert slow == [(c.name, seed, 100) for seed in range(3) for c in cases]
    assert {b for *_, b in large_space.planned(cases, ["Optuna GP"], 1, 50)} == {50}


@pytest.fixture
def one_case(tmp_path, monkeypatch):
    """The command knows one case without a limit and one with, and a short reference run."""

    def cases(folder, families, supernet, long_run):
        target = Target(profile=device("raspberry-pi-4"))
        return [
            SyntheticCase(
                family="hybrid", target=target, limited=limited, folder=folder, long_run=long_run
            )
            for limited in (False, True)
        ]

    monkeypatch.setattr(large_space, "large_cases", cases)
    monkeypatch.setitem(LIBRARIES, "BoTorch qLogNEHVI", "no_such_library")

    def command(*more):
        out = tmp_path / "figures.json"
        arguments = ["large_space", "--folder", str(tmp_path), "--json", str(out), *more]
        monkeypatch.setattr("sys.argv", arguments)
        benchmark_main("large_space", large_space.run, large_space.add_arguments)
        return json.loads(out.read_text())["figures"]

    return command


def test_the_command_shows_all_methods_and_goes_on_where_it_stopped(one_case, tmp_path, capsys):
    methods = ("NSGA2", "pymoo NSGA-II", "BoTorch qLogNEHVI")
    options = ("--spaces", "hybrid", "--budget", "25", "--long-run", "400", "--methods", *methods)
    first = one_case(*options, "--seeds", "1")
    printed = capsys.readouterr().out
    assert "BoTorch qLogNEHVI is not installed: it is left out" in printed
    assert "synthetic accuracy" in printed
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    assert len(lines) == 4
    records = first["hybrid"]["all"]
    assert [(r["method"], r["latency"], r["searches"]) for r in records] == [
        ("NSGA2", "told", 2),
        ("pymoo NSGA-II", "told", 2),
    ]
    assert all(0 < r["share"]["25"] <= 1 and r["interval"]["25"] >= 0 for r in records)
    assert sum(r["rank"] for r in records) == pytest.approx(3.0)
    assert [r["searches"] for r in first["hybrid"]["limited"]] == [1, 1]
    assert first["hybrid"]["slow"] == []  # no slow peer among the methods

    again = one_case(*options, "--seeds", "1")
    assert again == first
    assert (tmp_path / "scores.jsonl").read_text().splitlines() == lines
