"""Ray on this machine alone, for benchmarks: one node, or a cluster of several."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from records import BadInputError
from records.ray_address import RayUse
from records.ray_cluster import imported

ROOT = Path(__file__).parents[2]
MEMORY_BYTES = 80 * 2**20
"""The object store of a node."""


@contextlib.contextmanager
def ray_of_its_own(cpus: int = 2) -> Iterator[Any]:
    """One node that this process is connected to.

    Raises:
        BadInputError: Ray is not installed.
    """
    ray = _imported()
    with _surroundings():
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=MEMORY_BYTES,
        )
        try:
            yield ray
        finally:
            ray.shutdown()


@contextlib.contextmanager
def cluster_of_nodes(nodes: int, **options: Any) -> Iterator[Any]:
    """A cluster of a head and more nodes of one processor each, all on this machine.

    Args:
        nodes: How many nodes, the head included.
        options: For each node but the head, see `Cluster.add_node`.

    Returns:
        Ray's `Cluster`; this process is not connected to it.

    Raises:
        BadInputError: Ray is not installed, or does not start: it gives up after half a minute,
            as on a machine that has much else to do.
    """
    _imported()
    from ray.cluster_utils import Cluster

    with _surroundings():
        head = {"num_cpus": 1, "object_store_memory": MEMORY_BYTES, "include_dashboard": False}
        cluster = Cluster()
        try:
            try:
                cluster.add_node(**head)
                for _ in range(nodes - 1):
                    add_node(cluster, **options)
                cluster.wait_for_nodes()
            except Exception as error:  # Ray raises plain ones
                raise BadInputError(f"Ray cannot start {nodes} nodes here: {error}") from error
            yield cluster
        finally:
            cluster.shutdown()


def add_node(cluster: Any, **options: Any) -> Any:
    """Adds a node of one processor to a cluster on this machine."""
    return cluster.add_node(num_cpus=1, object_store_memory=MEMORY_BYTES, **options)


def _imported() -> Any:
    ray = imported(RayUse(what="this benchmark"))
    if ray.is_initialized():
        raise BadInputError("this process is connected to a Ray already: start it in another one")
    return ray


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """What Ray's processes inherit; it also takes SIGTERM, which is given back."""
    before = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryDirectory(prefix="hw", ignore_cleanup_errors=True) as folder:
        inherited = {
            "RAY_TMPDIR": folder,  # short: sockets are made below it
            "TMPDIR": folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        with _environment(inherited, without=("RAY_ADDRESS",)):
            try:
                yield
            finally:
                if before is not None:
                    signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _environment(values: Mapping[str, str], without: tuple[str, ...]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    for name in without:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
