import contextlib
import errno
import math
import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from deployment import LocalRunner
from experiments import quickstart as quickstart_module
from experiments.datasets import DATASETS
from experiments.spaces import SPACES
from hardware_profiles import device_names, load_profile


def is_refused(outcome, *said):
    """Exit code 2 and one line on standard error that holds these texts."""
    assert outcome.code == 2, outcome
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in outcome.out + outcome.err
    for text in said:
        assert text in lines[0]
    return True


def slowly(*values):
    """A case like another that runs daily, for the slow tests."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """A default `--out` would otherwise be made where the tests are run."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    yield
    assert list((tmp_path / "cwd").iterdir()) == [], "something was written beside --out"


@pytest.fixture
def out(tmp_path):
    """A run's folder that a refused command leaves unmade."""
    return tmp_path / "run"


# ---- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (("quickstart", "--dataset", "digit"), DATASETS),
        (("quickstart", "--space", "cnnn"), SPACES),
        (("quickstart", "--strategy", "nsga4"), ("nsga2", "local-search", "optuna-tpe")),
        (("quickstart", "--spice", "cnn"), ("--space", "--dataset", "--max-latency-ms", "--out")),
        (("quickstart", "--frobnicate"), ("--space", "--resume", "--refit-threshold")),
        (("devices", "show", "raspberry-pi-44"), device_names()),
        (("devices", "list"), ("show",)),
        (("quickstat",), ("quickstart", "devices", "profile")),
        (("profile", "--outt", "x"), ("--out", "--refresh")),
    ],
)
def test_an_unknown_name_lists_the_known(hwnas, arguments, known):
    assert is_refused(hwnas(*arguments), *known)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seed", "one"), "--seed"),
        (("--seed",), "--seed"),
        (("--epochs", "1.5"), "--epochs"),
        (("surplus",), "surplus"),
        (("--seed", "-1"), "--seed must be at least 0"),
        (("--seed", str(2**64)), "--seed must be at most"),
        (("--epochs", "0"), "--epochs must be at least 1"),
        (("--evaluations", "5"), "--evaluations must be at least 20"),
        (("--points", "1"), "--points must be at least 3"),
        (("--image-size", "0"), "--image-size must be 8"),
        (("--image-size", "4"), "--image-size must be 8"),
        (("--image-size", "999999"), "8 to 1024"),
        (("--image-size", "9", "--space", "vit"), "no patch size (2, 4) divides"),
        (("--train-images", "0"), "train_images must be 2 to 1079, got 0"),
        (("--train-images", "5000"), "train_images must be 2 to 1079"),
        (("--refit-threshold", "nan"), "--refit-threshold must be >= 0"),
        (("--refit-threshold", "-1"), "--refit-threshold must be >= 0"),
    ],
)
def test_an_option_that_cannot_be_is_refused(hwnas, out, arguments, said):
    assert is_refused(hwnas("quickstart", "--out", out, *arguments), said)
    assert not out.exists()


@pytest.mark.parametrize("limit", ["--max-latency-ms", "--max-energy-mj", "--max-memory-kb"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_limit_is_a_positive_number(hwnas, out, limit, value):
    said = (f"{limit} must be a positive number", f"got {float(value):g}")
    assert is_refused(hwnas("quickstart", "--out", out, limit, value), *said)
    assert not out.exists()


# ---- datasets --------------------------------------------------------------------------------


def images(folder, classes, count):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((9, 9), i, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p.mkdir(), "no subfolders"),
        (lambda p: images(p, ("cat", "dog"), 0), "holds 0 images"),
        (lambda p: images(p, ("cat",), 9), "1 class; classification needs two"),
        (lambda p: images(p, ("cat", "dog"), 2), "holds 2 images"),
        (lambda p: (images(p, ("cat", "dog"), 9) / "dog" / "4.png").write_text("?"), "dog/4.png"),
        (lambda p: p.write_text("a file"), "not a folder of images"),
        (lambda p: None, "not a folder of images"),
    ],
)
def test_a_folder_that_is_no_dataset_is_refused(hwnas, tmp_path, out, snapshot, make, said):
    make(tmp_path / "data")
    before = snapshot(tmp_path)

    assert is_refused(hwnas("quickstart", "--dataset", tmp_path / "data", "--out", out), said)
    assert snapshot(tmp_path) == before


