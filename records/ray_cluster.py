"""The connection of this process to a Ray cluster, and what the nodes there have.

Ray is imported only when it is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from records.errors import BadInputError
from records.ray_address import RayUse, same_place

APPEAR_S = 5.0
"""How long room that no node has is waited for: a node may be joining."""

CLIENT_TRIES = 3
"""How often a Ray Client server is asked for a session: one that has just started may fail."""

_ROUNDING = 1e-6

_VERSIONS = re.compile(
    r"The cluster was started with:\s+Ray: (?P<ray>\S+)\s+Python: (?P<python>\S+)\s+"
    r"This process .*? was started with:\s+Ray: (?P<own_ray>\S+)\s+Python: (?P<own_python>\S+)"
)


def imported(use: RayUse) -> Any:
    """The package, with the module of it that is needed.

    Raises:
        BadInputError: It is not installed.
    """
    try:
        ray = importlib.import_module("ray")
        importlib.import_module(use.module)
    except ImportError as error:
        raise BadInputError(
            f"{use.what} needs {use.module}, which is not installed ({error}): "
            f"pip install 'hwnas[{use.extra}]'"
        ) from error
    return ray


@contextlib.contextmanager
def connected(use: RayUse, address: str | None, *, processors: float = 0) -> Iterator[Any]:
    """Yields Ray, with this process connected to a cluster.

    A connection that the process has is kept; one that is made for this is closed afterwards.

    Args:
        use: What for.
        address: See `RayUse.check_address`. Without a connection, None and `auto` take what the
            environment's RAY_ADDRESS says, else the cluster that this machine is in.
        processors: How many processors a Ray of its own offers at least.

    Raises:
        BadInputError: Ray is not installed, or the address is none.
        HwnasError: The use's own error: there is no cluster at the address, it has another version
            of Ray or Python, or the process is connected to another one.
    """
    ray = imported(use)
    if ray.is_initialized():
        _refuse_other(use, ray, address)
        yield ray
        return
    if address is None or address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    use.check_reachable(address)
    try:
        _connect(use, ray, address, processors)
        yield ray
    finally:
        ray.shutdown()


def _connect(use: RayUse, ray: Any, address: str, processors: float) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        offered = max(math.ceil(processors), os.cpu_count() or 1)
        options |= {"include_dashboard": False, "num_cpus": offered}
    for tries in range(1, CLIENT_TRIES + 1):
        try:
            with _signals_kept():
                ray.init(address=address, **options)
            return
        except Exception as error:  # Ray raises plain ones too
            ray.shutdown()
            aborted = isinstance(error, ConnectionAbortedError)  # of Ray Client only
            if not aborted or tries == CLIENT_TRIES:
                said = other_versions(str(error)) or use.not_connected(address, error)
                raise use.error(said) from error
            time.sleep(1.0)


def _refuse_other(use: RayUse, ray: Any, address: str | None) -> None:
    """The connection that a process has must be the one that is asked for."""
    if address is None or address in ("auto", "local") or address.startswith("ray://"):
        return
    ours = ray.get_runtime_context().gcs_address
    if not same_place(address, ours):
        raise use.error(
            f"this process is connected to Ray at {ours} already, not to {address}: "
            "ray.shutdown() first, or leave the address away"
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


def other_versions(said: str) -> str:
    """What to do where Ray says that the cluster has other versions; "" where it does not."""
    found = _VERSIONS.search(said)
    if found is None:
        return ""
    return (
        f"the cluster runs Ray {found['ray']} with Python {found['python']}, this process Ray "
        f"{found['own_ray']} with Python {found['own_python']}: use the same versions of both, "
        f"here by `pip install ray=={found['ray']}` in a Python {found['python']}, or start it as "
        "a job, which runs on the cluster (`ray job submit`)"
    )


def check_needs(needs: Mapping[str, Any]) -> None:
    """Makes sure that amounts of resources are such.

    Raises:
        BadInputError: One is no number, or negative.
    """
    for name, amount in needs.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not amount >= 0:
            raise BadInputError(f"a worker takes at least 0 of {name}, got {amount!r}")


def room(ray: Any, needs: Mapping[str, float]) -> float:
    """For how many workers the nodes have room, were they free.

    Args:
        ray: The package, connected.
        needs: What each takes of one node.

    Returns:
        A whole number, or infinity for workers that take nothing.
    """
    wanted = {name: amount for name, amount in needs.items() if amount > 0}
    return sum(
        min((_times(node.get(k, 0), amount) for k, amount in wanted.items()), default=math.inf)
        for node in _nodes(ray)
    )


def awaited_room(ray: Any, needs: Mapping[str, float], workers: int = 1) -> float:
    """Waits until the nodes have room for so many workers, but not long; see `room`."""
    end = time.monotonic() + APPEAR_S
    while (found := room(ray, needs)) < workers and time.monotonic() < end:
        time.sleep(0.2)
    return found


def nodes_in_words(ray: Any) -> str:
    """How many nodes there are, and what each kind of them has."""
    nodes = _nodes(ray)
    kinds = "; ".join(sorted({in_words(node) for node in nodes})) or "nothing"
    return f"{len(nodes)} node(s) have {kinds}"


def in_words(resources: Mapping[str, float]) -> str:
    """Amounts of resources, without what Ray counts for itself."""
    own = ("node:", "memory", "object_store_memory")
    shown = (f"{k} {v:g}" for k, v in sorted(resources.items()) if v and not k.startswith(own))
    return ", ".join(shown) or "nothing"


def _nodes(ray: Any) -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _times(has: float, amount: float) -> float:
    return math.floor(has / amount + _ROUNDING)
