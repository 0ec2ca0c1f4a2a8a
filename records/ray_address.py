"""Addresses of Ray clusters, and whether one answers: said in seconds, where Ray takes minutes.

Ray is not imported here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import socket
from dataclasses import dataclass
from typing import Any

from records.errors import BadInputError, HwnasError

REACH_S = 5.0
"""How long the head may take to accept a connection, and again to answer."""

_ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>[^/:\s]+|\[[^]\s]+\]):(?P<port>\d{1,5})")

_HEAD = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_CLIENT_SERVER = "/ray.rpc.RayletDriver/ClusterInfo"
"""A call that only that service knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayUse:
    """What a cluster is used for: what has to be installed, and which addresses make sense.

    Attributes:
        what: Who needs it, for messages.
        module: Of Ray, that is needed.
        extra: Of hwnas, that installs it.
        local: Whether `local`, a Ray of its own on this machine, is of use.
        client: Whether it works from outside the cluster, through a Ray Client server.
        error: Raised where no cluster answers.
    """

    what: str
    module: str = "ray"
    extra: str = "ray"
    local: bool = True
    client: bool = True
    error: type[HwnasError] = BadInputError

    def check_address(self, address: object) -> None:
        """Refuses what is no address, or one of a kind that is of no use.

        Raises:
            BadInputError: It is.
        """
        if address == "auto" or (self.local and address == "local"):
            return
        found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if found is None:
            allowed = ["host:port of the head"]
            allowed += ["ray://host:port of its Ray Client server"] * self.client
            allowed += ["local for a Ray of its own"] * self.local
            raise BadInputError(
                f"address must be {', '.join(allowed)} or auto for a cluster that this machine is "
                f"in, got {address!r}"
            )
        if found["client"] and not self.client:
            raise BadInputError(
                f"{self.what} cannot be driven through Ray's client ({address}): start it on a "
                "machine of the cluster, e.g. by `ray job submit`"
            )

    def check_reachable(self, address: str) -> None:
        """Refuses an address where no cluster answers.

        Raises:
            BadInputError: See `check_address`.
            HwnasError: The use's own error: nothing accepts connections there, or what does is
                something else than the address says.
        """
        self.check_address(address)
        found = _ADDRESS.fullmatch(address)
        if found is None:
            return  # auto or local: Ray finds out
        host, port = found["host"].strip("[]"), int(found["port"])
        try:
            socket.create_connection((host, port), REACH_S).close()
        except (OSError, OverflowError) as error:
            raise self.error(self.not_connected(address, error)) from error
        if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):  # calls are plain
            self._check_service(address, found)

    def not_connected(self, address: str, error: Exception) -> str:
        """The message for an address that Ray could not connect to."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        first, *others = lines or [type(error).__name__]
        reason = f"{first} {others[-1]}" if others else first  # not the traceback between them
        if address == "local":
            return f"Ray cannot be started on this machine: {reason}"
        where = "a cluster that this machine is in" if address == "auto" else address
        return (
            f"Ray cannot reach {where}: {reason}; is `ray start --head` running there? host:6379 "
            "is for machines of the cluster"
            + ", ray://host:10001 for others" * self.client
            + ", local for a Ray of its own" * self.local
        )

    def _check_service(self, address: str, found: re.Match[str]) -> None:
        """Asks whether it is a head or a Ray Client server, which are easily mistaken."""
        try:
            grpc: Any = importlib.import_module("grpc")
        except ImportError:
            return  # then Ray finds out
        where = f"{found['host']}:{found['port']}"
        own, other = (_CLIENT_SERVER, _HEAD) if found["client"] else (_HEAD, _CLIENT_SERVER)
        says = _answer(grpc, where, own)
        if says == "UNIMPLEMENTED" and _answer(grpc, where, other) != "UNIMPLEMENTED":
            kind, right = "a Ray Client server", f"ray://{where}"
            if found["client"]:
                kind, right = "a head", where
            elif not self.client:
                right = "the port of the head, 6379 mostly"
            raise self.error(f"{address}: there is {kind} at that port, so write {right}")
        if says in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            other = "something accepts connections there that does not answer as Ray does"
            raise self.error(self.not_connected(address, OSError(other)))


def same_place(first: str, second: str) -> bool:
    """Whether two addresses `host:port` may mean the same head."""
    return not _places(first).isdisjoint(_places(second))


def _places(address: str) -> set[tuple[str, str]]:
    """All (host, port) that an address may mean."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):
        return {(str(at[4][0]), port) for at in socket.getaddrinfo(host.strip("[]"), None)}
    return {(host, port)}


def _answer(grpc: Any, where: str, method: str) -> str:
    """How a call without content ends: the name of its status."""
    with grpc.insecure_channel(where, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=REACH_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"
