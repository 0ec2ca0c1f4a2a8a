"""Interrupted runs: a real process receives SIGINT, and `--resume` goes on to the same results."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from records import Ledger

ROOT = Path(__file__).parents[2]

# Runs the command line with the formula in place of timing and a checkpoint every second step,
# and stops for SIGINT at a place; arguments: conftest.py, "train", "search" or "bundles", command.
DRIVER = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("runs", sys.argv[1])
runs = importlib.util.module_from_spec(spec)
sys.modules["runs"] = runs
spec.loader.exec_module(runs)
from functools import partial
from experiments import quickstart_files, search
from experiments.cli import run
from supernet import SupernetEvaluator, training

def pause_at(owner, name, count):
    real, calls = getattr(owner, name), []
    def paused(*arguments, **options):
        calls.append(None)
        if len(calls) == count:
            print("PAUSED", flush=True)
            time.sleep(60)
        return real(*arguments, **options)
    setattr(owner, name, paused)

search.train = partial(training.train, checkpoint_every=2)
if sys.argv[2] == "train":
    pause_at(training.run.Run, "update", 8)  # a step has an update for each of its members
elif sys.argv[2] == "search":
    pause_at(SupernetEvaluator, "evaluate", 2)
else:
    pause_at(quickstart_files, "write_bundle", 4)
with runs.timed_by_formula():
    run(sys.argv[3:])
"""


def interrupted(place, folder, tiny):
    """Runs the job in a process until it is in a place, and sends SIGINT; its code and errors."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(Path(__file__).with_name("conftest.py")), place,
         "quickstart", "--space", "cnn", "--out", str(folder), *tiny],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "PAUSED" in line:
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return process.returncode, errors


def accuracies(folder):
    with Ledger.open(folder / "evaluations.db", read_only=True) as ledger:
        return [
            (o.genes, o.value, o.dispersion, o.step, o.weights_hash)
            for o in ledger.observations("accuracy")
        ]


@pytest.mark.parametrize(
    ("place", "measured"),
    [
        pytest.param("train", 0, marks=pytest.mark.slow),
        ("search", 8),
        pytest.param("bundles", 20, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_continues_to_what_an_uninterrupted_one_finds(
    place, measured, tmp_path, tiny, hwnas, by_formula, formula_run
):
    folder = tmp_path / "run"

    code, errors = interrupted(place, folder, tiny)

    assert code == 130, errors
    assert "Traceback" not in errors
    assert "--resume" in errors
    assert (folder / "supernet.safetensors").is_file()
    assert not (folder / "front.json").exists()
    assert not list(folder.rglob(".*partial*"))
    assert accuracies(folder) == accuracies(formula_run.folder)[:measured]

    resumed = hwnas("quickstart", "--space", "cnn", "--out", folder, *tiny, "--resume")

    assert resumed.code == 0, resumed.err
    assert accuracies(folder) == accuracies(formula_run.folder)
    front = json.loads((folder / "front.json").read_text())
    for key in ("supernet", "search", "targets", "refit"):
        assert front[key] == formula_run.front[key]
    for point, other in zip(front["points"], formula_run.front["points"], strict=True):
        assert {**point, "file": ""} == {**other, "file": ""}
    with Ledger.open(folder / "evaluations.db", read_only=True) as ledger:
        for target in ("local-t1-b1", "local-t1-b16"):
            assert len(ledger.observations("calibration.latency_ms", target)) == 20
