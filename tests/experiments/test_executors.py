"""The main job with workers."""

import pytest

from experiments.run_folder import LEDGER
from records import Ledger


@pytest.mark.slow
def test_processes_measure_what_this_process_measures(tmp_path, finish, by_formula, formula_run):
    run = finish(tmp_path / "run", "--space", "cnn", "--executor", "processes", "--workers", "2")
    accuracies = []
    for folder in (formula_run.folder, run.folder):
        with Ledger.open(folder / LEDGER, read_only=True) as ledger:
            found = ledger.observations("accuracy", target="", status="ok")
            accuracies.append({o.genes: o.value for o in found})
    shared = set(accuracies[0]) & set(accuracies[1])
    assert len(accuracies[1]) == 20
    assert len(shared) >= 8, "both begin with the same design"
    assert {g: accuracies[0][g] for g in shared} == {g: accuracies[1][g] for g in shared}
    assert run.front["config"]["executor"] == "processes"
