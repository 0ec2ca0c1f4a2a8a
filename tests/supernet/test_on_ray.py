import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from records import BadInputError, CorruptFileError, StorageError
from supernet import RayGroup, RayTrainingError, Supernet, load_supernet, train, train_on_ray
from supernet.on_ray import driver, worker
from supernet.on_ray.group import check_room, connected
from supernet.on_ray.notes import Notes, StoppedError
from supernet.training import Sandwich, Step, TrainingError
from tests.supernet.doubles import RECIPE, TINY, easy_data
from tests.supernet.witnessed import Witnessed, seen

ROOT = Path(__file__).parents[2]
SMALL = replace(RECIPE, batch_size=16, members=Sandwich())


def small_data():
    """Four steps a pass, with batches of 16."""
    data = easy_data()
    few = replace(data.train, images=data.train.images[:64], labels=data.train.labels[:64])
    return replace(data, train=few)


# ---- without a cluster --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 0}, "workers must be a whole number >= 1, got 0"),
        ({"workers": True}, "workers must be a whole number >= 1, got True"),
        ({"failures": -1}, "failures must be a whole number >= 0, got -1"),
        ({"gpus": 0.5}, r"gpus must be 0 or 1, got 0\.5"),
        ({"cpus": -1}, "a worker takes at least 0 of CPU, got -1"),
        ({"resources": {"board": "one"}}, "a worker takes at least 0 of board, got 'one'"),
        ({"wait_s": 0}, "wait_s must be positive"),
        ({"address": "somewhere"}, "address must be host:port of the head, local .*or auto"),
        ({"address": "ray://head:10001"}, "cannot be driven through Ray's client.*ray job submit"),
    ],
)
def test_wrong_groups_are_refused(options, said):
    with pytest.raises(BadInputError, match=said):
        RayGroup(**options)


def test_how_often_room_is_looked_for():
    assert [RayGroup(wait_s=s).tries for s in (1, 60, 61, 600)] == [1, 1, 2, 10]


@pytest.mark.parametrize(
    ("group", "options", "said"),
    [
        ({"workers": 3}, {}, "2 shards cannot be spread over 3 processes"),
        ({}, {"checkpoint": "memory://runs/a"}, "memory of one process"),
        ({}, {"checkpoint": "nonsense://runs/a"}, "unknown protocol 'nonsense'"),
        ({}, {"checkpoint_every": 0}, "checkpoint_every must be >= 1"),
        ({}, {"teacher_weight": -1}, "teacher_weight must be >= 0"),
        ({"address": "127.0.0.1:9"}, {}, r"cannot reach 127\.0\.0\.1:9: .*refused.*ray start"),
    ],
)
def test_what_cannot_be_trained_is_said_in_seconds(tmp_path, group, options, said):
    pytest.importorskip("ray")
    options = {"checkpoint": tmp_path / "run.safetensors", "recipe": SMALL} | options
    began = time.monotonic()
    with pytest.raises(BadInputError, match=said):
        train_on_ray(Supernet(TINY), small_data(), RayGroup(**group), **options)
    assert time.monotonic() - began < 60
    assert list(tmp_path.iterdir()) == []


NOWHERE = RayGroup(address="127.0.0.1:9")


def test_a_complete_run_starts_nothing_and_another_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    options = {"epochs": 1, "recipe": SMALL, "checkpoint": path}
    expected = train(Supernet(TINY, seed=3), small_data(), **options)
    found = train_on_ray(Supernet(TINY), small_data(), NOWHERE, **options)
    assert found.weights_hash() == expected.weights_hash()
    assert not found.training
    with pytest.raises(BadInputError, match=r"another run \(seed: 0 there, 1 here"):
        train_on_ray(Supernet(TINY), small_data(), NOWHERE, seed=1, **options)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptFileError, match="cut off or damaged"):
        train_on_ray(Supernet(TINY), small_data(), NOWHERE, **options)


def test_without_ray_train_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(BadInputError, match=r"pip install 'hwnas\[ray-train\]'"),
        connected(RayGroup()),
    ):
        pass


def test_the_address_of_the_environment_is_that_of_the_cluster(monkeypatch):
    pytest.importorskip("ray.train")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with (
        pytest.raises(BadInputError, match=r"cannot reach 127\.0\.0\.1:9"),
        connected(RayGroup()),
    ):
        pass
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:9")
    with pytest.raises(BadInputError, match="ray job submit"), connected(RayGroup()):
        pass


