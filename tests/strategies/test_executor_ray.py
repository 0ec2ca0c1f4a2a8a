import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from records import BadInputError
from strategies import Problem, RandomSearch, RayWorkers, search
from strategies.executor_ray import EvaluatorActor, first_line
from strategies.executor_ray_cluster import check_nodes_can, warn_of_little_room
from strategies.executor_ray_code import own_code
from strategies.executor_shipment import AsItIs
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost
from tests.strategies.misbehaving import Misbehaving
from tests.strategies.test_executor_processes import Shipped, fixed_rows

ROOT = Path(__file__).parents[2]


def searched(accuracy, rows, executor, **options):
    p = Problem(SPACE, accuracy, [LayerCost(SPACE)], {})
    options = {"evaluations": len(rows), "initial": rows} | options
    result = search(p, executor=executor, strategy=RandomSearch(SPACE), **options).result
    return {o.genes: o for o in result.observations}


# ---- without a cluster ---------------------------------------------------------------------


def test_what_an_actor_does_when_it_is_called(monkeypatch):
    monkeypatch.setattr("os.environ", dict(os.environ))
    rows = fixed_rows(3)
    accuracy = FormulaAccuracy(SPACE)
    actor = EvaluatorActor(threads=1)
    assert actor.code() == own_code()
    assert actor.evaluate(rows) == "the evaluator was never made"
    assert actor.make(lambda arrays, threads: 1 / 0, {}).endswith(
        "ZeroDivisionError: division by zero"
    )
    assert actor.make(AsItIs(accuracy), {}) == ""
    assert [m.value for m in actor.evaluate(rows)] == accuracy.values(rows).tolist()
    accuracy.evaluate = lambda genes: []
    assert "given 3 architectures and returned 0" in actor.evaluate(rows)


def test_of_an_error_the_first_line_is_told():
    assert first_line(ValueError("\n  the actor died\nadvice")) == "ValueError: the actor died"
    assert first_line(KeyError()) == "KeyError"


class Nodes:
    """Stands for Ray where only the nodes are asked for."""

    def __init__(self, *nodes, alive=True):
        self._nodes = [{"Alive": alive, "Resources": node} for node in nodes]

    def nodes(self):
        return self._nodes


def test_one_node_must_have_all_that_a_worker_needs(monkeypatch):
    monkeypatch.setattr("records.ray_cluster.APPEAR_S", 0.0)
    ray = Nodes({"CPU": 4.0, "node:10.0.0.1": 1.0, "memory": 9e9}, {"GPU": 1.0, "CPU": 1.0})
    check_nodes_can(ray, {"CPU": 1, "GPU": 0.5})
    check_nodes_can(ray, {"CPU": 4, "GPU": 0, "device:rpi4": 0})
    with pytest.raises(BadInputError) as caught:
        check_nodes_can(ray, {"CPU": 2, "GPU": 1, "device:rpi4": 1})
    message = str(caught.value)
    assert "needs CPU 2, GPU 1, device:rpi4 1" in message
    assert "no node of the cluster has that: its 2 node(s) have CPU 1, GPU 1; CPU 4." in message
    with pytest.raises(BadInputError, match=r"0 node\(s\)"):
        check_nodes_can(Nodes({"CPU": 4.0}, alive=False), {"CPU": 1})


def test_nodes_without_room_for_all_workers_are_told_of(caplog):
    ray = Nodes({"CPU": 4.0, "GPU": 1.0}, {"CPU": 3.5})
    for needs, workers in (({"CPU": 1}, 7), ({"CPU": 0.1}, 75), ({"CPU": 1, "GPU": 0.5}, 2)):
        warn_of_little_room(ray, needs, workers)
    warn_of_little_room(ray, {"CPU": 0}, 1000)
    assert not caplog.records, "there is room"
    warn_of_little_room(ray, {"CPU": 1, "GPU": 0}, 8)
    assert "the cluster has room for 7 of 8 workers" in caplog.text
    warn_of_little_room(ray, {"CPU": 1, "GPU": 0.5}, 3)
    assert "has room for 2 of 3 workers" in caplog.text


def test_what_open_would_refuse_can_be_asked_before(monkeypatch):
    with pytest.raises(BadInputError, match=r"cannot reach 127\.0\.0\.1:9"):
        RayWorkers(address="127.0.0.1:9").check()
    RayWorkers(address="local").check()
    with pytest.raises(BadInputError, match=r"a Ray of its own has no device:rpi4: start nodes"):
        RayWorkers(address="local", resources={"device:rpi4": 1}).check()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInputError, match=r"pip install 'hwnas\[ray\]'"):
        RayWorkers(address="local").check()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_a_cluster_that_cannot_be_reached_is_said_in_seconds(address):
    pytest.importorskip("ray")
    began = time.monotonic()
    with pytest.raises(
        BadInputError, match=f"cannot reach {address}: .*refused.*ray start --head"
    ):
        RayWorkers(address=address).open(FormulaAccuracy(SPACE))
    assert time.monotonic() - began < 30


