"""Commands that are interrupted before they have begun."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import experiments
from experiments import datasets, spaces
from experiments.cli import how_to_continue
from experiments.interruption import INTERRUPTED, end_interrupted, ends_at_once

ROOT = Path(experiments.__file__).parent.parent

SLOW_IMPORT = """
import time
print("importing", flush=True)
try:
    time.sleep(60)
except BaseException as error:
    raise ImportError("as extension modules do") from error
"""

HWNAS = "from experiments.cli import main; main()"


def begun(folder, *, ignored=False):
    """`hwnas` where an import takes a minute, once that import has begun."""
    (folder / "typer.py").write_text(SLOW_IMPORT)
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " if ignored else ""
    process = subprocess.Popen(
        [sys.executable, "-c", ignore + HWNAS, "devices"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # may be ignored here
    )  # fmt: skip
    assert process.stdout.readline() == "importing\n"
    return process


def test_an_interrupt_while_modules_are_imported_ends_with_one_line(tmp_path):
    process = begun(tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED == 128 + signal.SIGINT
    assert errors == "interrupted; nothing had begun\n"


def test_where_interrupts_are_ignored_they_stay_so(tmp_path):
    process = begun(tmp_path, ignored=True)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.kill()
    process.communicate()


def test_little_is_imported_before_interrupts_are_looked_after():
    script = "import sys, experiments.cli; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    assert "experiments.interruption" in modules
    assert not {"torch", "numpy", "onnx", "typer", "rich", "experiments.commands"} & set(modules)


def test_afterwards_an_interrupt_is_what_it_was():
    before = signal.getsignal(signal.SIGINT)
    with ends_at_once():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_command_says_what_is_to_be_done(capsys):
    with pytest.raises(SystemExit) as end:
        end_interrupted("go on with --resume")
    assert end.value.code == INTERRUPTED
    assert capsys.readouterr().err == "interrupted; go on with --resume\n"


def test_the_package_still_has_its_names():
    assert experiments.load_dataset is datasets.load_dataset
    assert experiments.DATASETS is datasets.DATASETS
    assert experiments.make_space is spaces.make_space
    assert experiments.SPACES is spaces.SPACES
    with pytest.raises(AttributeError, match="'experiments' has no attribute 'nonsense'"):
        _ = experiments.nonsense


def test_an_interrupted_run_says_the_command_that_goes_on():
    arguments = ["search", "--out", "runs/my run"]
    for typed in (["hwnas", *arguments], ["python", "-m", "experiments.search", *arguments[1:]]):
        said = how_to_continue(arguments, typed).splitlines()
        assert shlex.split(said[1]) == [*typed, "--resume"]
    resumed = [*arguments, "--resume"]
    assert how_to_continue(resumed, ["hwnas", *resumed]).splitlines()[1].count("--resume") == 1
    forked = how_to_continue([*arguments, "--fork=b"], ["hwnas"])
    assert "folder of --fork as --out" in forked
    assert "--resume" not in how_to_continue(["export", "runs/a"], ["hwnas", "export", "runs/a"])


@pytest.mark.parametrize("module", ["cli", "search"])
def test_the_command_is_told_as_it_was_typed(module):
    script = (
        "import sys; from experiments import cli\n"
        f"sys.orig_argv = ['python3', '-m', 'experiments.{module}', '--out', 'a']\n"
        "print(*cli._typed()); sys.argv = ['/x/hwnas', 'search']; print(*cli._typed())"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert said == f"python3 -m experiments.{module} --out a\n/x/hwnas search\n"