def test_a_version_of_ray_train_that_cannot_do_it_is_refused(monkeypatch):
    ray_train = pytest.importorskip("ray.train")
    old = SimpleNamespace(__dataclass_fields__={"max_failures": None})
    monkeypatch.setattr(ray_train, "FailureConfig", old)
    with (
        pytest.raises(BadInputError, match=r"needs Ray Train 2, got Ray .*ray\[train\]>=2\.51"),
        connected(RayGroup()),
    ):
        pass


def test_the_room_of_all_nodes_counts(monkeypatch):
    monkeypatch.setattr("records.ray_cluster.APPEAR_S", 0.0)
    nodes = [{"CPU": 4.0, "node:10.0.0.1": 1.0}, {"CPU": 3.0, "GPU": 2.0}]
    ray = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": n} for n in nodes])
    check_room(ray, RayGroup(workers=3, cpus=2))
    check_room(ray, RayGroup(workers=2, gpus=1))
    check_room(ray, RayGroup(workers=99, cpus=0))
    with pytest.raises(BadInputError) as caught:
        check_room(ray, RayGroup(workers=4, cpus=2))
    said = "4 workers with CPU 2 each do not fit into the cluster, which has room for 3: its 2"
    assert str(caught.value).startswith(said)
    assert "node(s) have CPU 3, GPU 2; CPU 4." in str(caught.value)
    with pytest.raises(BadInputError, match=r"room for 0: its 0 node\(s\) have nothing"):
        check_room(SimpleNamespace(nodes=list), RayGroup())


def test_notes_keep_what_is_told():
    notes, step = Notes(), Step(number=1, total=2, losses=(0.5,))
    assert notes.goes_on()
    assert notes.tell([step])
    assert (notes.take(), notes.take()) == ([step], [])
    first, second = TrainingError("first"), BadInputError("second")
    notes.refuse(first)
    notes.refuse(second)
    assert notes.refusal() is first
    assert not notes.goes_on()
    other = Notes()
    other.stop()
    assert not other.goes_on()
    assert not other.tell([])


class HereRay:
    """Stands for Ray where actors are plain objects."""

    get = staticmethod(lambda value, timeout=None: value)

    @staticmethod
    def actor(instance):
        """Takes one call at a time, as actors do."""
        busy = threading.Lock()

        def alone(method):
            def call(*arguments):
                with busy:
                    return method(*arguments)

            return SimpleNamespace(remote=call)

        methods = [name for name in dir(instance) if not name.startswith("_")]
        return SimpleNamespace(**{name: alone(getattr(instance, name)) for name in methods})


def test_steps_are_told_now_and_then_and_at_the_end(monkeypatch):
    now = iter([100.0, 100.1, 100.4, 100.7, 100.8])
    monkeypatch.setattr(worker.time, "monotonic", lambda: next(now))
    notes = Notes()
    teller = worker.Teller(HereRay, HereRay.actor(notes))
    told = []
    for number in range(1, 6):
        teller(Step(number=number, total=5, losses=()))
        told.append([step.number for step in notes.take()])
    assert told == [[1], [], [], [2, 3, 4], [5]]


def test_a_worker_of_a_stopped_training_ends():
    notes = Notes()
    notes.stop()
    with pytest.raises(StoppedError):
        worker.Teller(HereRay, HereRay.actor(notes))(Step(number=1, total=5, losses=()))


@pytest.fixture
def job(tmp_path):
    (tmp_path / "marker").touch()
    return worker.Job(
        space=TINY, data_name="easy", class_names=("a", "b", "c", "d"), flip=False, epochs=1,
        recipe=SMALL, seed=5, teacher=None, teacher_weight=1.0,
        checkpoint=str(tmp_path / "run.safetensors"), checkpoint_every=100,
        marker=str(tmp_path / "marker"), device="cpu", threads=1, watch_gradients=False,
        compiled=False,
    )  # fmt: skip


def test_a_worker_by_itself_trains_what_train_trains(job):
    data = small_data()
    arrays = worker.arrays_of(Supernet(TINY, seed=3), data)
    for array in arrays.values():
        array.setflags(write=False)  # as they are in the object store
    worker.run(job, arrays, None)
    expected = train(Supernet(TINY, seed=3), data, epochs=1, recipe=SMALL, seed=5)
    assert load_supernet(job.checkpoint).weights_hash() == expected.weights_hash()


