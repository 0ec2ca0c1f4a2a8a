import signal
import sys
import threading
from types import SimpleNamespace

import pytest

from records import BadInputError, StorageError, ray_cluster
from records.ray_address import RayUse
from records.ray_cluster import (
    awaited_room,
    check_needs,
    connected,
    imported,
    in_words,
    nodes_in_words,
    other_versions,
    room,
)

USE = RayUse(what="this test", extra="ray-test", error=StorageError)


class StandIn:
    """Stands for Ray: notes how it is connected, handles SIGTERM as Ray does.

    Attributes:
        nodes_there: What the nodes have.
        fails: Errors of the next attempts to connect.
        asked: What each attempt was given.
    """

    def __init__(self):
        self.nodes_there, self.fails, self.asked, self.is_connected = [], [], [], False

    def init(self, **options):
        self.asked.append(options)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda number, frame: None)
        if self.fails:
            raise self.fails.pop(0)
        self.is_connected = True

    def shutdown(self):
        self.is_connected = False

    def is_initialized(self):
        return self.is_connected

    def get_runtime_context(self):
        return SimpleNamespace(gcs_address="127.0.0.1:6379")

    def nodes(self):
        return [{"Alive": True, "Resources": node} for node in self.nodes_there]


@pytest.fixture
def ray(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(RayUse, "check_reachable", RayUse.check_address)
    monkeypatch.setattr(ray_cluster.time, "sleep", lambda seconds: None)
    before = signal.getsignal(signal.SIGTERM)
    yield stand_in
    signal.signal(signal.SIGTERM, before)


# ---- the connection ----------------------------------------------------------------------------


def test_a_missing_ray_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    said = r"this test needs ray, which is not installed .*: pip install 'hwnas\[ray-test\]'"
    with pytest.raises(BadInputError, match=said):
        imported(USE)


def test_a_missing_part_of_ray_is_named(ray, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.train", None)
    with pytest.raises(BadInputError, match=r"needs ray\.train, which is not installed"):
        imported(RayUse(what="this test", module="ray.train"))


def test_a_connection_is_closed_again_and_signals_are_handled_as_before(ray):
    before = signal.getsignal(signal.SIGTERM)
    with connected(USE, "head:6379") as found:
        assert found is ray
        assert ray.is_connected
        assert signal.getsignal(signal.SIGTERM) is before
    assert not ray.is_connected
    (options,) = ray.asked
    assert options["address"] == "head:6379"
    assert "num_cpus" not in options


def test_a_thread_leaves_signals_alone(ray):
    """Only the main thread may set them."""
    found = []

    def connect():
        with connected(USE, "head:6379"):
            found.append(ray.is_connected)

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    assert found == [True]


def test_the_environment_says_which_cluster_auto_is(ray, monkeypatch):
    for named in (None, "auto", "other:1"):
        with connected(USE, named):
            pass
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    for named in (None, "auto", "other:1"):
        with connected(USE, named):
            pass
    given = [options["address"] for options in ray.asked]
    assert given == ["auto", "auto", "other:1", "head:6379", "head:6379", "other:1"]
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with (
        pytest.raises(BadInputError, match="ray job submit"),
        connected(RayUse(what="training", client=False), "auto"),
    ):
        pass


def test_a_ray_of_its_own_has_the_processors_that_are_asked_for(ray, monkeypatch):
    monkeypatch.setattr(ray_cluster.os, "cpu_count", lambda: 4)
    for processors in (2, 4.5):
        with connected(USE, "local", processors=processors):
            pass
    assert [options["num_cpus"] for options in ray.asked] == [4, 5]


@pytest.mark.parametrize("named", [None, "auto", "local", "localhost:6379", "ray://elsewhere:1"])
def test_a_connection_that_was_there_stays(ray, named):
    ray.is_connected = True
    with connected(USE, named) as found:
        assert found is ray
    assert ray.is_connected
    assert ray.asked == []


def test_a_connection_to_another_cluster_is_not_taken_for_the_one_asked_for(ray):
    ray.is_connected = True
    with (
        pytest.raises(
            StorageError, match=r"connected to Ray at 127\.0\.0\.1:6379 already, not to"
        ),
        connected(USE, "127.0.0.1:6380"),
    ):
        pass
    assert ray.is_connected


@pytest.mark.parametrize("aborted", [2, 3])
def test_a_client_server_that_has_just_started_is_asked_again(ray, aborted):
    ray.fails = [ConnectionAbortedError("no session:\n\nTraceback\nthe cause")] * aborted
    if aborted == 2:
        with connected(USE, "ray://head:1"):
            assert ray.is_connected
    else:
        with (
            pytest.raises(StorageError, match="head:1: no session: the cause; is `ray"),
            connected(USE, "ray://head:1"),
        ):
            pass
    assert [options["address"] for options in ray.asked] == ["ray://head:1"] * 3


def test_what_another_try_does_not_mend_is_said_at_once(ray):
    before = signal.getsignal(signal.SIGTERM)
    for error, said in (
        (RuntimeError(OTHER), "runs Ray 2.40.0"),
        (ValueError(), "ValueError; is"),
    ):
        ray.fails = [error]
        with pytest.raises(StorageError, match=said), connected(USE, "head:1"):
            pass
        assert signal.getsignal(signal.SIGTERM) is before
    assert len(ray.asked) == 2


OTHER = (
    "Version mismatch: The cluster was started with:\n    Ray: 2.40.0\n    Python: 3.11.4\n"
    "This process on Ray Client was started with:\n    Ray: 2.60.0\n    Python: 3.12.1\n"
)


def test_other_versions_are_told_with_what_to_do():
    told = other_versions(OTHER)
    assert "the cluster runs Ray 2.40.0 with Python 3.11.4, this process Ray 2.60.0 with" in told
    assert "`pip install ray==2.40.0` in a Python 3.11.4" in told
    assert other_versions("ConnectionError") == ""


# ---- what nodes have ---------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [-1, "one", True, float("nan"), None])
def test_an_amount_that_is_none_is_refused(amount):
    check_needs({"CPU": 0, "GPU": 0.5})
    with pytest.raises(BadInputError, match=f"takes at least 0 of board, got {amount!r}"):
        check_needs({"CPU": 1, "board": amount})


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ({"CPU": 1, "GPU": 0}, 7),
        ({"CPU": 0.1}, 75),  # 3.5 / 0.1 is 35, whatever floating-point numbers say
        ({"CPU": 1, "GPU": 0.5}, 2),
        ({"CPU": 4, "GPU": 1}, 1),
        ({"board": 1}, 0),
        ({"CPU": 0}, float("inf")),
    ],
)
def test_the_room_of_all_nodes_counts(ray, needs, expected):
    ray.nodes_there = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 3.5}]
    assert room(ray, needs) == expected
    ray.nodes_there = []
    assert room(ray, needs) == 0


