"""Searcher and trainables under `tune.Tuner`."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from search_spaces import CNNSpace
from strategies import NSGA2, Bayesian, Problem, pareto_front
from strategies.by_name import strategy_by_name
from strategies.tune_config import genes_of
from supernet import Recipe
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost
from tests.supernet.doubles import easy_data

pytest.importorskip("ray")
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter

from experiments.tune_training import training_trainable
from strategies.tune_evaluation import evaluation_trainable
from strategies.tune_searcher import HwnasSearcher
from tests.experiments import tuning

START = """import ray
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
         object_store_memory=80 * 2**20)
"""

ROOT = Path(__file__).parents[2]
PROBLEM = Problem(SPACE, FormulaAccuracy(SPACE), [LayerCost(SPACE)], {"latency_ms": 0.7})


@pytest.fixture(scope="module")
def settings():
    """What a process needs that starts a Ray of its own."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="hw") as folder:
        patch.setenv("TMPDIR", folder)  # short: sockets are made below it
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def ray(settings):
    """Ray of two processors on this machine, with this process connected to it."""
    import ray

    before = signal.getsignal(signal.SIGTERM)
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        object_store_memory=80 * 2**20,
    )  # fmt: skip
    try:
        yield ray
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)


def fitted(trainable, folder, *, param_space=None, run=None, **settings):
    tuner = tune.Tuner(
        trainable,
        param_space=param_space,
        tune_config=tune.TuneConfig(**settings),
        run_config=tune.RunConfig(storage_path=str(folder), name="run", verbose=0, **run or {}),
    )
    return tuner.fit()


@pytest.mark.usefixtures("ray")
def test_accuracy_comes_from_trials_and_latency_from_the_model(tmp_path):
    """Two objectives, one of them known: the front of the searcher is that of the trials."""
    searcher = HwnasSearcher(NSGA2, PROBLEM)
    results = fitted(
        evaluation_trainable(PROBLEM.accuracy, SPACE),
        tmp_path,
        search_alg=searcher,
        num_samples=6,
        max_concurrent_trials=2,
        reuse_actors=True,
    )
    assert len(results) == len(searcher.outcomes) == 6
    assert results.num_errors == 0
    for result in results:
        genes = genes_of(result.config, SPACE)
        assert result.metrics["accuracy"] == PROBLEM.accuracy.values(genes)[0]
        assert result.config["latency_ms"]["board"] == PROBLEM.cheap_objectives(genes)[0, 0]
    table = results.get_dataframe()
    points = table[["accuracy", "config/latency_ms/board"]].to_numpy() * [-1, 1]
    beaten = [((points <= p).all(axis=1) & (points < p).any(axis=1)).any() for p in points]
    found = pareto_front(PROBLEM, searcher.observations)
    expected = table.loc[~np.array(beaten), "config/genes"]
    assert {"-".join(map(str, p.genes)) for p in found} == set(expected)
    assert "config/architecture/stem.width" in table
    state = json.loads(next((tmp_path / "run").glob("searcher-state-*.json")).read_text())
    assert len(state["trials"]["outcomes"]) == 6


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_asha_stops_trainings_and_the_strategy_hears_what_they_reported_last(tmp_path):
    data = easy_data()
    space = CNNSpace(
        image_size=data.image_size, channels=data.channels, num_classes=data.num_classes
    )
    searcher = HwnasSearcher(
        partial(NSGA2, population_size=4),
        Problem(space, FormulaAccuracy(space), [LayerCost(space)]),
    )
    results = fitted(
        training_trainable(space, data, epochs=4, recipe=Recipe(batch_size=64)),
        tmp_path,
        run={"checkpoint_config": tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=1)},
        search_alg=ConcurrencyLimiter(searcher, 2),
        num_samples=6,
        reuse_actors=True,
        metric="accuracy",
        mode="max",
        scheduler=ASHAScheduler(max_t=4, grace_period=1, reduction_factor=2),
    )
    assert results.num_errors == 0
    epochs = [result.metrics["epoch"] for result in results]
    assert min(epochs) < 4 == max(epochs)
    reported = {"-".join(map(str, o.row)): o.values for o in searcher.outcomes.values()}
    assert reported == {r.config["genes"]: (r.metrics["accuracy"],) for r in results}
    assert all((Path(r.checkpoint.path) / "training.safetensors").exists() for r in results)


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_two_objectives_and_ranges_of_the_tuner(tmp_path):
    def trained(config):
        for _ in range(2):
            width, rate = config["width"], config["optimiser"]["rate"]
            tune.report({"loss": abs(np.log10(rate) + 3) + 8 / width, "ms": width * 0.1})

    searcher = HwnasSearcher(Bayesian, metrics={"loss": "min", "ms": "min"})
    ranges = {"width": tune.randint(8, 65), "optimiser": {"rate": tune.loguniform(1e-5, 1e-1)}}
    results = fitted(
        trained,
        tmp_path,
        param_space=ranges | {"images": 100},
        search_alg=searcher,
        num_samples=6,
        max_concurrent_trials=2,
    )
    assert results.num_errors == 0
    assert all(result.config["images"] == 100 for result in results)
    found = sorted(o.values for o in searcher.outcomes.values())
    assert found == sorted((r.metrics["loss"], r.metrics["ms"]) for r in results)
    assert len(found) == 6


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_a_strategy_that_waits_waits_and_failed_trials_have_failed(tmp_path):
    """More trials are allowed than a plan asks for at a time, and some of them fail."""
    accuracy = FormulaAccuracy(SPACE, fails=tuning.fails)
    searcher = HwnasSearcher(partial(strategy_by_name, "sensitivity"), PROBLEM)
    results = fitted(
        evaluation_trainable(accuracy, SPACE),
        tmp_path,
        search_alg=searcher,
        num_samples=20,
        reuse_actors=True,
    )
    outcomes = searcher.outcomes.values()
    assert len(results) == len(outcomes) == 20
    failed = {o.row for o in outcomes if o.reason}
    assert len(failed) == results.num_errors > 0
    assert failed == {o.row for o in outcomes if tuning.fails(o.row)}
    assert searcher.trials.proposals.strategy.waits


