"""The search alone, by the command line."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments import console
from experiments.cluster.job import check_outlives_job
from experiments.config import SearchConfig
from experiments.run_folder import LEDGER
from experiments.search import SearchRun, progress_text, trained
from experiments.search_cli import search_command
from records import BadInputError, Ledger
from search_spaces import CNNSpace, ViTSpace
from strategies import Progress, RayWorkers
from supernet import Supernet, save_supernet

TINY = (
    "--space", "cnn", "--epochs", "1", "--evaluations", "20", "--train-images", "200",
    "--target", "raspberry-pi-4:max_latency_ms=0.2", "--target", "pixel-3", "--strategy", "nsga2",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(hwnas, tmp_path_factory):
    """A search for two devices that nothing is timed on."""
    folder = tmp_path_factory.mktemp("search") / "run"
    outcome = hwnas("search", "--out", folder, *TINY)
    assert outcome.code == 0, outcome.err + outcome.out
    return folder


@pytest.fixture(scope="module")
def front(folder):
    return json.loads((folder / "front.json").read_text())


def evaluated(folder):
    with Ledger.open(folder / LEDGER, read_only=True) as ledger:
        return {o.genes: o.value for o in ledger.observations("accuracy")}


def test_a_search_leaves_the_fronts_of_what_it_measured(folder, front):
    found = evaluated(folder)
    assert front["format"] == "hwnas-search-1"
    assert front["search"]["evaluations"] == len(found) == 20
    assert {path.name for path in folder.iterdir()} >= {"supernet.safetensors", LEDGER}
    assert not (folder / "models").exists()
    for target, limit in (("raspberry-pi-4-t1-b1", 0.2), ("pixel-3-t1-b1", np.inf)):
        points = [p for p in front["points"] if p["target"] == target]
        pairs = [
            (e["accuracy"], e["latency_ms"][target])
            for e in front["search"]["evaluated"]
            if target in e["allowed"]
        ]
        best = {
            (a, t) for a, t in pairs
            if not any((b >= a and u <= t) and (b, u) != (a, t) for b, u in pairs)
        }  # fmt: skip
        shown = {(p["validation_accuracy"], p["predicted"]["latency_ms"]) for p in points}
        assert {a for a, _ in shown} == {a for a, _ in best}
        assert sorted(t for _, t in shown) == pytest.approx(sorted(t for _, t in best))
        assert max(t for _, t in shown) <= limit
        assert points[0]["title"] == "fastest"
    for point in front["points"]:
        assert found[tuple(point["genes"])] == point["validation_accuracy"]
        assert point["macs"] > 0


def test_a_complete_search_is_left_as_it_is(hwnas, folder, snapshot):
    def content():
        files = {name: data for name, data in snapshot(folder).items() if name != LEDGER}
        return files, evaluated(folder)  # opening a database may touch its file

    before = content()
    outcome = hwnas("search", "--out", folder, *TINY, "--resume")
    assert outcome.code == 0
    assert "is complete" in outcome.out
    assert content() == before
    again = hwnas("search", "--out", folder, *TINY)
    assert again.code == 2
    assert "holds something already" in again.err


def test_with_trained_weights_the_same_networks_are_as_good(hwnas, folder, front, tmp_path):
    weights = folder / "supernet.safetensors"
    out = tmp_path / "run"
    options = [option for option in TINY if option not in ("--epochs", "1")]
    outcome = hwnas("search", "--out", out, *options, "--supernet", weights, "--seed", "0")
    assert outcome.code == 0, outcome.err
    assert evaluated(out) == evaluated(folder)
    again = json.loads((out / "front.json").read_text())
    assert again["supernet"]["weights_hash"] == front["supernet"]["weights_hash"]
    assert again["config"]["supernet"] == str(weights)
    assert again["supernet"]["epochs"] is None
    assert "epochs" not in again["config"]
    assert not (out / "supernet.safetensors").exists()


def test_a_fork_takes_over_what_is_trained_and_goes_to_a_folder_of_its_own(
    hwnas, folder, tmp_path, snapshot
):
    new = tmp_path / "new"
    more = ("search", "--out", folder, *TINY, "--evaluations", "21", "--fork", new)
    outcome = hwnas(*more)
    assert outcome.code == 0, outcome.err
    assert "copied: the supernet" in outcome.out
    assert "the supernet is trained: taken over" in outcome.out
    assert "training the supernet" not in outcome.out
    assert evaluated(folder).items() <= evaluated(new).items()
    before = snapshot(new)
    again = hwnas(*more)
    assert again.code == 2
    assert f"with --out {new} --resume, or choose another folder with --fork" in again.err
    assert snapshot(new) == before


def test_weights_must_be_there_and_of_the_space(tmp_path):
    space = CNNSpace(image_size=8, channels=1)
    with pytest.raises(BadInputError, match="there is no such file"):
        trained(tmp_path / "none", space)
    save_supernet(Supernet(space), tmp_path / "some")
    assert trained(tmp_path / "some", space).space == space
    with pytest.raises(BadInputError, match=r"holds weights of CNNSpace.*give the --space"):
        trained(tmp_path / "some", CNNSpace(image_size=16, channels=1))


def test_weights_of_another_space_are_refused_in_one_sentence(tmp_path):
    save_supernet(Supernet(CNNSpace(image_size=8, channels=1)), tmp_path / "some")
    with pytest.raises(BadInputError) as refused:
        trained(tmp_path / "some", ViTSpace(image_size=8, channels=1, patch_sizes=(2, 4)))
    said = str(refused.value).removeprefix(f"--supernet {tmp_path / 'some'} ")
    assert said.startswith("holds weights of CNNSpace (8x8x1 images, 10 classes, ")
    assert "the options ask for ViTSpace (8x8x1 images, 10 classes, " in said
    assert "where the former has the choice 'stem.width', the latter has '" in said
    assert said.endswith("give the --space, dataset and --image-size that it was trained with")
    assert len(said) < 350


def test_a_cluster_out_of_reach_is_said_before_anything_is_trained(hwnas, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr("experiments.search.train", lambda *_, **__: pytest.fail("trains"))
    out = tmp_path / "run"
    outcome = hwnas("search", "--out", out, *TINY, "--executor", "ray", "--address", "127.0.0.1:9")
    assert outcome.code == 2
    assert "Ray cannot reach 127.0.0.1:9" in outcome.err
    assert not out.exists()


def test_options_reach_the_executor(monkeypatch):
    seen = []
    monkeypatch.setattr("experiments.search.run_search", seen.append)
    before = signal.getsignal(signal.SIGTERM)
    search_command(
        executor="ray", workers=3, timeout_s=9, retries=1, cpus=2, gpus=0.5, threads=2,
        resources=["device:rpi4=1"], address="head:6379",
    )  # fmt: skip
    assert signal.getsignal(signal.SIGTERM) == before
    assert seen[0].make_executor() == RayWorkers(
        workers=3, timeout_s=9, retries=1, cpus=2, gpus=0.5, threads=2,
        resources={"device:rpi4": 1.0}, address="head:6379",
    )  # fmt: skip


def test_a_stopped_job_is_an_interrupted_one(monkeypatch):
    def stopped(config):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("experiments.search.run_search", stopped)
    with pytest.raises(KeyboardInterrupt):
        search_command()


def test_results_must_outlive_the_copy_of_a_working_directory(tmp_path, monkeypatch):
    copy = tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    check_outlives_job(Path("runs/x"))
    monkeypatch.chdir(copy)
    for path in (Path("runs/x"), copy / "runs"):
        with pytest.raises(BadInputError, match="Ray removes after the job: give an absolute"):
            check_outlives_job(path)
    check_outlives_job(tmp_path / "elsewhere")
    with pytest.raises(BadInputError, match="removes after the job"):
        SearchRun(SearchConfig(out=Path("runs/x"))).run()


def test_what_stands_behind_the_bar():
    progress = Progress(
        evaluations=5, total=9, failed=0, reused=0, best_accuracy=None, hypervolume={}, seconds=1.0
    )
    assert progress_text(progress) == "best 0.0%"
    busy = Progress(
        evaluations=5, total=9, failed=2, reused=0, best_accuracy=0.5, hypervolume={},
        seconds=1.0, pending=4, by_worker={"worker 1": 3, "worker 2": 2},
    )  # fmt: skip
    assert progress_text(busy) == "best 50.0%, 2 workers, 4 in flight, 2 failed"


def test_a_bar_without_anything_to_do_leaves_nothing(monkeypatch, capsys):
    monkeypatch.setattr(console, "console", Console(width=150, force_terminal=False))
    with console.progress_bar("timing"):
        pass
    assert "timing" not in capsys.readouterr().out


def test_a_bar_without_anything_to_do_may_say_why(monkeypatch, capsys):
    monkeypatch.setattr(console, "console", Console(width=150, force_terminal=False))
    with console.progress_bar("training", idle="trained before"):
        pass
    assert capsys.readouterr().out.split() == ["trained", "before"]
    with console.progress_bar("training", idle="trained before") as advance:
        advance(3, 3)
    assert "trained before" not in capsys.readouterr().out


def test_a_bar_counts_only_when_it_knows_how_many(monkeypatch, capsys):
    monkeypatch.setattr(console, "console", Console(width=150, force_terminal=True))
    with console.progress_bar("training") as advance:
        unknown = capsys.readouterr().out
        advance(3, 7)
    known = capsys.readouterr().out
    assert "training" in unknown
    assert "/?" not in unknown + known
    assert "3/7" in known


def test_a_log_is_told_of_progress_in_lines(monkeypatch, capsys):
    monkeypatch.setattr(console, "console", Console(width=150, force_terminal=False))
    with console.progress_bar("searching") as advance:
        advance(1, 9, "best 10.0%")
        monkeypatch.setattr(console, "LINES_EVERY_S", 0.0)
        advance(2, 9, "best 20.0%")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "searching: 2 of 9, best 20.0%" in lines
    assert not any(line.startswith("searching: 1 of 9") for line in lines)