def test_nodes_that_left_do_not_count():
    gone = SimpleNamespace(nodes=lambda: [{"Alive": False, "Resources": {"CPU": 4.0}}])
    assert room(gone, {"CPU": 1}) == 0
    assert nodes_in_words(gone) == "0 node(s) have nothing"


def test_room_is_waited_for_while_nodes_join(ray, monkeypatch):
    def join(seconds):
        ray.nodes_there.append({"CPU": 2.0})

    monkeypatch.setattr(ray_cluster.time, "sleep", join)
    assert awaited_room(ray, {"CPU": 1}, workers=5) == 6
    monkeypatch.setattr(ray_cluster, "APPEAR_S", 0.0)
    assert awaited_room(ray, {"board": 1}) == 0


def test_resources_are_said_without_those_of_ray_itself(ray):
    node = {"memory": 9e9, "CPU": 1.0, "node:10.0.0.1": 1.0, "object_store_memory": 1e9, "GPU": 0}
    assert in_words(node) == "CPU 1"
    assert in_words({"board": 1.5, "CPU": 2}) == "CPU 2, board 1.5"
    assert in_words({}) == "nothing"
    ray.nodes_there = [node, {"CPU": 4.0}, node]
    assert nodes_in_words(ray) == "3 node(s) have CPU 1; CPU 4"
