"""What a search on a Ray cluster survives: real nodes, killed while it runs."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from records import BadInputError, Ledger
from strategies import EvaluationError, Problem, RandomSearch, RayWorkers, search
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost
from tests.strategies.misbehaving import Misbehaving
from tests.strategies.ray_cluster import (
    NODE,
    ROOT,
    TellsNode,
    connected,
    parents,
    raylet,
    soon,
    started_cluster,
    worker_ids,
)
from tests.strategies.test_executor_processes import Shipped, fixed_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """A head and two nodes of one processor each; one of them has a board."""
    pytest.importorskip("ray")
    with started_cluster() as cluster:
        cluster.add_node(**NODE, resources={"device:stand-in": 2})
        cluster.add_node(**NODE)
        cluster.wait_for_nodes()
        yield cluster


def problem(accuracy):
    return Problem(SPACE, accuracy, [LayerCost(SPACE)], {})


def searched(accuracy, rows, executor, **options):
    options = {
        "evaluations": len(rows),
        "initial": rows,
        "strategy": RandomSearch(SPACE),
    } | options
    return search(problem(accuracy), executor=executor, **options).result.observations


def committed(path):
    with Ledger.open(path, read_only=True) as ledger:
        return [(o.genes, o.value) for o in ledger.observations("accuracy")]


def tries(folder):
    """How often each row was evaluated."""
    names = [path.name.split(".")[0] for path in folder.iterdir()]
    return {tuple(map(int, name.split("-"))): names.count(name) for name in names}


def values(accuracy, found):
    return dict(zip(found, accuracy.values(np.array(found, np.int16)).tolist(), strict=True))


# ---- nodes ---------------------------------------------------------------------------------


def test_workers_run_on_the_node_that_has_their_resource(cluster, tmp_path):
    with connected(cluster) as ray:
        executor = RayWorkers(workers=2, cpus=0.5, resources={"device:stand-in": 1})
        assert len(searched(TellsNode(SPACE, tmp_path), fixed_rows(12), executor)) == 12
        (board,) = [n["NodeID"] for n in ray.nodes() if "device:stand-in" in n["Resources"]]
    assert {path.stem for path in tmp_path.iterdir()} == {board}


def test_a_killed_node_costs_nothing_but_time(cluster, tmp_path, caplog):
    folder = tmp_path / "tries"
    folder.mkdir()
    rows = fixed_rows(60)
    accuracy = Misbehaving(SPACE, folder, {}, seconds=0.25)
    victim = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    before = []

    def on_progress(progress):
        ran_there = [
            pid for pid, parent in parents(worker_ids(folder)).items() if parent == raylet_id
        ]
        if not before and ran_there and progress.evaluations >= 6:
            before.extend(committed(tmp_path / "run.sqlite"))
            cluster.remove_node(victim, allow_graceful=False)

    raylet_id = raylet(victim)
    executor = RayWorkers(workers=4, batch_size=2, address=cluster.address, start_s=60)
    with Ledger.create(tmp_path / "run.sqlite", {}) as ledger:
        found = searched(accuracy, rows, executor, ledger=ledger, on_progress=on_progress)

    after = committed(tmp_path / "run.sqlite")
    assert before, "a worker ran on the node that was killed"
    assert after[: len(before)] == before
    assert [(o.genes, o.value) for o in found] == after
    assert len({genes for genes, _ in after}) == len(after) == 60
    assert {o.status for o in found} == {"ok"}
    assert dict(after) == pytest.approx(values(accuracy, [genes for genes, _ in after]))
    repeated = {genes for genes, count in tries(folder).items() if count > 1}
    assert not repeated & {genes for genes, _ in before}, "what was committed is not paid twice"
    assert len(repeated) <= 2, "only what the killed node had in hand is done again"
    assert "its actor was lost" in caplog.text


# ---- actors --------------------------------------------------------------------------------


def test_an_actor_that_cannot_be_reached_is_replaced(cluster, tmp_path, caplog):
    """The driver's connections to an actor are cut; the actor itself lives on."""
    folder = tmp_path / "tries"
    folder.mkdir()
    accuracy = Misbehaving(SPACE, folder, {}, seconds=0.4)
    cut = []

    def cut_one(progress):
        if not cut:
            newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            cut.append(int(newest.suffix[1:]))
            assert cut_connections(cut[0]) > 0

    with connected(cluster):
        found = searched(accuracy, fixed_rows(16), RayWorkers(workers=2), on_progress=cut_one)
    assert cut
    assert "its actor was lost: ActorUnavailableError" in caplog.text
    assert {o.status for o in found} == {"ok"}
    assert len({o.genes for o in found}) == 16


def cut_connections(pid):
    """Shuts down this process's connections to the ports of another; how many there were."""
    ports = {c.laddr.port for c in psutil.Process(pid).net_connections("tcp") if not c.raddr}
    count = 0
    for connection in psutil.Process().net_connections("tcp"):
        if connection.raddr and connection.raddr.port in ports:
            with socket.socket(fileno=os.dup(connection.fd)) as other:
                other.shutdown(socket.SHUT_RDWR)
            count += 1
    return count


# ---- the driver ----------------------------------------------------------------------------

DRIVER = """
import sys
from pathlib import Path
from records import Ledger
from strategies import Problem, RandomSearch, RayWorkers, search
from tests.strategies.doubles import SPACE, LayerCost
from tests.strategies.misbehaving import Misbehaving

folder, address = Path(sys.argv[1]), sys.argv[2]
accuracy = Misbehaving(SPACE, folder / "tries", {}, seconds=0.3)
p = Problem(SPACE, accuracy, [LayerCost(SPACE)], {})
with Ledger.create(folder / "run.sqlite", {}) as ledger:
    search(p, evaluations=500, strategy=RandomSearch(SPACE), ledger=ledger,
           executor=RayWorkers(workers=2, address=address))
"""


