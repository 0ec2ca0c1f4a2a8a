import http.server
import socket
import sys
import threading
import time
from concurrent import futures

import pytest

from records import BadInputError
from strategies import executor_ray_address
from strategies.executor_ray_address import check_reachable, not_connected


@pytest.fixture
def listening():
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def web():
    """A web server, such as the dashboard's port."""
    handler = http.server.BaseHTTPRequestHandler
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def serving(method):
    """A server that knows this call alone: its address, and what ends it."""
    grpc = pytest.importorskip("grpc")
    _, service, name = method.split("/")
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {name: handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return f"127.0.0.1:{port}", server


@pytest.fixture
def head():
    address, server = serving("/ray.rpc.NodeInfoGcsService/GetClusterId")
    yield address
    server.stop(0)


@pytest.fixture
def client_server():
    address, server = serving("/ray.rpc.RayletDriver/ClusterInfo")
    yield address
    server.stop(0)


def test_the_calls_are_those_of_ray():
    gcs = pytest.importorskip("ray.core.generated.gcs_service_pb2_grpc")
    client = pytest.importorskip("ray.core.generated.ray_client_pb2_grpc")
    for module, call in (
        (gcs, executor_ray_address._HEAD), (client, executor_ray_address._CLIENT_SERVER)
    ):  # fmt: skip
        with open(module.__file__) as file:
            assert f"'{call}'" in file.read()


def test_head_and_client_server_are_told_from_each_other(head, client_server):
    check_reachable(head)
    check_reachable(f"ray://{client_server}")
    with pytest.raises(
        BadInputError, match=rf"a Ray Client server .* write ray://{client_server}"
    ):
        check_reachable(client_server)
    with pytest.raises(BadInputError, match=rf"a head at that port, so write {head}$"):
        check_reachable(f"ray://{head}")


@pytest.mark.parametrize("kind", ["", "ray://"])
def test_what_does_not_answer_as_ray_does_is_refused_in_seconds(
    kind, web, listening, monkeypatch, capfd
):
    pytest.importorskip("grpc")
    monkeypatch.setattr(executor_ray_address, "REACH_S", 0.3)
    began = time.monotonic()
    for address in (web, listening):
        with pytest.raises(BadInputError, match="accepts connections there that does not answer"):
            check_reachable(kind + address)
    assert time.monotonic() - began < 10


def test_where_calls_cannot_be_made_ray_finds_out(listening, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("RAY_USE_TLS", "1")
        check_reachable(listening)
    monkeypatch.setitem(sys.modules, "grpc", None)
    check_reachable(listening)


def test_what_is_no_address_is_refused():
    check_reachable("auto")
    check_reachable("local")
    for address in ("somewhere", "host:", "http://host:8265", "host:123456", ""):
        with pytest.raises(BadInputError, match="address must be auto, local, host:port"):
            check_reachable(address)
    with pytest.raises(BadInputError, match=r"cannot reach 127\.0\.0\.1:99999"):
        check_reachable("127.0.0.1:99999")


def test_a_message_has_what_ray_said_first():
    assert "reach a cluster that this machine is in: gone; is" in not_connected("auto", "\ngone\n")
    assert not_connected("local", "") == "Ray cannot be started on this machine: no reason given"