def test_a_named_dataset_without_files_says_what_to_put_where(hwnas, tmp_path, out):
    outcome = hwnas(
        "quickstart", "--dataset", "cifar-10", "--data-folder", tmp_path / "no", "--out", out
    )

    assert is_refused(outcome, str(tmp_path / "no"), "data_batch_1.bin", "--data-folder")
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "data_batch_1.bin").write_bytes(b"something else")
    outcome = hwnas(
        "quickstart", "--dataset", "cifar-10", "--data-folder", tmp_path / "no", "--out", out
    )
    assert is_refused(outcome, "data_batch_1.bin is not a file of 3073-byte CIFAR records")


# ---- the run's folder ------------------------------------------------------------------------


def test_a_folder_that_holds_anything_is_left_alone(hwnas, tmp_path, snapshot, formula_run):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    run_before, before = snapshot(formula_run.folder), snapshot(tmp_path)

    for out in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt", formula_run.folder):
        assert is_refused(hwnas("quickstart", "--out", out), "--resume", "another folder")
    below_a_file = tmp_path / "mine" / "thesis.txt" / "run"
    assert is_refused(hwnas("quickstart", "--out", below_a_file), "Not a directory")
    assert is_refused(hwnas("quickstart", "--out", tmp_path / ("x" * 300)), "name too long")

    assert snapshot(tmp_path) == before
    assert snapshot(formula_run.folder) == run_before


def test_resume_with_nothing_there(hwnas, tmp_path, snapshot, out):
    assert is_refused(hwnas("quickstart", "--out", out, "--resume"), "nothing to continue")
    assert not out.exists()
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert is_refused(hwnas("quickstart", "--out", out, "--resume"), "nothing to continue")
    assert list(snapshot(out)) == ["notes.txt"]


def test_resume_with_other_options_says_which_differ(hwnas, snapshot, tiny, formula_run):
    before = snapshot(formula_run.folder)
    options = ("quickstart", "--out", formula_run.folder, "--resume", *tiny, "--space")

    outcome = hwnas(*options, "vit", "--seed", "7", "--max-latency-ms", "3")

    assert is_refused(
        outcome,
        "--space was 'cnn', is 'vit'",
        "--seed was 0, is 7",
        "--max-latency-ms was not given, is 3.0",
    )
    assert "epochs" not in outcome.err
    assert snapshot(formula_run.folder) == before


@pytest.fixture
def copied(formula_run, tmp_path, tiny):
    """A copy of a complete run, and the arguments that continue it."""
    shutil.copytree(formula_run.folder, tmp_path / "copy")
    arguments = (*tiny, "--space", "cnn", "--resume", "--out", tmp_path / "copy")
    return tmp_path / "copy", ("quickstart", *arguments)


def test_a_complete_run_is_not_run_again(hwnas, copied, snapshot):
    folder, arguments = copied
    before = snapshot(folder)

    outcome = hwnas(*arguments)

    assert outcome.code == 0
    assert "is complete" in outcome.out
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not valid JSON"),
        (b'{"format": "hwnas-fro', "not valid JSON"),
        (b"\xff\xfe\x00binary", "not valid JSON"),
        (b'{"format": "another"}', "its format is 'another'"),
        (b"[1, 2, 3]", "its format is 'list'"),
        (b'{"format": "hwnas-front-1", "x": NaN}', "NaN, which is not JSON"),
    ],
)
def test_a_front_that_is_none_is_refused(hwnas, copied, snapshot, data, said):
    folder, arguments = copied
    (folder / "front.json").write_bytes(data)
    before = snapshot(folder)

    assert is_refused(hwnas(*arguments), "front.json", said)
    assert snapshot(folder) == before


def _other_database(path):
    import sqlite3

    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.write_bytes(b"no database" * 500), "not a SQLite file"),
        (lambda p: p.write_bytes(b""), "no table"),
        (lambda p: p.write_bytes(p.read_bytes()[:5000]), "ledger"),
        (_other_database, "not a ledger"),
        (lambda p: (p.unlink(), p.mkdir()), "it is a folder"),
    ],
)
def test_a_ledger_that_is_none_is_refused(hwnas, copied, snapshot, by_formula, spoil, said):
    folder, arguments = copied
    spoil(folder / "evaluations.db")
    (folder / "front.json").unlink()
    before = snapshot(folder)

    assert is_refused(hwnas(*arguments), "evaluations.db", said)
    assert snapshot(folder) == before