def test_a_killed_driver_loses_nothing_and_its_actors_end(cluster, tmp_path):
    folder = tmp_path / "tries"
    folder.mkdir()
    path = tmp_path / "run.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), cluster.address],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        began = soon(lambda: (path.exists() and len(committed(path)) >= 8) or process.poll(), 120)
        assert began
        assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    before = committed(path)
    actors = worker_ids(folder)
    assert len(actors) == 2
    assert soon(lambda: not any(map(psutil.pid_exists, actors))), "they end with their driver"

    accuracy = Misbehaving(SPACE, folder, {})
    total = len(before) + 12
    with Ledger.open(path) as ledger:
        result = search(
            problem(accuracy), evaluations=total, strategy=RandomSearch(SPACE), ledger=ledger,
            executor=RayWorkers(workers=2, address=cluster.address),
        ).result  # fmt: skip

    after = committed(path)
    assert after[: len(before)] == before
    assert result.reused == len(before)
    assert len({genes for genes, _ in after}) == len(after) == total
    assert all(tries(folder)[genes] == 1 for genes, _ in before), "not measured again"
    assert dict(after) == pytest.approx(values(accuracy, [genes for genes, _ in after]))


# ---- what does not fit ---------------------------------------------------------------------


def test_another_version_of_ray_is_said_with_what_to_do(cluster, monkeypatch):
    import ray

    monkeypatch.setattr("ray._private.utils.compute_version_info", lambda: ("2.9.1", "3.11.99"))
    began = time.monotonic()
    with pytest.raises(BadInputError) as caught:
        RayWorkers(address=cluster.address).check()
    assert time.monotonic() - began < 30
    message = str(caught.value)
    assert f"the cluster runs Ray {ray.__version__} with Python" in message
    assert "this process Ray 2.9.1 with Python 3.11.99" in message
    assert f"pip install ray=={ray.__version__}" in message
    assert not ray.is_initialized()


def test_resources_that_no_node_has_are_said_in_seconds(cluster):
    began = time.monotonic()
    with pytest.raises(BadInputError, match=r"needs CPU 1, device:rpi4 1.*device:stand-in 2"):
        RayWorkers(address=cluster.address, resources={"device:rpi4": 1}).check()
    assert time.monotonic() - began < 30


def test_a_head_is_told_from_its_client_server(cluster):
    with pytest.raises(BadInputError, match=rf"there is a head at that port.*{cluster.address}"):
        RayWorkers(address=f"ray://{cluster.address}").check()


def test_a_node_without_hwnas_is_named(cluster, tmp_path):
    (tmp_path / "strategies").mkdir()
    missing = "raise ModuleNotFoundError(\"No module named 'strategies'\", name='strategies')"
    (tmp_path / "strategies" / "__init__.py").write_text(missing)
    with (
        connected(cluster, runtime_env={"working_dir": str(tmp_path)}),  # comes before all else
        pytest.raises(EvaluationError, match="no worker can be started") as caught,
    ):
        searched(FormulaAccuracy(SPACE), fixed_rows(4), RayWorkers(workers=1))
    assert "its node has no hwnas (strategies): install on every node" in str(caught.value)


def test_a_node_with_other_sources_is_named_and_used(cluster, tmp_path, caplog):
    for room in ("records", "search_spaces", "strategies"):
        shutil.copytree(ROOT / room, tmp_path / room)
    (tmp_path / "strategies" / "changed.py").write_text("")
    with connected(cluster, runtime_env={"working_dir": str(tmp_path)}):
        found = searched(FormulaAccuracy(SPACE), fixed_rows(4), RayWorkers(workers=1))
    assert {o.status for o in found} == {"ok"}
    assert "runs another hwnas (version" in caplog.text


# ---- what is sent --------------------------------------------------------------------------


def test_a_supernet_is_measured_as_in_this_process(cluster):
    torch = pytest.importorskip("torch")
    from supernet import ImageData, Split, Supernet

    rng = np.random.default_rng(0)
    train, validation, test = (
        Split(
            torch.from_numpy(rng.normal(size=(n, 1, 8, 8)).astype(np.float32)),
            torch.from_numpy(rng.integers(0, 10, n)),
        )
        for n in (64, 500, 16)
    )
    data = ImageData(
        name="noise", train=train, validation=validation, test=test,
        class_names=tuple("0123456789"),
    )  # fmt: skip
    evaluator = Supernet(SPACE, seed=0).evaluator(data)
    rows = fixed_rows(6)
    expected = [m.value for m in evaluator.evaluate(rows)]
    with connected(cluster):
        found = searched(evaluator, rows, RayWorkers(workers=2))
    values = {o.genes: o.value for o in found}
    assert [values[tuple(row)] for row in rows.tolist()] == expected


class Large(Shipped):
    """Needs ten MiB."""

    def shipment(self):
        recipe, arrays = super().shipment()
        return recipe, arrays | {"more": np.ones(10 * 2**17)}


def test_arrays_lie_in_the_object_store_once_on_a_node(cluster):
    from ray._private.internal_api import memory_summary

    stored = []

    def on_progress(progress):
        summary = memory_summary(cluster.address, stats_only=True)
        stored.append(int(re.search(r"Plasma memory usage (\d+) MiB", summary)[1]))

    executor = RayWorkers(workers=2, cpus=0.1, resources={"device:stand-in": 1})
    with connected(cluster):
        found = searched(
            Large(np.ones(len(SPACE.choices)) / 64), fixed_rows(20), executor,
            on_progress=on_progress,
        )  # fmt: skip
    assert len(found) == 20
    assert 10 <= max(stored) <= 21, "once where the search is, once where its two workers are"