def test_a_worker_that_does_not_share_the_folder_refuses(job, tmp_path):
    (tmp_path / "marker").unlink()
    with pytest.raises(BadInputError, match=r"does not share with .*a shared folder or a URL"):
        worker.run(job, {}, None)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def first_rank(monkeypatch):
    """A worker of Ray Train, in this process."""
    ray = pytest.importorskip("ray")
    ray_train = pytest.importorskip("ray.train")
    monkeypatch.setattr(ray, "get", HereRay.get)
    context = SimpleNamespace(get_world_rank=lambda: 0)
    monkeypatch.setattr(ray_train, "get_context", lambda: context)


@pytest.mark.parametrize("error", [BadInputError("other run"), StorageError("no network")])
def test_only_what_no_other_try_mends_is_refused_for_good(first_rank, monkeypatch, job, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(worker, "run", fail)
    notes = Notes()
    config = {"notes": HereRay.actor(notes), "job": job, "arrays": {}}
    with pytest.raises(type(error)):
        worker.work(config)
    mends = isinstance(error, StorageError)
    assert notes.refusal() is (None if mends else error)
    if not mends:
        worker.work(config)  # the next try ends at once


class OneNode(HereRay):
    """Stands for a cluster of one node, which is this process."""

    exceptions = SimpleNamespace(RayError=ConnectionAbortedError)
    util = SimpleNamespace(
        scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda *_, **__: None)
    )

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 8.0}}]

    def put(self, value):
        return value

    def get_runtime_context(self):
        return SimpleNamespace(get_node_id=lambda: "here")

    def remote(self, kind):
        start = SimpleNamespace(remote=lambda: self.actor(kind()))
        return SimpleNamespace(options=lambda **_: start)

    def kill(self, actor):
        pass


@pytest.fixture
def one_node(monkeypatch, first_rank):
    """A Ray Train that runs its first worker in a thread; `tries` says what becomes of each."""
    pytest.importorskip("ray.train")
    import ray.train.torch

    class Trainer:
        def __init__(self, loop, *, train_loop_config, scaling_config, run_config):
            self.loop, self.config = loop, train_loop_config
            self.failures = run_config.failure_config.max_failures
            asked.append((scaling_config, run_config))

        def fit(self):
            for attempt in range(self.failures + 1):
                try:
                    self.loop(self.config)
                    return
                except Exception as error:
                    if attempt == self.failures:
                        raise RuntimeError(f"Training failed:\n\n{error}\n") from error

    asked, node = [], OneNode()
    monkeypatch.setattr(ray.train.torch, "TorchTrainer", Trainer)
    monkeypatch.setattr(driver, "connected", lambda group: contextlib.nullcontext(node))
    monkeypatch.setattr(driver, "FOLLOW_S", 0.01)
    monkeypatch.setattr(worker, "TELL_S", 0.0)
    yield SimpleNamespace(node=node, asked=asked)
    for thread in followed_threads():
        thread.join(60)


def followed_threads():
    return [thread for thread in threading.enumerate() if "_fit" in thread.name]


def started(folder, group=None, **options):
    return train_on_ray(
        Supernet(TINY, seed=3), small_data(), group or RayGroup(workers=2, resources={"board": 0}),
        **{"checkpoint": folder / "run.safetensors", "epochs": 1, "recipe": SMALL} | options,
    )  # fmt: skip


