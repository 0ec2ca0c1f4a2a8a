"""A Ray cluster of several nodes on this machine, and evaluators that tell where they ran."""

import contextlib
import os
import signal
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tests.strategies.doubles import FormulaAccuracy

ROOT = Path(__file__).parents[2]

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@contextlib.contextmanager
def started_cluster():
    """A cluster with a head; nodes run the interpreter and the modules of the tests."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="hw") as folder:
        patch.setenv("RAY_TMPDIR", folder)  # short: sockets are made below it
        patch.setenv("TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # nobody else reaches it
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))  # nodes and their workers inherit it
        patch.delenv("RAY_ADDRESS", raising=False)
        before = signal.getsignal(signal.SIGTERM)
        head = {**NODE, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            cluster.shutdown()
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def connected(cluster, **options):
    """This process as a driver."""
    import ray

    before = signal.getsignal(signal.SIGTERM)
    ray.init(address=cluster.address, log_to_driver=False, **options)
    try:
        yield ray
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)


def raylet(node):
    """The process id of a node's raylet, which is the parent of its workers."""
    return node.all_processes["raylet"][0].process.pid


def worker_ids(folder):
    """The processes that evaluated something, by what `Misbehaving` leaves in its folder."""
    return {int(path.suffix[1:]) for path in folder.iterdir()}


def parents(pids):
    """The parents of those that live."""
    found = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found[pid] = psutil.Process(pid).ppid()
    return found


def soon(is_so, within_s=60.0):
    """Waits until something is so; whether it came to be."""
    end = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


class TellsNode(FormulaAccuracy):
    """Leaves in a folder on which node it ran."""

    def __init__(self, space, folder):
        super().__init__(space)
        self.folder = folder

    def evaluate(self, genes):
        import ray

        node = ray.get_runtime_context().get_node_id()
        (self.folder / f"{node}.{os.getpid()}").touch()
        return super().evaluate(genes)
