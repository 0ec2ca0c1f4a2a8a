import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from deployment import Timing
from deployment.intervals import wilson_interval
from experiments.baselines import hand_made
from experiments.benchmarks import __main__ as benchmarks
from experiments.benchmarks import hand_made as benchmark
from experiments.benchmarks import hand_made_comparison as comparison
from experiments.benchmarks import quality_jobs
from experiments.benchmarks.hand_made_comparison import best_rate, limits_between
from experiments.benchmarks.hand_made_sizes import (
    MOST,
    MULTIPLIERS,
    WIDE,
    Size,
    matched_sizes,
    sizes_near,
)
from experiments.benchmarks.quality_jobs import Budget, Job, run_job
from hardware_profiles import Target, device
from latency_models import random_weights_model
from records import BadInputError
from strategies import InfeasibleConstraintError
from supernet import ImageData, Recipe, Split, Subnet, accuracy

TARGET = Target(profile=device("raspberry-pi-4"), batch_size=1, threads=1)


def weights_of(model):
    """The elements of a file's weights: what takes the place of its latency."""
    graph = onnx.load_from_string(model).graph
    return sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)


class CountingRunner:
    """Latency is the number of weights; remembers how many files each call was given."""

    name = "counting"

    def __init__(self):
        self.calls = []

    def time(self, models, *, threads, rounds=7, runs=3, min_seconds=0.0, seed=0, on_round=None):
        self.calls.append(len(models))
        return [
            Timing(samples_ms=(float(weights_of(m)),) * 2, rounds=1, preempted=0.0) for m in models
        ]


@pytest.fixture(scope="module")
def data():
    split = Split(torch.zeros(2, 1, 32, 32), torch.arange(2))
    names = tuple("0123456789")
    return ImageData(name="d", train=split, validation=split, test=split, class_names=names)


