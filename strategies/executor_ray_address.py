"""Whether a Ray cluster answers at an address: said in seconds, where Ray tries for minutes."""

from __future__ import annotations

import importlib
import os
import re
import socket
from typing import Any

from records import BadInputError

REACH_S = 5.0
"""How long the head may take to accept a connection, and again to answer."""

_ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>[^/:\s]+|\[[^]\s]+\]):(?P<port>\d{1,5})")

_HEAD = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_CLIENT_SERVER = "/ray.rpc.RayletDriver/ClusterInfo"
"""A call that only that service knows."""


def check_reachable(address: str) -> None:
    """Refuses an address where no cluster answers.

    Raises:
        BadInputError: It is no address, nothing accepts connections there, or what does is
            something else than the address says.
    """
    if address in ("auto", "local"):
        return
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise BadInputError(
            "address must be auto, local, host:port of the head or ray://host:port of its Ray "
            f"Client server, got {address!r}"
        )
    host, port = found["host"].strip("[]"), int(found["port"])
    try:
        socket.create_connection((host, port), REACH_S).close()
    except (OSError, OverflowError) as error:
        raise BadInputError(not_connected(address, str(error))) from error
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):  # calls below are plain
        _check_service(address, found)


def not_connected(address: str, said: str) -> str:
    """The message for an address that Ray could not connect to, with what it said."""
    where = "a cluster that this machine is in" if address == "auto" else address
    reason = next((line.strip() for line in said.splitlines() if line.strip()), "no reason given")
    if address == "local":
        return f"Ray cannot be started on this machine: {reason}"
    return (
        f"Ray cannot reach {where}: {reason}; is `ray start --head` running there? host:6379 is "
        "for machines of the cluster, ray://host:10001 for others, local for a Ray of its own"
    )


def _check_service(address: str, found: re.Match[str]) -> None:
    """Asks whether it is a head or a Ray Client server, which are easily mistaken.

    Raises:
        BadInputError: It is the other one, or speaks another language.
    """
    try:
        grpc: Any = importlib.import_module("grpc")
    except ImportError:
        return  # then Ray finds out
    where = f"{found['host']}:{found['port']}"
    own, other = (_CLIENT_SERVER, _HEAD) if found["client"] else (_HEAD, _CLIENT_SERVER)
    says = _answer(grpc, where, own)
    if says == "UNIMPLEMENTED" and _answer(grpc, where, other) != "UNIMPLEMENTED":
        right = where if found["client"] else f"ray://{where}"
        kind = "a head" if found["client"] else "a Ray Client server"
        raise BadInputError(f"{address}: there is {kind} at that port, so write {right}")
    if says in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        reason = "something accepts connections there that does not answer as Ray does"
        raise BadInputError(not_connected(address, reason))


def _answer(grpc: Any, where: str, method: str) -> str:
    """How a call without content ends: the name of its status."""
    with grpc.insecure_channel(where, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=REACH_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"
