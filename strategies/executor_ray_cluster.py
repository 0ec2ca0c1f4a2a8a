"""The connection of a search to a Ray cluster, and whether its nodes have what workers need."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from records import BadInputError

REACH_S = 5.0
"""How long the head may take to accept a connection."""

APPEAR_S = 5.0
"""How long resources that no node has are waited for: a node may be joining."""

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[^/:\s]+|\[[^]\s]+\]):(?P<port>\d{1,5})")


def connect(address: str, *, processors: float) -> tuple[Any, Callable[[], None]]:
    """Connects this process to a cluster.

    Args:
        address: See `RayWorkers`.
        processors: How many processors a Ray of its own offers at least.

    Returns:
        The package, and what ends the connection; where the process was connected before, that
        does nothing.

    Raises:
        BadInputError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise BadInputError(
            f"this executor needs Ray, which is not installed ({error}): pip install hwnas[ray]"
        ) from error
    if ray.is_initialized():
        return ray, lambda: None
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    _check_reachable(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        offered = max(math.ceil(processors), os.cpu_count() or 1)
        options |= {"include_dashboard": False, "num_cpus": offered}
    try:
        with _signals_kept():
            ray.init(address=address, **options)
    except Exception as error:  # Ray raises plain ones too
        ray.shutdown()
        raise BadInputError(_not_connected(address, str(error))) from error
    return ray, ray.shutdown


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


def _words(resources: Mapping[str, float]) -> str:
    """What a node has, without what Ray counts for itself."""
    own = ("node:", "memory", "object_store_memory")
    shown = (f"{k} {v:g}" for k, v in sorted(resources.items()) if not k.startswith(own))
    return ", ".join(shown) or "nothing"


def _check_reachable(address: str) -> None:
    """Finds out in seconds what Ray would try for minutes."""
    if address in ("auto", "local"):
        return
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise BadInputError(
            "address must be auto, local, host:port of the head or ray://host:port of its Ray "
            f"Client server, got {address!r}"
        )
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), REACH_S).close()
    except (OSError, OverflowError) as error:
        raise BadInputError(_not_connected(address, str(error))) from error


def _not_connected(address: str, said: str) -> str:
    where = "a cluster that this machine is in" if address == "auto" else address
    reason = next((line.strip() for line in said.splitlines() if line.strip()), "no reason given")
    if address == "local":
        return f"Ray cannot be started on this machine: {reason}"
    return (
        f"Ray cannot reach {where}: {reason}; is `ray start --head` running there? host:6379 is "
        "for machines of the cluster, ray://host:10001 for others, local for a Ray of its own"
    )


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