@pytest.mark.slow
@pytest.mark.usefixtures("settings")
def test_the_code_of_the_page_runs_as_it_stands_there(tmp_path):
    page = (ROOT / "docs" / "scaling.md").read_text()
    (block,) = re.findall(
        r"```python\n(.*?)```", page.split("## Ray Tune\n")[1].split("\n## ")[0], re.S
    )
    said = (
        "\nprint('front', len(front), 'trials', len(searcher.outcomes), len(trained.outcomes))"
        "\nprint('epochs', *sorted(result.metrics['epoch'] for result in results))"
    )
    (tmp_path / "page.py").write_text(START + block + said)
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.search(r"front (\d+) trials 20 6\nepochs (.*)", done.stdout)
    assert int(found[1]) > 0
    assert set(found[2].split()) <= {"1", "2", "3", "4"}
    assert (tmp_path / "ray_results").is_dir()


@pytest.mark.slow
def test_a_killed_tuner_goes_on_where_it_was(settings, tmp_path):
    """Only what was under way is evaluated again; the strategy's course is one."""
    process = subprocess.Popen(
        [sys.executable, tuning.__file__, str(tmp_path)], stdout=subprocess.DEVNULL
    )
    asked = tmp_path / "asked"
    end = time.monotonic() + 300
    while not asked.exists() or len(asked.read_text().split()) < 12:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(2)  # workers that lost their driver end
    (state,) = (tmp_path / "run").glob("searcher-state-*.json")
    before = json.loads(state.read_text())["trials"]["outcomes"]
    assert len(before) >= 6
    import ray

    ray.shutdown()
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        object_store_memory=80 * 2**20,
    )  # fmt: skip
    try:
        trainable = tuning.trainable(tmp_path)
        tuner = tune.Tuner.restore(str(tmp_path / "run"), trainable)
        results = tuner.fit()
    finally:
        ray.shutdown()
    assert len(results) == tuning.TRIALS
    assert results.num_errors == 0
    rows = asked.read_text().split()
    known = {"-".join(map(str, row)) for _, row, *_ in before}
    twice = {row for row in rows if rows.count(row) > 1}
    assert not twice & known, "what was committed is not paid for twice"
    assert len(twice) <= 4
    again = tuning.searcher()
    again.restore_from_dir(tmp_path / "run")
    assert len({o.row for o in again.outcomes.values()}) == tuning.TRIALS
    assert len(pareto_front(tuning.problem(), again.observations)) > 0
    assert os.path.getsize(tmp_path / "run" / "tuner.pkl") < 100_000
