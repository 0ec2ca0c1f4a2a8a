"""What `RayRunner` needs of a Ray cluster: a connection, and a node that has the board.

Ray is imported only when something is measured.
"""

from __future__ import annotations

import contextlib
from typing import Any

from deployment.runners import command, ray_worker
from deployment.runners.kit_runner import DeviceError
from records import ray_cluster
from records.ray_address import RayUse

RAY = RayUse(what="a device by Ray", local=False, error=DeviceError)


def connected(address: str | None) -> contextlib.AbstractContextManager[Any]:
    """Ray, connected, such that a node needs nothing of hwnas; see `records.ray_cluster`.

    Raises:
        BadInputError: Ray is not installed.
        DeviceError: The head cannot be reached, or the process is connected to another one.
    """
    ray = ray_cluster.imported(RAY)
    for module in (ray_worker, command):
        ray.cloudpickle.register_pickle_by_value(module)
    return ray_cluster.connected(RAY, address)


def lacking(ray: Any, resource: str) -> str:
    """Waits until a node has a whole one of a resource, but not long.

    Returns:
        "" where a node has it, else what the cluster has instead.
    """
    if ray_cluster.awaited_room(ray, {resource: 1}):
        return ""
    return (
        f"no node of the Ray cluster has a whole {resource}; its "
        f"{ray_cluster.nodes_in_words(ray)}. On the machine with the board: ray start "
        f"--address=HEAD:6379 --resources='{{\"{resource}\": 1}}'"
    )