@pytest.fixture
def threads():
    """Jobs set the number of threads of their process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# ---- limits and rates ------------------------------------------------------------------------


def test_limits_are_equal_ratios_apart_and_reach_the_slowest():
    assert limits_between(1.0, 16.0, [0.25, 0.5, 0.75, 1.0]) == pytest.approx([2, 4, 8, 16])


@pytest.mark.parametrize("fraction", [0.0, 1.1, -0.5])
def test_a_limit_outside_the_range_is_refused(fraction):
    with pytest.raises(BadInputError, match="above 0 and at most 1"):
        limits_between(1.0, 2.0, [0.5, fraction])


def test_the_rate_with_the_highest_accuracy_is_taken_and_of_equal_ones_the_first():
    assert best_rate({0.003: 0.5, 0.0015: 0.7, 0.006: 0.6}) == 0.0015
    assert best_rate({0.003: 0.7, 0.0015: 0.7, 0.006: 0.6}) == 0.003


# ---- sizes of the same latency ---------------------------------------------------------------


@pytest.mark.parametrize(
    "multiplier",
    [0.5, 2.0, *(pytest.param(factor, marks=pytest.mark.slow) for factor in (0.25, 1.25))],
)
def test_the_size_is_that_of_all_whose_latency_is_nearest(data, multiplier):
    networks = [("resnet-8", 1), ("mobilenet-v3-small", 2)]
    resnet = hand_made("resnet-14", data, multipliers=MULTIPLIERS)
    row = np.array([MULTIPLIERS.index(multiplier)], np.int16)
    model = random_weights_model(resnet, row, 1)
    runner = CountingRunner()

    found = matched_sizes(model, networks, data, TARGET, runner, seed=0)

    assert [(size.name, size.reduction) for size in found] == networks
    for size in found:
        space = hand_made(size.name, data, reduction=size.reduction, multipliers=MULTIPLIERS)
        every = [
            weights_of(random_weights_model(space, np.array([i], np.int16), 1)) / weights_of(model)
            for i in range(12)
        ]
        allowed = [ratio for ratio in every if ratio <= MOST]
        if size.is_comparable and size.index < 12:
            assert size.ratio == every[size.index]
            assert size.ratio == min(allowed, key=lambda r: abs(np.log(r)))
        else:
            assert size.index >= 12 or (not allowed and size.ratio == min(every))
    assert runner.calls[-1] > 1  # all together at the end, after pairs
    assert set(runner.calls[:-1]) == {2}


def test_sizes_are_looked_at_from_the_smallest_until_one_is_far_too_slow(data):
    space = hand_made("resnet-8", data, multipliers=(0.5, 0.875, 1.0, 1.125, 2.0, 4.0))
    model = random_weights_model(space, np.array([2], np.int16), 1)
    runner = CountingRunner()

    near = sizes_near(space, model, TARGET, runner, seed=0)

    ratios = {index: weights_of(own) / weights_of(model) for index, own in near.items()}
    assert sorted(ratios) == [1, 2, 3]
    assert all(1 / WIDE <= ratio <= WIDE for ratio in ratios.values())
    assert runner.calls == [2] * 5  # factor 4 was not built


def test_where_no_size_is_near_the_last_faster_and_the_first_slower_one_are_taken(data):
    space = hand_made("resnet-8", data, multipliers=(0.25, 0.5, 2.0, 4.0))
    middle = hand_made("resnet-8", data, multipliers=(1.0, 3.0))
    model = random_weights_model(middle, np.array([0], np.int16), 1)

    near = sizes_near(space, model, TARGET, CountingRunner(), seed=0)

    assert sorted(near) == [1, 2]


def test_of_factors_that_give_the_same_network_the_last_is_taken(data):
    space = hand_made("resnet-8", data, multipliers=(0.4375, 0.5, 1.0))
    assert space.graph([0]) == space.graph([1])
    model = random_weights_model(space, np.array([1], np.int16), 1)

    near = sizes_near(space, model, TARGET, CountingRunner(), seed=0)

    assert sorted(near) == [1]


def test_a_network_whose_smallest_size_is_too_slow_is_not_comparable(data):
    small = hand_made("resnet-8", data, multipliers=(0.125, 1.0))
    model = random_weights_model(small, np.array([0], np.int16), 1)

    (size,) = matched_sizes(model, [("vit-tiny", 1)], data, TARGET, CountingRunner(), seed=0)

    assert not size.is_comparable
    assert size.index == 0
    assert size.ratio > WIDE


def test_a_size_is_named_and_read_back_from_json(data):
    size = Size(name="mobilenet-v2", reduction=2, index=MULTIPLIERS.index(0.5), ratio=0.97)

    assert size.title(data) == "MobileNetV2 x0.5, maps halved"
    assert replace(size, reduction=1).title(data) == "MobileNetV2 x0.5"
    assert Size(**json.loads(json.dumps(size.to_json()))) == size
    assert size.graph(data) == hand_made("mobilenet-v2", data, reduction=2).graph([1])


# ---- trainings -------------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path):
    return Job(
        family="resnet-8",
        budget=Budget(dataset="digits", images=64, epochs=1),
        recipe=Recipe(),
        seed=1,
        rows=((3,),),
        alone=True,
        folder=tmp_path,
    )


def digits_graph(multiplier_index):
    data = Budget(dataset="digits", images=64, epochs=1).data()
    return hand_made("resnet-8", data).graph([multiplier_index])


def test_a_job_is_named_by_its_graph_but_not_by_whether_it_is_kept(job):
    first, second = digits_graph(0), digits_graph(1)
    one = replace(job, graph=first)

    assert replace(one, keep=True).key == one.key
    assert replace(one, graph=digits_graph(0)).key == one.key
    assert replace(one, graph=second).key != one.key
    assert one.key.startswith("resnet-8-alone-")


def test_a_job_of_a_family_has_the_graph_of_its_genes(job):
    budget = job.budget
    space = quality_jobs.space_of("cnn", budget.data())
    genes = space.extremes("smallest")[0]
    rows = (tuple(genes.tolist()),)

    assert replace(job, family="cnn", rows=rows).alone_graph() == space.graph(genes)
    assert replace(job, graph=digits_graph(1)).alone_graph() == digits_graph(1)


def test_a_kept_network_has_the_accuracy_of_its_job_and_is_trained_again_if_lost(
    job, monkeypatch, threads
):
    job = replace(job, graph=digits_graph(0), keep=True)
    trainings = []
    train_alone = quality_jobs.train_alone

    def counted(*arguments, **options):
        trainings.append(arguments)
        return train_alone(*arguments, **options)

    monkeypatch.setattr(quality_jobs, "train_alone", counted)

    result = run_job(job)

    network = Subnet.load(job.network_folder)
    assert network.graph == digits_graph(0)
    assert result["accuracies"] == [accuracy(network, job.budget.data().validation)]
    assert not job.checkpoint.exists()
    assert run_job(job) == result
    assert len(trainings) == 1
    shutil.rmtree(job.network_folder)
    assert run_job(replace(job, keep=False)) == result
    assert len(trainings) == 1
    assert run_job(job)["accuracies"] == result["accuracies"]
    assert len(trainings) == 2
    assert job.network_folder.is_dir()


# ---- the whole -------------------------------------------------------------------------------


@pytest.fixture
def in_process(monkeypatch, threads):
    """Jobs run in this process; counts the trainings."""
    trainings = []
    train = quality_jobs._train

    def counted(job, *rest):
        trainings.append(job.key)
        return train(job, *rest)

    monkeypatch.setattr(quality_jobs, "_train", counted)
    monkeypatch.setattr(comparison, "run_jobs", lambda jobs, workers: list(map(run_job, jobs)))
    return trainings


def options(folder, *more):
    parser = argparse.ArgumentParser()
    benchmark._arguments(parser)
    return parser.parse_args([
        "--dataset", "digits", "--images", "64", "--epochs", "1", "--families", "cnn",
        "--hand-made", "resnet-8", "mobilenet-v2", "--reductions", "1", "--rates", "1", "2",
        "--fractions", "0.7", "--evaluations", "10", "--calibration-networks", "20",
        "--folder", str(folder), *more,
    ])  # fmt: skip


def test_the_comparison_tells_what_its_networks_really_do_and_resumes(
    tmp_path, by_formula, in_process, capsys
):
    arguments = options(tmp_path)

    figures = benchmark.run(arguments)

    (at,) = figures["families"]["cnn"]
    inherited, alone, *others = at["networks"]
    data = Budget(dataset="digits", images=64, epochs=1).data()
    assert [one["weights"] for one in (inherited, alone)] == ["inherited", "alone"]
    assert inherited["latency_ms"] == alone["latency_ms"] <= at["limit_ms"]
    assert inherited["parameters"] == alone["parameters"]
    assert inherited["learning_rate"] is None
    assert len(others) + len(at["too_slow"]) == 2
    for one in (alone, *others):
        rates = dict(map(tuple, one["validation_accuracy_by_rate"]))
        assert sorted(rates) == [0.003, 0.006]
        assert one["validation_accuracy"] == max(rates.values()) == rates[one["learning_rate"]]
        assert one["latency_ratio"] <= MOST
    kept = [Subnet.load(path) for path in tmp_path.iterdir() if path.is_dir()]
    assert len(kept) == 2 * (1 + len(others))
    for one in (alone, *others):
        same = [n for n in kept if n.graph.parameters == one["parameters"]]
        assert one["test_accuracy"] in [accuracy(n, data.test) for n in same]
        interval = list(wilson_interval(one["test_accuracy"], len(data.test)))
        assert one["test_interval_95"] == interval
    assert len(in_process) == 1 + len(kept)  # the supernet too
    assert "cnn subnet" in capsys.readouterr().out

    assert benchmark.run(arguments) == figures
    assert len(in_process) == 1 + len(kept)


def test_a_limit_that_cannot_be_kept_ends_before_anything_is_trained(
    tmp_path, by_formula, in_process
):
    with pytest.raises(InfeasibleConstraintError):
        benchmark.run(options(tmp_path, "--limits-ms", "1e-6"))

    assert in_process == []


def test_images_too_small_for_a_hand_made_network_are_refused_before_anything_is_timed(tmp_path):
    with pytest.raises(BadInputError, match="strides over a map"):
        benchmark.run(options(tmp_path, "--hand-made", "mobilenet-v2", "--reductions", "2"))

    assert list(tmp_path.iterdir()) == []


# ---- all benchmarks --------------------------------------------------------------------------


@pytest.fixture
def commands(monkeypatch):
    """What would be run."""
    found = []
    monkeypatch.setattr(benchmarks.subprocess, "run", lambda command, check: found.append(command))
    return found


def names_of(commands):
    return [command[2].removeprefix("experiments.benchmarks.") for command in commands]


def test_long_benchmarks_are_left_out_unless_asked_for(commands, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks"])
    benchmarks.main()

    assert names_of(commands) == list(benchmarks.BENCHMARKS)
    assert "hand_made" in capsys.readouterr().out


def test_long_benchmarks_write_their_figures_into_the_folder(commands, monkeypatch, tmp_path):
    folder = tmp_path / "figures"
    monkeypatch.setattr("sys.argv", ["benchmarks", "--long", str(folder)])
    benchmarks.main()

    assert names_of(commands) == list(benchmarks.LONG)
    written = [command[-2:] for command in commands]
    assert written == [["--json", str(folder / f"{name}.json")] for name in benchmarks.LONG]
    assert folder.is_dir()


def test_every_benchmark_is_run_by_one_of_the_two_lists():
    files = Path(benchmarks.__file__).parent.glob("*.py")
    runnable = {path.stem for path in files if "benchmark_main(" in path.read_text()}

    assert runnable - {"harness"} == {*benchmarks.BENCHMARKS, *benchmarks.LONG}
