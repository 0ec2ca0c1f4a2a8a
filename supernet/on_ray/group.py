"""The workers that train together on a Ray cluster: how many, with what, and where."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from records import BadInputError, ray_cluster
from records.ray_address import RayUse

RAY = RayUse(
    what="training on a cluster", module="ray.train.torch", extra="ray-train", client=False
)

START_S = 60.0
"""How long Ray Train waits for room each time, until it counts one try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayGroup:
    """Workers of a Ray cluster that train one network together.

    Attributes:
        workers: How many; the recipe's `shards` must be a multiple.
        cpus: Processors of each, which is also the number of its threads.
        gpus: 1 trains on a GPU of its own per worker, by NCCL; 0 on processors, by gloo.
        resources: What else each takes of its node.
        failures: How often lost workers are replaced. It is no failure when a node says beforehand
            that it is taken away.
        wait_s: How long to wait for room after a loss, e.g. for a node that is started again.
        address: `auto` for the cluster that this machine is in, `host:6379` of its head, `local`
            for a Ray of its own on this machine, which is stopped afterwards. A process that is
            connected already keeps its connection.

    Raises:
        BadInputError: A number or address that makes no sense.
    """

    workers: int = 2
    cpus: float = 1.0
    gpus: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    failures: int = 3
    wait_s: float = 600.0
    address: str = "auto"

    def __post_init__(self) -> None:
        for name, lowest in (("workers", 1), ("failures", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < lowest:
                raise BadInputError(f"{name} must be a whole number >= {lowest}, got {value!r}")
        if self.gpus not in (0, 1):
            raise BadInputError(
                f"gpus must be 0 or 1, got {self.gpus!r}: a worker trains on one, and two cannot "
                "share one"
            )
        ray_cluster.check_needs(self.needs)
        if not self.wait_s > 0:
            raise BadInputError(f"wait_s must be positive, in seconds, got {self.wait_s!r}")
        RAY.check_address(self.address)

    @property
    def needs(self) -> dict[str, float]:
        """What one worker takes of a node, by Ray's names."""
        return {"CPU": self.cpus, "GPU": self.gpus, **self.resources}

    @property
    def tries(self) -> int:
        """How often Ray Train may look for room."""
        return max(1, math.ceil(self.wait_s / START_S))


def connected(group: RayGroup) -> contextlib.AbstractContextManager[Any]:
    """Ray, with this process connected to the cluster; see `records.ray_cluster`.

    Raises:
        BadInputError: Ray is not installed or too old, or there is no cluster at the address.
    """
    ray = ray_cluster.imported(RAY)
    if "controller_failure_limit" not in ray.train.FailureConfig.__dataclass_fields__:
        raise BadInputError(
            f"training on a cluster needs Ray Train 2, got Ray {ray.__version__}: install "
            "ray[train]>=2.51 and leave RAY_TRAIN_V2_ENABLED unset"
        )
    return ray_cluster.connected(RAY, group.address, processors=group.workers * group.cpus)


def check_room(ray: Any, group: RayGroup) -> None:
    """Makes sure that the cluster has nodes for all workers, be they in use now.

    Raises:
        BadInputError: It has not; the message names what the nodes have.
    """
    room = ray_cluster.awaited_room(ray, group.needs, group.workers)
    if room < group.workers:
        raise BadInputError(
            f"{group.workers} workers with {ray_cluster.in_words(group.needs)} each do not fit "
            f"into the cluster, which has room for {room:g}: its "
            f"{ray_cluster.nodes_in_words(ray)}. Ask for fewer or smaller ones, or start another "
            "node: ray start --address=HEAD:6379"
        )
