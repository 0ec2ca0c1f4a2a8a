"""The connection of a search to a Ray cluster, and whether its nodes have what workers need."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from records import BadInputError
from strategies.executor_ray_address import check_reachable, not_connected

APPEAR_S = 5.0
"""How long resources that no node has are waited for: a node may be joining."""

_ROUNDING = 1e-6

_VERSIONS = re.compile(
    r"The cluster was started with:\s+Ray: (?P<ray>\S+)\s+Python: (?P<python>\S+)\s+"
    r"This process .*? was started with:\s+Ray: (?P<own_ray>\S+)\s+Python: (?P<own_python>\S+)"
)

logger = logging.getLogger(__name__)


def connect(address: str, *, processors: float) -> tuple[Any, Callable[[], None]]:
    """Connects this process to a cluster.

    Args:
        address: See `RayWorkers`.
        processors: How many processors a Ray of its own offers at least.

    Returns:
        The package, and what ends the connection; where the process was connected before, that
        does nothing.

    Raises:
        BadInputError: Ray is not installed, there is no cluster at the address, or it has another
            version of Ray or Python.
    """
    ray = imported()
    if ray.is_initialized():
        return ray, lambda: None
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    check_reachable(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        offered = max(math.ceil(processors), os.cpu_count() or 1)
        options |= {"include_dashboard": False, "num_cpus": offered}
    try:
        with _signals_kept():
            ray.init(address=address, **options)
    except Exception as error:  # Ray raises plain ones too
        ray.shutdown()
        said = str(error)
        raise BadInputError(other_versions(said) or not_connected(address, said)) from error
    return ray, ray.shutdown


def imported() -> Any:
    """The package.

    Raises:
        BadInputError: It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise BadInputError(
            f"this executor needs Ray, which is not installed ({error}): pip install hwnas[ray]"
        ) from error
    return ray


def other_versions(said: str) -> str:
    """What to do where Ray says that the cluster has other versions; "" where it does not."""
    found = _VERSIONS.search(said)
    if found is None:
        return ""
    return (
        f"the cluster runs Ray {found['ray']} with Python {found['python']}, this process Ray "
        f"{found['own_ray']} with Python {found['own_python']}: use the same versions of both, "
        f"here by `pip install ray=={found['ray']}` in a Python {found['python']}, or submit the "
        "search as a job, which runs on the cluster (`ray job submit`)"
    )


def check_nodes_can(ray: Any, needs: Mapping[str, float]) -> None:
    """Makes sure that a node has all that a worker needs, be it in use now.

    Raises:
        BadInputError: None has; the message names what the nodes have.
    """
    wanted = {name: amount for name, amount in needs.items() if amount > 0}
    end = time.monotonic() + APPEAR_S
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(all(node.get(k, 0) >= amount for k, amount in wanted.items()) for node in nodes):
            return
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    words = ", ".join(f"{name} {amount:g}" for name, amount in wanted.items())
    have = "; ".join(sorted({_words(node) for node in nodes})) or "nothing"
    raise BadInputError(
        f"a worker needs {words}, and none of the cluster's {len(nodes)} node(s) has that: they "
        f"have {have}. Ask for less, or start a node with it: ray start --address=HEAD:6379 "
        "--resources='{\"NAME\": 1}'"
    )


def warn_of_little_room(ray: Any, needs: Mapping[str, float], workers: int) -> None:
    """Says where the nodes there are have no room for all workers, were they free."""
    wanted = {name: amount for name, amount in needs.items() if amount > 0}
    if not wanted:
        return
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(
        min(math.floor(node.get(name, 0) / amount + _ROUNDING) for name, amount in wanted.items())
        for node in nodes
    )
    if room < workers:
        logger.warning(
            "the cluster's %d node(s) have room for %d of %d workers; the others wait until more "
            "nodes join",
            len(nodes),
            room,
            workers,
        )


def _words(resources: Mapping[str, float]) -> str:
    """What a node has, without what Ray counts for itself."""
    own = ("node:", "memory", "object_store_memory")
    shown = (f"{k} {v:g}" for k, v in sorted(resources.items()) if not k.startswith(own))
    return ", ".join(shown) or "nothing"


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray handles SIGTERM once it is connected; it shall be handled as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