def test_wrong_settings_are_refused(monkeypatch):
    with pytest.raises(BadInputError, match="takes at least 0 of CPU, got -1"):
        RayWorkers(cpus=-1)
    with pytest.raises(BadInputError, match="takes at least 0 of device:rpi4, got 'one'"):
        RayWorkers(resources={"device:rpi4": "one"})
    with pytest.raises(BadInputError, match="workers must be a whole number"):
        RayWorkers(workers=0)
    with pytest.raises(BadInputError, match=r"address must be host:port.*local.*got 'somewhere'"):
        RayWorkers(address="somewhere")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInputError, match=r"pip install 'hwnas\[ray\]'"):
        RayWorkers().open(FormulaAccuracy(SPACE))


# ---- with a small one on this machine ------------------------------------------------------


@pytest.mark.slow
def test_a_ray_of_its_own_is_stopped_afterwards(monkeypatch):
    ray = pytest.importorskip("ray")
    before = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryDirectory(prefix="hw") as folder:  # short: sockets are made below it
        for name, value in (("TMPDIR", folder), ("PYTHONPATH", str(ROOT))):
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        rows = fixed_rows(4)
        found = searched(FormulaAccuracy(SPACE), rows, RayWorkers(workers=1, address="local"))
        assert {o.status for o in found.values()} == {"ok"}
        assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.fixture(scope="module")
def ray():
    """Ray of two processors on this machine, with this process connected to it."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="hw") as folder:
        patch.setenv("TMPDIR", folder)  # short: sockets are made below it
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        before = signal.getsignal(signal.SIGTERM)
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            object_store_memory=80 * 2**20, resources={"device:stand-in": 1},
            runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
        )  # fmt: skip
        try:
            yield ray
        finally:
            ray.shutdown()
            signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_ray_gives_what_this_process_gives(ray):
    rows = fixed_rows(20)
    weights = np.random.default_rng(0).integers(0, 1024, len(SPACE.choices)) / 1024
    found = searched(Shipped(weights), rows, RayWorkers(workers=2, batch_size=3))
    assert {key: o.reason for key, o in found.items() if o.status == "failed"} == {}
    expected = (rows @ weights) % 1
    np.testing.assert_array_equal([found[tuple(row)].value for row in rows.tolist()], expected)
    assert ray.is_initialized(), "a connection that was there before stays"


@pytest.mark.slow
def test_actors_that_die_or_hang_are_replaced(ray, tmp_path):
    rows = fixed_rows(12)
    keys = [tuple(row) for row in rows.tolist()]
    faults = {
        keys[1]: ("raises", 9), keys[3]: ("dies", 9), keys[5]: ("hangs", 1), keys[7]: ("dies", 1)
    }  # fmt: skip
    accuracy = Misbehaving(SPACE, tmp_path, faults)
    executor = RayWorkers(workers=2, batch_size=2, timeout_s=3.0, retries=1)
    found = searched(accuracy, rows, executor)
    failed = {key: o.reason for key, o in found.items() if o.status == "failed"}
    assert set(failed) == {keys[1], keys[3]}
    assert failed[keys[1]] == "MemoryError: no room (2 tries)"
    assert "its actor was lost: ActorDiedError" in failed[keys[3]]
    assert set(found) == set(keys)


@pytest.mark.slow
def test_an_actor_killed_from_outside_costs_nothing_but_time(ray, tmp_path):
    rows = fixed_rows(12)
    accuracy = Misbehaving(SPACE, tmp_path, {}, seconds=0.3)
    killed = []

    def kill_one(progress):
        if not killed:
            newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            killed.append(int(newest.suffix[1:]))
            os.kill(killed[0], signal.SIGKILL)

    found = searched(accuracy, rows, RayWorkers(workers=2), on_progress=kill_one)
    assert killed
    assert len(found) == 12
    assert all(o.status == "ok" for o in found.values())


@pytest.mark.slow
def test_workers_run_where_their_resource_is(ray):
    rows = fixed_rows(4)
    began = time.monotonic()
    with pytest.raises(BadInputError, match=r"needs CPU 1, device:rpi4 1.*device:stand-in 1"):
        searched(FormulaAccuracy(SPACE), rows, RayWorkers(resources={"device:rpi4": 1}))
    assert time.monotonic() - began < 30
    executor = RayWorkers(workers=1, resources={"device:stand-in": 1})
    assert len(searched(FormulaAccuracy(SPACE), rows, executor)) == 4