def test_a_training_is_started_followed_and_brought_home(one_node, tmp_path):
    steps = []
    found = started(tmp_path, on_step=steps.append)
    expected = train(Supernet(TINY, seed=3), small_data(), epochs=1, recipe=SMALL)
    assert found.weights_hash() == expected.weights_hash()
    assert [step.number for step in steps] == [1, 2, 3, 4]
    ((scaling, run),) = one_node.asked
    assert (scaling.num_workers, scaling.resources_per_worker) == (2, {"CPU": 1.0})
    assert (run.failure_config.max_failures, run.failure_config.controller_failure_limit) == (
        3,
        10,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_steps_after_a_loss_are_told_again_and_that_is_said(
    one_node, tmp_path, monkeypatch, caplog
):
    class Unlucky(worker.Teller):
        def __call__(self, step):
            super().__call__(step)
            if step.number == 3 and not lost:
                time.sleep(0.2)
                lost.append(step)
                raise ConnectionError("a worker is gone")

    lost, numbers = [], []
    monkeypatch.setattr(worker, "Teller", Unlucky)
    found = started(tmp_path, checkpoint_every=2, on_step=lambda s: numbers.append(s.number))
    assert numbers == [1, 2, 3, 3, 4]
    assert "workers were lost after step 3; going on from step 2 of 4" in caplog.text
    expected = train(Supernet(TINY, seed=3), small_data(), epochs=1, recipe=SMALL)
    assert found.weights_hash() == expected.weights_hash()


def test_what_workers_refuse_is_raised_here(one_node, tmp_path, monkeypatch):
    def fail(*_):
        raise TrainingError("too many bad steps")

    monkeypatch.setattr(worker, "run", fail)
    with pytest.raises(TrainingError, match="too many bad steps"):
        started(tmp_path)


def test_a_training_that_fails_too_often_says_how_it_goes_on(one_node, tmp_path, monkeypatch):
    said = ["a worker is gone", "No module named 'supernet'"]

    def fail(*_):
        raise ConnectionError(said[-1])

    monkeypatch.setattr(worker, "run", fail)
    group = RayGroup(workers=2, failures=1)
    with pytest.raises(RayTrainingError, match="every node needs this hwnas"):
        started(tmp_path, group)
    said.pop()
    with pytest.raises(
        RayTrainingError,
        match=r"after step 0: Training failed:; a worker is gone\. 1 failures .* continues from /",
    ):
        started(tmp_path, group)


def test_a_cluster_that_is_lost_is_said(one_node, tmp_path, monkeypatch):
    def lost(reference, timeout=None):
        raise ConnectionAbortedError("the head is gone")

    monkeypatch.setattr(worker, "run", lambda *_: None)
    monkeypatch.setattr(one_node.node, "get", lost, raising=False)
    with pytest.raises(RayTrainingError, match="the head is gone"):
        started(tmp_path)


def test_an_error_here_stops_the_workers(one_node, tmp_path):
    """Like Ctrl-C; the same call then goes on from the checkpoint."""

    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        started(tmp_path, epochs=5, recipe=replace(SMALL, members=Slow()), on_step=stop)
    assert not followed_threads()


class Slow(Sandwich):
    """A sampler that takes its time."""

    __slots__ = ()

    def members(self, draw):
        time.sleep(0.05)
        return super().members(draw)


# ---- with small clusters on this machine --------------------------------------------------------


@pytest.fixture
def short_folder(monkeypatch):
    """A folder with a short name, since sockets are made below it."""
    with tempfile.TemporaryDirectory(prefix="hw", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        before = signal.getsignal(signal.SIGTERM)
        yield folder
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def ray(short_folder):
    """Ray of two processors on this machine, with this process connected to it."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.train")
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        object_store_memory=80 * 2**20, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )  # fmt: skip
    try:
        yield ray
    finally:
        ray.shutdown()


class Run:
    """Trainings of 20 steps with a checkpoint after each fourth one."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name, seconds=0.0, on_step=None, **group):
        witnesses = self.folder / name
        witnesses.mkdir(exist_ok=True)
        recipe = replace(SMALL, members=Witnessed(str(witnesses), seconds))
        return train_on_ray(
            Supernet(TINY, seed=3), small_data(), RayGroup(**{"workers": 2, **group}),
            checkpoint=self.checkpoint(name), epochs=5, recipe=recipe,
            checkpoint_every=4, on_step=on_step,
        )  # fmt: skip

    def checkpoint(self, name):
        return self.folder / "shared" / f"{name}.safetensors"

    def kill_when(self, name, kill, step=9):
        """Kills something when some worker of a run has come to a step."""

        def watch():
            end = time.monotonic() + 300
            while time.monotonic() < end:
                found = seen(self.folder / name)
                if any(s.step >= step for s in found):
                    killed.append(kill(found))
                    return
                time.sleep(0.05)

        killed = []
        (self.folder / name).mkdir()
        threading.Thread(target=watch, daemon=True).start()
        return killed


@pytest.mark.slow
def test_two_workers_on_ray(ray, tmp_path):
    """Like one process; killed in the middle like not killed; refused what cannot be mended."""
    run, steps = Run(tmp_path), []
    whole = run("whole", on_step=steps.append)
    assert [step.number for step in steps] == list(range(1, 21))
    assert {s.rank for s in seen(tmp_path / "whole")} == {0, 1}
    assert load_supernet(run.checkpoint("whole")).weights_hash() == whole.weights_hash()
    assert sorted(p.name for p in (tmp_path / "shared").iterdir()) == [
        "whole.previous.safetensors", "whole.safetensors",
    ]  # fmt: skip

    losses = []
    one = train(Supernet(TINY, seed=3), small_data(), epochs=5, recipe=SMALL,
                on_step=lambda step: losses.append(step.losses))  # fmt: skip
    np.testing.assert_allclose([step.losses for step in steps], losses, atol=1e-4)
    for (name, value), other in zip(
        one.state_dict().items(), whole.state_dict().values(), strict=True
    ):
        if not name.endswith("key_bias"):  # has no effect: its gradient is rounding
            torch.testing.assert_close(value, other, atol=1e-4, rtol=0, msg=name)

    def kill_second(found):
        pid = next(s.pid for s in found if s.rank == 1)
        os.kill(pid, signal.SIGKILL)
        return pid

    killed = run.kill_when("killed", kill_second)
    interrupted = run("killed", seconds=0.2)
    assert killed
    assert interrupted.weights_hash() == whole.weights_hash()
    by_second = {(s.step, s.pid) for s in seen(tmp_path / "killed") if s.rank == 1}
    assert len({pid for _, pid in by_second}) == 2
    again = {step for step, pid in by_second if pid != killed[0]}
    assert again == set(range(8, 20)), "continued from the checkpoint of step 8"

    with pytest.raises(BadInputError, match="3 workers with CPU 1 each do not fit"):
        train_on_ray(Supernet(TINY), small_data(), RayGroup(workers=3), checkpoint=tmp_path / "a",
                     recipe=replace(SMALL, shards=3))  # fmt: skip


@pytest.mark.slow
def test_workers_that_are_lost_too_often_and_a_driver_that_stops(ray, tmp_path):
    """What was trained until then is kept, and goes on."""
    run = Run(tmp_path)

    def kill_all(found):
        for pid in {s.pid for s in found}:
            psutil.Process(pid).kill()
        return found

    killed = run.kill_when("lost", kill_all)
    with pytest.raises(
        RayTrainingError, match=r"ended after step .*0 failures are allowed.*called"
    ):
        run("lost", seconds=0.2, failures=0)
    assert killed

    def stop(step):
        if step.number > 10:
            raise KeyboardInterrupt

    before = len(seen(tmp_path / "lost"))
    with pytest.raises(KeyboardInterrupt):
        run("lost", seconds=0.2, on_step=stop)
    steps = []
    found = seen(tmp_path / "lost")
    assert len(found) > before
    assert max(s.step for s in found) < 19, "workers stop when the driver does"
    finished = run("lost", seconds=0.2, on_step=steps.append)
    assert steps[0].number > 8
    assert steps[-1].number == 20
    recipe = replace(SMALL, members=Witnessed(str(tmp_path / "lost")))
    expected = train(Supernet(TINY, seed=3), small_data(), epochs=5, recipe=recipe)
    for value, other in zip(finished.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(value, other, atol=1e-3, rtol=0)


def patiently(start):
    """Starts a node; on a busy machine that may take longer than Ray has patience."""
    for _ in range(5):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    raise TimeoutError("this machine is too busy to start Ray")


@pytest.mark.slow
def test_a_node_that_is_killed_costs_nothing_but_time(short_folder, tmp_path):
    """Three nodes with a processor each; two workers; the node of one of them is killed."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=small))
    try:
        nodes = [patiently(lambda: cluster.add_node(**small)) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False,
                 runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}})  # fmt: skip

        def kill_node(found):
            lost = next(n for s in found for n in nodes if n.node_id == s.node)
            cluster.remove_node(lost, allow_graceful=False)
            return lost.node_id

        run = Run(tmp_path)
        killed = run.kill_when("killed", kill_node)
        interrupted = run("killed", seconds=0.2)
        nodes_of = {node: {s.step for s in seen(tmp_path / "killed") if s.node == node}
                    for node in {s.node for s in seen(tmp_path / "killed")}}  # fmt: skip
        assert killed
        assert max(nodes_of[killed[0]]) < 19
        assert len(nodes_of) == 3, "another node took its place"
        whole = run("whole")
        assert interrupted.weights_hash() == whole.weights_hash()
    finally:
        ray.shutdown()
        cluster.shutdown()