def _foreign_safetensors(path):
    import torch
    from safetensors.torch import save_file

    save_file({"layer.weight": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.write_bytes(b"\x80\x04pickled?" * 99), "not a readable checkpoint"),
        (_foreign_safetensors, "not a checkpoint of this version"),
        slowly(lambda p: p.write_bytes(b""), "not a readable checkpoint"),
        slowly(lambda p: p.write_bytes(p.read_bytes()[:-100]), "not a readable checkpoint"),
        slowly(lambda p: (p.unlink(), p.mkdir()), "not a readable checkpoint"),
    ],
)
def test_a_checkpoint_that_is_none_is_refused(hwnas, copied, snapshot, by_formula, spoil, said):
    folder, arguments = copied
    spoil(folder / "supernet.safetensors")
    (folder / "front.json").unlink()
    before = snapshot(folder)

    assert is_refused(hwnas(*arguments), "supernet.safetensors", said)
    assert snapshot(folder) == before


def test_another_runs_checkpoint_is_refused(hwnas, copied, refitted_run, by_formula, snapshot):
    folder, arguments = copied
    shutil.copy(refitted_run.folder / "supernet.safetensors", folder)
    (folder / "front.json").unlink()
    before = snapshot(folder)

    assert is_refused(hwnas(*arguments), "was written by another run", "space")
    assert snapshot(folder) == before


# ---- the disk --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("replace", errno.ENOSPC),
        ("mkdir", errno.EROFS),
        slowly("replace", errno.EROFS),
        slowly("mkdir", errno.ENOSPC),
    ],
)
def test_a_disk_that_refuses_leaves_nothing(
    hwnas, tmp_path, tiny, by_formula, monkeypatch, function, code
):
    out = tmp_path / "disk" / "run"
    out.parent.mkdir()

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, refuse)
    outcome = hwnas("quickstart", "--space", "cnn", "--out", out, *tiny)
    monkeypatch.undo()

    assert is_refused(outcome, str(out), os.strerror(code))
    assert list(out.parent.iterdir()) == []


@contextlib.contextmanager
def small_disk():
    """No file can grow beyond 200 kB: the ledger fits, the checkpoint does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_while_running_leaves_no_half_written_file(hwnas, tiny, by_formula, out):
    with small_disk():
        outcome = hwnas("quickstart", "--space", "cnn", "--out", out, *tiny)

    assert is_refused(outcome, "supernet.safetensors", "File too large")
    assert {path.name for path in out.iterdir()} == {"evaluations.db", "run.json"}


@pytest.mark.slow
def test_a_run_whose_disk_was_full_is_continued(hwnas, tiny, by_formula, out, formula_run):
    with small_disk():
        hwnas("quickstart", "--space", "cnn", "--out", out, *tiny)

    outcome = hwnas("quickstart", "--space", "cnn", "--out", out, *tiny, "--resume")

    assert outcome.code == 0
    assert {p.name for p in out.iterdir()} == {p.name for p in formula_run.folder.iterdir()}


# ---- limits ----------------------------------------------------------------------------------


@pytest.fixture
def no_training(monkeypatch):
    """Training ends the run with 130, so that a test sees that the limits were accepted."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.search.train", interrupt)


def nearest(outcome):
    """The reachable value that the message names."""
    words = outcome.err.split(" is ", 1)[1]
    return float(words.split(",")[0])


@pytest.mark.slow
def test_impossible_limits_name_the_nearest_that_is_possible(
    hwnas, tmp_path, tiny, by_formula, no_training
):
    def limited(name, *limits):
        folder = tmp_path / name
        return hwnas("quickstart", "--space", "vit", "--out", folder, *tiny, *limits)

    latency = limited("a", "--max-latency-ms", "0.0001")
    assert is_refused(latency, "latency_ms <= 0.0001", "lowest reachable is")
    energy = limited("b", "--max-energy-mj", "1e-9")
    assert is_refused(energy, "energy_mj <= 1e-09", "lowest reachable is")
    memory = limited("c", "--max-memory-kb", "0.5")
    assert is_refused(memory, "peak_memory_bytes <= 512", "is")

    # Each value named is reachable alone; the formula makes those of latency and energy exclude
    # each other: small patches have few weights and much arithmetic, large ones the reverse.
    limits = {
        "--max-latency-ms": nearest(latency),
        "--max-energy-mj": nearest(energy),
        "--max-memory-kb": math.ceil(nearest(memory)) / 1024,
    }
    for index, limit in enumerate(limits.items()):
        alone = limited(f"alone{index}", *limit)
        assert alone.code == 130, alone.err
    both = ("--max-latency-ms", limits["--max-latency-ms"], "--max-energy-mj")
    jointly = limited("d", *both, limits["--max-energy-mj"])
    assert is_refused(
        jointly, "meets all limits at once", "nearest found has latency_ms", "energy"
    )
    for name in "abcd":
        assert not (tmp_path / name).exists()


