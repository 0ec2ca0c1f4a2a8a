"""The workers that train together on a Ray cluster: how many, with what, and where."""

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from records import BadInputError

REACH_S = 5.0
"""How long the head may take to accept a connection."""

APPEAR_S = 5.0
"""How long room for the workers is waited for at the start: a node may be joining."""

START_S = 60.0
"""How long Ray Train waits for room each time, until it counts one try."""

_ADDRESS = re.compile(r"(?P<host>[^/:\s]+|\[[^]\s]+\]):(?P<port>\d{1,5})")


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
        for name, amount in self.needs.items():
            if isinstance(amount, bool) or not isinstance(amount, int | float) or amount < 0:
                raise BadInputError(f"a worker takes at least 0 of {name}, got {amount!r}")
        if not self.wait_s > 0:
            raise BadInputError(f"wait_s must be positive, in seconds, got {self.wait_s!r}")
        if self.address not in ("auto", "local") and not _ADDRESS.fullmatch(self.address):
            raise BadInputError(_wrong_address(self.address))

    @property
    def needs(self) -> dict[str, float]:
        """What one worker takes of a node, by Ray's names."""
        return {"CPU": self.cpus, "GPU": self.gpus, **self.resources}

    @property
    def tries(self) -> int:
        """How often Ray Train may look for room."""
        return max(1, math.ceil(self.wait_s / START_S))


@contextlib.contextmanager
def connected(group: RayGroup) -> Iterator[Any]:
    """Ray, with this process connected to the cluster; leaves a connection that was there.

    Raises:
        BadInputError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
        import ray.train.torch
        from ray.train import FailureConfig
    except ImportError as error:
        raise BadInputError(
            f"training on a cluster needs Ray Train, which is not installed ({error}): "
            "pip install hwnas[ray-train]"
        ) from error
    if "controller_failure_limit" not in FailureConfig.__dataclass_fields__:
        raise BadInputError(
            f"training on a cluster needs Ray Train 2, got Ray {ray.__version__}: install "
            "ray[train]>=2.51 and leave RAY_TRAIN_V2_ENABLED unset"
        )
    if ray.is_initialized():
        yield ray
        return
    address = group.address
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    _check_reachable(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        offered = max(math.ceil(group.workers * group.cpus), os.cpu_count() or 1)
        options |= {"include_dashboard": False, "num_cpus": offered}
    try:
        with _signals_kept():
            ray.init(address=address, **options)
    except Exception as error:  # Ray raises plain ones too
        ray.shutdown()
        raise BadInputError(_not_connected(address, str(error))) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def check_room(ray: Any, group: RayGroup) -> None:
    """Makes sure that the cluster has nodes for all workers, be they in use now.

    Raises:
        BadInputError: It has not; the message names what the nodes have.
    """
    end = time.monotonic() + APPEAR_S
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = sum(_fits(node, group.needs) for node in nodes)
        if room >= group.workers:
            return
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    wanted = ", ".join(f"{name} {amount:g}" for name, amount in group.needs.items() if amount)
    have = "; ".join(sorted(_words(node) for node in nodes)) or "nothing"
    raise BadInputError(
        f"{group.workers} workers with {wanted or 'nothing'} each do not fit into the cluster, "
        f"which has room for {room:g}: its {len(nodes)} node(s) have {have}. Ask for fewer or "
        "smaller ones, or start another node: ray start --address=HEAD:6379"
    )


def _fits(node: Mapping[str, float], needs: Mapping[str, float]) -> float:
    """How many workers a node has room for; infinity for workers that take nothing."""
    rooms = [node.get(name, 0.0) // amount for name, amount in needs.items() if amount > 0]
    return min(rooms, default=math.inf)


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
        raise BadInputError(_wrong_address(address))
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), REACH_S).close()
    except (OSError, OverflowError) as error:
        raise BadInputError(_not_connected(address, str(error))) from error


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


def _wrong_address(address: str) -> str:
    if address.startswith("ray://"):
        return (
            f"training cannot be driven through Ray's client ({address}): start it on a machine "
            "of the cluster, e.g. by `ray job submit`"
        )
    return f"address must be auto, local or host:port of the head, got {address!r}"


def _not_connected(address: str, said: str) -> str:
    where = "a cluster that this machine is in" if address == "auto" else address
    reason = next((line.strip() for line in said.splitlines() if line.strip()), "no reason given")
    if address == "local":
        return f"Ray cannot be started on this machine: {reason}"
    return (
        f"Ray cannot reach {where}: {reason}; is `ray start --head` running there? host:6379 is "
        "for machines of the cluster, local for a Ray of its own"
    )
