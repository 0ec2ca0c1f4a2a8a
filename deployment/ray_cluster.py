"""A Ray cluster as `RayRunner` needs it: a connection that is closed again, nodes by resource.

Ray is imported here and nowhere else on this side, and only when something is measured.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from deployment import command, ray_worker
from deployment.kit_runner import DeviceError
from records import BadInputError

REACH_S = 5.0
"""How long the head may take to accept a connection."""

APPEAR_S = 5.0
"""How long a resource that no node has is waited for: a node may be joining."""

CLIENT_TRIES = 3
"""How often a Ray Client server is asked for a session: one that has just started may fail."""

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[^/:\s]+|\[[^]\s]+\]):(?P<port>\d{1,5})")


def imported_ray() -> Any:
    """The package.

    Raises:
        BadInputError: It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise BadInputError(
            f"a device by Ray needs Ray, which is not installed ({error}): pip install hwnas[ray]"
        ) from error
    for module in (ray_worker, command):  # so that a node needs nothing of hwnas
        ray.cloudpickle.register_pickle_by_value(module)
    return ray


def check_address(address: object) -> None:
    """Refuses what is no address of a cluster.

    Raises:
        BadInputError: It is not `auto`, `host:port` or `ray://host:port`.
    """
    if address != "auto" and not (isinstance(address, str) and _ADDRESS.fullmatch(address)):
        raise BadInputError(
            "address must be host:port of the head, ray://host:port of its Ray Client server, "
            f"or auto for a cluster that this machine is in, got {address!r}"
        )


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Yields Ray, connected; a connection that was made for it is closed afterwards.

    A process that is connected already keeps its connection.

    Args:
        address: See `check_address`; None for the one that the process has, else what the
            environment's RAY_ADDRESS says, else the cluster that this machine is in.

    Raises:
        BadInputError: Ray is not installed.
        DeviceError: The head cannot be reached, or the process is connected to another one.
    """
    ray = imported_ray()
    if ray.is_initialized():
        _refuse_other(ray, address)
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    _check_reachable(address)
    with _signals_kept():
        try:
            _connect(ray, address)
            yield ray
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    for attempt in range(CLIENT_TRIES):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            return
        except (ray.exceptions.RayError, OSError, RuntimeError, ValueError, ImportError) as error:
            ray.shutdown()
            aborted = isinstance(error, ConnectionAbortedError)  # of Ray Client only
            if not aborted or attempt == CLIENT_TRIES - 1:
                raise DeviceError(_not_connected(address, error)) from error
            time.sleep(1.0)


def nodes_with(ray: Any, resource: str) -> int:
    """How many nodes have a whole one of a resource."""
    return sum(node["Alive"] and node["Resources"].get(resource, 0) >= 1 for node in ray.nodes())


def wait_for_resource(ray: Any, resource: str) -> str:
    """Waits until a node has a resource, but not long.

    Returns:
        "" where a node has it, else what the cluster has instead.
    """
    end = time.monotonic() + APPEAR_S
    while not nodes_with(ray, resource):
        if time.monotonic() > end:
            return _what_there_is(ray, resource)
        time.sleep(0.2)
    return ""


def _what_there_is(ray: Any, resource: str) -> str:
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = sorted(
        f"{name} ({most:g})"
        for name in {name for node in alive for name in node}
        if not name.startswith("node:") and (most := max(node.get(name, 0) for node in alive))
    )
    return (
        f"no node of the Ray cluster has a whole {resource}; its {len(alive)} node(s) have "
        f"{', '.join(found) or 'nothing'}. On the machine with the board: ray start "
        f"--address=HEAD:6379 --resources='{{\"{resource}\": 1}}'"
    )


def _check_reachable(address: str) -> None:
    """Finds out in seconds what Ray would try for minutes."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return  # Ray finds it, or says that it cannot
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), REACH_S).close()
    except (OSError, OverflowError) as error:
        raise DeviceError(_not_connected(address, error)) from error


def _not_connected(address: str, error: Exception) -> str:
    where = "the cluster of this machine" if address == "auto" else address
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"  # not the traceback
    return (
        f"Ray cannot reach {where}: {reason}; is `ray start --head` "
        "running there? host:6379 is for machines that are in the cluster, ray://host:10001 for "
        "others"
    )


def _refuse_other(ray: Any, address: str | None) -> None:
    """The connection that a process has must be the one that is asked for."""
    if address is None or address == "auto" or address.startswith("ray://"):
        return
    ours = ray.get_runtime_context().gcs_address
    if _places(address).isdisjoint(_places(ours)):
        raise DeviceError(
            f"this process is connected to Ray at {ours} already, not to {address}: "
            "ray.shutdown() first, or leave the address away"
        )


def _places(address: str) -> set[tuple[Any, ...]]:
    """All (host, port) that an address may mean."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):
        return {(found[4][0], port) for found in socket.getaddrinfo(host.strip("[]"), None)}
    return {(host, port)}


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray handles SIGTERM while it is connected; afterwards it is handled as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
