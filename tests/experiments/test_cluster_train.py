"""`hwnas train`: a supernet trained by workers of a Ray cluster, as a command."""

import tempfile

import pytest

from experiments import load_dataset
from experiments.cluster import train as command
from experiments.cluster.train import TrainOptions, train_supernet
from experiments.search import trained
from experiments.spaces import make_space
from records import BadInputError
from supernet import RayGroup, Recipe, Supernet, load_supernet, save_supernet, train
from supernet.training import Step


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"seed": -1}, "--seed must be within 0"),
        ({"checkpoint": " "}, "--checkpoint needs a path or URL"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(BadInputError, match=said):
        TrainOptions(**{"checkpoint": "a.safetensors", **options})


def test_shards_are_a_multiple_of_the_workers_unless_they_are_given():
    assert [TrainOptions(checkpoint="a", workers=n).recipe.shards for n in (1, 2, 5)] == [2, 2, 5]
    assert TrainOptions(checkpoint="a", workers=2, shards=6).recipe == Recipe(shards=6)


def test_the_options_reach_the_workers(hwnas, monkeypatch, tmp_path):
    """What the command asks for, with this process in place of the cluster."""
    asked = {}

    def here(supernet, data, group, **options):
        asked.update(options, group=group)
        options.pop("on_step")(Step(number=1, total=2, losses=(1.5,)))
        return train(supernet, data, **options)

    monkeypatch.setattr(command, "train_on_ray", here)
    path = tmp_path / "supernet.safetensors"
    outcome = hwnas(
        "train", "--checkpoint", path, "--dataset", "digits", "--space", "cnn", "--epochs", 1,
        "--train-images", 100, "--workers", 3, "--cpus", 2, "--gpus", 1, "--address", "head:6379",
        "--resource", "device:rpi4=1", "--failures", 5, "--wait", 90, "--checkpoint-every", 7,
        "--seed", 4,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert asked["group"] == RayGroup(
        workers=3, cpus=2.0, gpus=1, resources={"device:rpi4": 1.0}, failures=5, wait_s=90.0,
        address="head:6379",
    )  # fmt: skip
    assert (asked["epochs"], asked["seed"], asked["checkpoint_every"]) == (1, 4, 7)
    assert asked["recipe"] == Recipe(shards=3)
    found = load_supernet(path)
    assert f"weights {found.weights_hash()}" in outcome.out
    said = " ".join(outcome.out.split())
    assert "hwnas search --dataset digits --space cnn --supernet" in said


def test_an_interrupt_says_how_to_go_on(hwnas, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "train_on_ray", interrupted)
    outcome = hwnas("train", "--checkpoint", tmp_path / "a", "--space", "cnn")
    assert outcome.code == 130
    assert "the same command continues from" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--checkpoint", "memory://a/b"), "memory of one process"),
        (
            ("--checkpoint", "a", "--workers", 3, "--shards", 4),
            "cannot be spread over 3 processes",
        ),
        (("--checkpoint", "a", "--gpus", 2), "gpus must be 0 or 1"),
        (("--checkpoint", "a", "--space", "none"), "unknown search space 'none'"),
        (("--checkpoint", "a", "--address", "127.0.0.1:9"), "cannot reach 127.0.0.1:9"),
    ],
)
def test_what_cannot_be_trained_ends_with_a_line(hwnas, monkeypatch, tmp_path, arguments, said):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    outcome = hwnas("train", *arguments)
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert said in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_in_the_copy_of_a_job_is_refused(monkeypatch, tmp_path):
    folder = tmp_path / "runtime_resources" / "working_dir_files" / "pkg"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    with pytest.raises(BadInputError, match=r"--checkpoint a\.safetensors would be .*/pkg/a\."):
        train_supernet(TrainOptions(checkpoint="a.safetensors"))


def test_a_search_takes_weights_from_a_url():
    space = make_space("cnn", load_dataset("digits"))
    supernet, url = Supernet(space, seed=5), "memory://bucket/runs/supernet.safetensors"
    save_supernet(supernet, url)
    assert trained(url, space).weights_hash() == supernet.weights_hash()
    with pytest.raises(BadInputError, match=r"--supernet memory://bucket/none: there is no such"):
        trained("memory://bucket/none", space)


@pytest.mark.slow
def test_a_supernet_is_trained_by_a_ray_of_its_own(hwnas, monkeypatch, tmp_path):
    """And started again, it is complete."""
    pytest.importorskip("ray.train")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with tempfile.TemporaryDirectory(prefix="hw", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("TMPDIR", folder)  # short: sockets are made below it
        path = tmp_path / "supernet.safetensors"
        options = ("train", "--checkpoint", f"file://{path}", "--space", "cnn", "--epochs", 1,
                   "--train-images", 100, "--workers", 1, "--address", "local")  # fmt: skip
        outcome = hwnas(*options)
        assert outcome.code == 0, outcome.err
        found = load_supernet(path)
        assert f"weights {found.weights_hash()}" in outcome.out
