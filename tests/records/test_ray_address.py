import http.server
import socket
import sys
import threading
import time
from concurrent import futures

import pytest

from records import BadInputError, StorageError, ray_address
from records.ray_address import RayUse, same_place

ANY = RayUse(what="this test")
BOARD = RayUse(what="this test", local=False, error=StorageError)
TRAINING = RayUse(what="training", client=False)


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
    for module, call in ((gcs, ray_address._HEAD), (client, ray_address._CLIENT_SERVER)):
        with open(module.__file__) as file:
            assert f"'{call}'" in file.read()


def test_head_and_client_server_are_told_from_each_other(head, client_server):
    ANY.check_reachable(head)
    ANY.check_reachable(f"ray://{client_server}")
    with pytest.raises(
        BadInputError, match=rf"a Ray Client server .* write ray://{client_server}"
    ):
        ANY.check_reachable(client_server)
    with pytest.raises(BadInputError, match=rf"a head at that port, so write {head}$"):
        ANY.check_reachable(f"ray://{head}")


@pytest.mark.parametrize("kind", ["", "ray://"])
def test_what_does_not_answer_as_ray_does_is_refused_in_seconds(
    kind, web, listening, monkeypatch, capfd
):
    pytest.importorskip("grpc")
    monkeypatch.setattr(ray_address, "REACH_S", 0.3)
    began = time.monotonic()
    for address in (web, listening):
        with pytest.raises(BadInputError, match="accepts connections there that does not answer"):
            ANY.check_reachable(kind + address)
    assert time.monotonic() - began < 10


def test_where_calls_cannot_be_made_ray_finds_out(listening, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("RAY_USE_TLS", "1")
        ANY.check_reachable(listening)
    monkeypatch.setitem(sys.modules, "grpc", None)
    ANY.check_reachable(listening)


def test_what_is_no_address_is_refused():
    ANY.check_reachable("auto")
    ANY.check_reachable("local")
    for address in ("somewhere", "host:", "http://host:8265", "host:123456", ""):
        with pytest.raises(BadInputError, match=r"host:port of the head, ray://.*local.*or auto"):
            ANY.check_reachable(address)
    with pytest.raises(BadInputError, match=r"cannot reach 127\.0\.0\.1:99999"):
        ANY.check_reachable("127.0.0.1:99999")


@pytest.mark.parametrize("address", ["auto", "local", "head:6379", "ray://10.0.0.1:1", "[::1]:1"])
def test_addresses_are_those_of_ray(address):
    ANY.check_address(address)


def test_each_use_takes_its_own_addresses():
    BOARD.check_address("ray://head:10001")
    with pytest.raises(BadInputError, match=r"host:port of the head, ray://.* or auto.*'local'"):
        BOARD.check_address("local")
    TRAINING.check_address("local")
    with pytest.raises(BadInputError, match=r"training cannot be driven .*`ray job submit`"):
        TRAINING.check_address("ray://head:10001")
    with pytest.raises(
        BadInputError, match=r"the head, local for a Ray of its own or .* got None"
    ):
        TRAINING.check_address(None)


def test_each_use_has_its_own_error(client_server):
    with pytest.raises(StorageError, match=r"a Ray Client server .* write ray://"):
        BOARD.check_reachable(client_server)
    with pytest.raises(StorageError, match=r"cannot reach 127.0.0.1:9: .*refused"):
        BOARD.check_reachable("127.0.0.1:9")
    with pytest.raises(BadInputError, match="so write the port of the head"):
        TRAINING.check_reachable(client_server)


def test_a_message_has_what_ray_said_without_its_traceback():
    said = ConnectionError("\nno session:\n\nTraceback\n  a line\nthe cause\n")
    assert "reach a cluster that this machine is in: no session: the cause; is" in (
        ANY.not_connected("auto", said)
    )
    assert (
        ANY.not_connected("local", OSError()) == "Ray cannot be started on this machine: OSError"
    )


def test_only_addresses_of_use_are_recommended():
    ends = [use.not_connected("head:1", OSError()) for use in (ANY, BOARD, TRAINING)]
    assert [end.partition("machines of the cluster")[2] for end in ends] == [
        ", ray://host:10001 for others, local for a Ray of its own",
        ", ray://host:10001 for others",
        ", local for a Ray of its own",
    ]


def test_one_place_may_have_several_names():
    assert same_place("localhost:6379", "127.0.0.1:6379")
    assert same_place("[::1]:6379", "::1:6379")
    assert not same_place("127.0.0.1:6379", "127.0.0.1:6380")
    assert not same_place("127.0.0.1:6379", "10.0.0.1:6379")
    assert same_place("no.such.host.invalid:1", "no.such.host.invalid:1")