def test_an_impossible_limit_ends_before_training(hwnas, out, tiny, by_formula):
    limit = ("--max-latency-ms", "0.0001")
    outcome = hwnas("quickstart", "--space", "cnn", "--out", out, *tiny, *limit)

    assert is_refused(outcome, "no architecture of 'CNNSpace' meets latency_ms <= 0.0001")
    assert nearest(outcome) > 0.001
    assert "training" not in outcome.out
    assert not out.exists()


@pytest.mark.slow
def test_an_impossible_limit_ends_a_real_command_before_training(tmp_path):
    """Nothing in place of timing here: the nearest latency is measured and far above."""
    outcome = subprocess.run(
        [sys.executable, "-m", "experiments.quickstart", "--space", "cnn", "--max-latency-ms",
         "0.0001", "--calibration-networks", "20", "--out", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=os.path.dirname(os.path.dirname(quickstart_module.__file__)),
    )  # fmt: skip

    assert outcome.returncode == 2
    assert outcome.stderr.startswith("error: no architecture of 'CNNSpace' meets latency_ms")
    assert len(outcome.stderr.splitlines()) == 1
    assert float(outcome.stderr.split("reachable is ")[1].split(",")[0]) > 0.001
    assert "training" not in outcome.stdout
    assert not (tmp_path / "run").exists()


# ---- devices and profile ---------------------------------------------------------------------


def test_devices_are_listed_and_shown(hwnas):
    listed = hwnas("devices")
    assert listed.code == 0
    assert all(name in listed.out for name in device_names())
    shown = hwnas("devices", "show", "raspberry-pi-4")
    assert shown.code == 0
    assert "BCM2711" in shown.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "not valid YAML"),
        ("just text", "not a valid profile"),
        ("- 1\n- 2\n", "must be a mapping"),
        ("name: x\n", "lacks kind"),
        ("surprise: 1\n", "unknown key 'surprise'"),
        ("name: a\nname: b\n", "given twice"),
        ("!!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("\x00", "not valid YAML"),
        (b"\xff\xfe\xfd", "not UTF-8"),
    ],
)
def test_a_profile_that_is_none_is_refused(hwnas, tmp_path, text, said):
    path = tmp_path / "board.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    assert is_refused(hwnas("devices", "show", path), "board.yaml", said)


def test_a_profile_with_a_negative_number_names_the_key(hwnas, tmp_path):
    document = yaml.safe_load((_shipped("raspberry-pi-4")).read_text())
    document["clock_ghz"]["value"] = -1
    (tmp_path / "board.yaml").write_text(yaml.safe_dump(document))

    assert is_refused(hwnas("devices", "show", tmp_path / "board.yaml"), "clock_ghz", "-1")
    assert is_refused(hwnas("devices", "show", tmp_path / "none.yaml"), "there is no such file")
    assert is_refused(hwnas("devices", "show", str(tmp_path)), "Is a directory")


def _shipped(name):
    import hardware_profiles.catalogue

    return hardware_profiles.catalogue._SHIPPED / f"{name}.yaml"


def test_the_profile_of_this_machine_is_shown_and_written(hwnas, tmp_path, snapshot):
    path = tmp_path / "here.yaml"

    outcome = hwnas("profile", "--out", path)

    assert outcome.code == 0
    assert "runtimes: " in outcome.out
    profile = load_profile(path)
    assert profile.name == "local"
    assert profile.peak_gflops["fp32"].measured
    before = snapshot(tmp_path)
    assert is_refused(hwnas("profile", "--out", path), "never overwritten")
    assert is_refused(
        hwnas("profile", "--out", path / "below"), "cannot write", "part of the path is a f"
    )
    assert snapshot(tmp_path) == before
    assert hwnas("devices", "show", path).code == 0


def test_help_names_the_commands_and_no_command_is_an_error(hwnas):
    helped = hwnas("--help")
    assert helped.code == 0
    assert all(name in helped.out for name in ("quickstart", "devices", "profile"))
    assert hwnas().code == 2


def test_an_interrupt_ends_with_130_and_says_how_to_continue(hwnas, by_formula, out, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalRunner, "time", interrupt)

    outcome = hwnas("quickstart", "--space", "cnn", "--out", out)

    assert outcome.code == 130
    assert "--resume" in outcome.err
    assert not out.exists()
