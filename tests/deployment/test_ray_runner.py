"""Devices that are nodes of a Ray cluster, with this machine in the node's place.

One small Ray is started for the quick tests of this file; what kills workers or needs two nodes is
slow.
"""

import contextlib
import hashlib
import json
import math
import os
import pickle
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from deployment import DeviceError, RayRunner
from deployment.kit import Kit, KitModel, TimingProtocol
from deployment.runners import ray_runner
from deployment.runners.command_file import read_command_file
from deployment.runners.ray_cluster import connected
from deployment.runners.ray_worker import KitWorker
from records import BadInputError, CorruptFileError, ray_cluster
from tests.deployment.doubles import RESNET
from tests.deployment.test_runner import exported

BOARD = RayRunner(resource="device:stand-in", pause_s=0.0, timeout_s=60)
ONE = Kit(
    models=[KitModel(data=exported(RESNET, [0]))],
    protocol=TimingProtocol(rounds=3, min_seconds=0.0, sustained_s=0.0),
    probes=False,
)
SPREAD = replace(ONE, protocol=TimingProtocol(rounds=60, min_seconds=20.0, sustained_s=0.0))
"""Takes 20 s: time to kill something."""


# ---- without Ray -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resource": " "}, "resource must be the name of a Ray resource"),
        ({"resource": 3}, "got 3"),
        ({"address": "head"}, "address must be host:port of the head"),
        ({"address": "local"}, "got 'local'"),
        ({"address": 6379}, "got 6379"),
        ({"timeout_s": 0}, "timeout_s must be positive"),
        ({"limit_s": math.nan}, "limit_s must be positive"),
        ({"wait_s": "1"}, "wait_s must be positive"),
        ({"retries": 1.5}, "retries must be a whole number >= 0, got 1.5"),
        ({"retries": -1}, "retries"),
        ({"pause_s": math.inf}, "pause_s must be >= 0"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_measured(change, said):
    with pytest.raises(BadInputError) as caught:
        replace(BOARD, **change)
    assert said in str(caught.value)


@pytest.mark.parametrize("address", [None, "auto", "head:6379", "ray://10.0.0.1:10001", "[::1]:1"])
def test_addresses_are_those_of_ray(address):
    assert replace(BOARD, address=address).address == address


def test_a_runner_goes_to_another_process_as_it_is():
    assert pickle.loads(pickle.dumps(BOARD)) == BOARD
    assert BOARD.name == "device:stand-in by Ray"


def test_nothing_to_time_asks_no_cluster():
    assert replace(BOARD, address="127.0.0.1:1").time([], threads=1) == []


def test_a_file_names_a_resource(tmp_path):
    path = tmp_path / "board.yaml"
    path.write_text("ray: device:rpi4\n")
    assert read_command_file(path) == RayRunner(resource="device:rpi4")
    path.write_text(
        "ray: device:rpi4\naddress: ray://head:10001\npython: ~/venv/bin/python\nname: Pi\n"
        "limit_s: 900\nwait_s: 60\nretries: 0\ntimeout_s: 30\npause_s: 1\n"
    )
    assert read_command_file(path) == RayRunner(
        resource="device:rpi4", address="ray://head:10001", python="~/venv/bin/python", name="Pi",
        limit_s=900, wait_s=60, retries=0, timeout_s=30, pause_s=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ray: a\nssh: b", "got ssh, ray"),
        ("ray: a\nfolder: b", "folder means nothing beside ray"),
        ("ssh: a\naddress: b", "address means nothing beside ssh"),
        ("ssh: a\nlimit_s: 3", "limit_s means nothing beside ssh"),
        ("ray: a\naddress: b", "address must be host:port"),
        ("ray: a\nlimit_s: soon", "limit_s must be a number"),
    ],
)
def test_a_file_that_is_none_names_the_key(tmp_path, text, said):
    path = tmp_path / "board.yaml"
    path.write_text(text)
    with pytest.raises(CorruptFileError) as caught:
        read_command_file(path)
    assert said in str(caught.value)


def test_a_missing_ray_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInputError, match=r"pip install 'hwnas\[ray\]'"):
        BOARD.time([b"model"], threads=1)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_head_that_cannot_be_reached_is_said_in_seconds(scheme, monkeypatch):
    pytest.importorskip("ray")  # which takes its time
    address = f"{scheme}127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(DeviceError, match=rf"Ray cannot reach {address}.*ray start --head"):
        replace(BOARD, address=address).time([b"model"], threads=1)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(DeviceError, match=f"Ray cannot reach {address}"):
        BOARD.time([b"model"], threads=1)
    assert time.monotonic() - began < 30  # Ray itself takes minutes


@pytest.fixture
def errors():
    return pytest.importorskip("ray").exceptions


# ---- the worker, in this process ---------------------------------------------------------------


def begun(monkeypatch, script, *, earlier=None, python="", silence_s=30.0):
    """A worker that runs another script in the place of the kit's."""
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda data: data))
    worker = KitWorker()
    files = [("models/000.onnx", b"model"), ("measure.py", script.encode())]
    worker.begin(files, earlier, python, silence_s)
    return worker


def followed(worker):
    """All lines of a script that ends, its last results and how it ended."""
    lines, results, outcome = [], None, None
    while outcome is None:
        new, fresh, outcome = worker.follow(20.0)
        lines += new
        results = fresh or results
    return lines, results, outcome


def test_the_worker_passes_lines_and_results_on_and_cleans_up(monkeypatch):
    script = (
        "import os, sys\n"
        "here = os.path.dirname(os.path.abspath(__file__))\n"
        "print(open(here + '/models/000.onnx').read(), sys.argv[1:])\n"
        "print(open(here + '/results.json').read())\n"
        "open(here + '/results.json', 'w').write('later')\n"
    )
    worker = begun(monkeypatch, script, earlier=b"earlier")
    folder = Path(worker.folder)
    assert followed(worker) == (["model []", "earlier"], b"later", (0, ""))
    assert worker.follow(0.0) == ([], None, (0, ""))  # nothing twice
    assert worker.stop() is None
    assert not folder.exists()


def ended(worker):
    """How the script of a worker ended; nothing is left of it."""
    outcome = followed(worker)[2]
    worker.stop()
    return outcome


def test_the_worker_says_how_the_script_failed(monkeypatch):
    code, said = ended(begun(monkeypatch, "import sys; sys.exit('the reason')"))
    assert code == 1
    assert "measure.py ended with exit code 1" in said
    assert said.endswith("\n  the reason")
    code, said = ended(begun(monkeypatch, "", python="/no/python"))
    assert code == 127
    assert "cannot be started" in said
    silent = begun(monkeypatch, "import time; time.sleep(60)", silence_s=0.2)
    code, said = ended(silent)
    assert code is None
    assert "silent for 0.2 s" in said


SLEEPS = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"


def test_a_script_ends_with_its_worker(monkeypatch):
    worker = begun(monkeypatch, SLEEPS)
    folder = Path(worker.folder)
    pid = int(worker.follow(20.0)[0][0])
    os.close(worker.alive)  # what happens to the pipe when the worker is killed
    worker.thread.join(20.0)
    assert worker.follow(0.0)[2][0] == 130
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_stopping_the_worker_ends_the_script_and_keeps_its_results(monkeypatch):
    script = (
        "import os, time\n"
        "open(os.path.dirname(os.path.abspath(__file__)) + '/results.json', 'w').write('some')\n"
        "print('written', flush=True)\n"
        "time.sleep(100)\n"
    )
    worker = begun(monkeypatch, script)
    end = time.monotonic() + 20
    results = None
    while not worker.lines.qsize() and time.monotonic() < end:
        time.sleep(0.01)
    results = worker.stop()
    assert results == b"some"
    assert worker.outcome[0] == 130
    assert KitWorker().stop() is None  # of one that never began


def test_folders_of_killed_workers_are_removed_by_the_next(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    child = subprocess.Popen(["true"])
    child.wait()  # a process of this number is no more
    kept = [f"hwnas-ray-{platform.node()}-{os.getpid()}-abc", "hwnas-ray-other-1-abc", "else"]
    gone = f"hwnas-ray-{platform.node()}-{child.pid}-abc"
    for name in (*kept, gone):
        (tmp_path / name).mkdir()
    begun(monkeypatch, "").stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_files_that_cannot_be_written_leave_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda data: data))
    with pytest.raises(TypeError):
        KitWorker().begin([("kit.json", None)], None, "", 1.0)
    assert list(tmp_path.iterdir()) == []


# ---- workers that die, in this process ---------------------------------------------------------


class InProcess:
    """Stands in for Ray: workers live in this process; some calls fail as they are told to.

    Attributes:
        faults: For each worker the error that ends it when it is asked how it goes on.
        after_round: Whether it ends only after a round came back.
        machines: For each worker where it says that it runs; this machine after the last.
    """

    def __init__(self, exceptions, faults=(), machines=(), *, after_round=True):
        self.exceptions, self.faults, self.machines = exceptions, list(faults), list(machines)
        self.after_round = after_round
        self.left = 1
        self.workers = []

    def remote(self, make):
        def start():
            self.workers.append(make())
            return Calls(self, self.workers[-1])

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=start))

    def put(self, data):
        return data

    def nodes(self):
        return [{"Alive": True, "Resources": {BOARD.resource: 1.0}}] * self.left

    def wait(self, references, timeout):
        return references, []

    def get(self, reference, timeout=None):
        return reference() if callable(reference) else reference

    def kill(self, calls):
        calls.worker.stop()


class Calls:
    """What a reference to a worker is: methods that are called when their answer is asked for."""

    def __init__(self, ray, worker):
        self.ray, self.worker, self.death, self.known = ray, worker, None, False

    def __getattr__(self, name):
        return SimpleNamespace(remote=lambda *values: lambda: self._called(name, values))

    def _called(self, name, values):
        follows = name == "follow" and (self.known or not self.ray.after_round)
        if follows and self.death is None and self.ray.faults:
            self.death = self.ray.faults.pop(0)
        if name == "machine" and self.ray.machines:
            return self.ray.machines.pop(0)
        if self.death is not None:
            raise self.death
        answer = getattr(self.worker, name)(*values)
        self.known = self.known or (name == "follow" and answer[1] is not None)
        return answer


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Measures with such a Ray; the results and all lines."""

    def measure(stand_in, runner=BOARD, kit=ONE, on_line=None):
        monkeypatch.setitem(sys.modules, "ray", stand_in)
        monkeypatch.setattr(
            ray_runner, "connected", lambda address: contextlib.nullcontext(stand_in)
        )
        lines = []
        return runner.measure(kit, tmp_path / "results.json", on_line or lines.append), lines

    return measure


STAYS = """
import builtins, runpy, sys, threading
say = print
def stay(text, **options):
    say(text, **options)
    if text.startswith("round 3 of 3"):
        threading.Event().wait()
builtins.print = stay
sys.argv = sys.argv[2:]  # without this file and -u
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script that stops when it has said its third round, whose results are written."""


@pytest.fixture
def staying(tmp_path):
    """A board whose interpreter never comes to the end of a script for the first so many times.

    So that workers are killed and interrupted in the midst of it, however slow they are.
    """
    (tmp_path / "stays.py").write_text(STAYS)
    (tmp_path / "starts").touch()

    def board(times, **changes):
        python = tmp_path / f"stays-{times}"
        python.write_text(
            f"#!/bin/sh\necho x >> {tmp_path}/starts\n"
            f'[ $(wc -l < {tmp_path}/starts) -gt {times} ] && exec {sys.executable} "$@"\n'
            f'exec {sys.executable} {tmp_path}/stays.py "$@"\n'
        )
        python.chmod(0o755)
        return replace(BOARD, python=str(python), **changes)

    return board


def test_a_worker_that_dies_is_replaced_and_the_rounds_that_came_are_kept(
    measured, errors, staying
):
    stand_in = InProcess(errors, [errors.ActorDiedError()])
    results, lines = measured(stand_in, staying(1))
    assert len(stand_in.workers) == 2
    assert results.sittings == 2
    assert any(line.startswith("the worker died") and "trying again" in line for line in lines)


@pytest.mark.slow
def test_rounds_of_another_machine_are_not_continued(measured, errors, staying):
    died = [errors.ActorUnavailableError("the reason", None)]
    stand_in = InProcess(errors, died, machines=["one", "other"])
    results, lines = measured(stand_in, staying(1))
    assert results.sittings == 1
    assert "on another machine: measuring again from the start" in lines


def test_workers_are_replaced_so_often_and_not_more(measured, errors, staying):
    stand_in = InProcess(errors, [errors.ActorDiedError() for _ in range(2)])
    with pytest.raises(DeviceError, match=r"\(2 tries\); the rounds that were measured are in"):
        measured(stand_in, staying(2, retries=1))
    assert len(stand_in.workers) == 2


def test_a_worker_that_does_not_answer_is_replaced(measured, errors):
    stand_in = InProcess(errors, [errors.GetTimeoutError("late")], after_round=False)
    results, lines = measured(stand_in)
    assert "the worker gave no answer; trying again" in lines
    assert results.is_complete


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (ConnectionError("gone"), "stand-in by Ray: gone"),
        ("task", "OSError: no space left"),
    ],
)
def test_a_lost_connection_or_a_full_disk_is_not_tried_again(measured, errors, fault, said):
    if fault == "task":
        fault = errors.RayTaskError("begin", "Traceback", OSError("no space left"))
    stand_in = InProcess(errors, [fault], after_round=False)
    with pytest.raises(DeviceError, match=said):
        measured(stand_in)
    assert len(stand_in.workers) == 1


def test_a_node_that_leaves_while_it_is_waited_for_is_noticed(measured, errors, monkeypatch):
    stand_in = InProcess(errors)

    def leave(references, timeout):
        stand_in.left = 0
        return [], references

    stand_in.wait = leave
    monkeypatch.setattr(ray_cluster, "APPEAR_S", 0.1)
    with pytest.raises(DeviceError, match=r"no node of the Ray cluster has .* \(3 tries\)"):
        measured(stand_in)


def test_a_node_without_onnxruntime_is_said_at_once(measured, errors, tmp_path):
    bare = tmp_path / "bare"  # an interpreter that has no packages
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    bare.chmod(0o755)
    stand_in = InProcess(errors)
    with pytest.raises(DeviceError) as caught:
        measured(stand_in, replace(BOARD, python=str(bare)))
    said = str(caught.value)
    assert "device:stand-in by Ray: measure.py ended with exit code 2" in said
    assert "-m pip install onnxruntime" in said
    assert len(stand_in.workers) == 1


def test_a_script_that_breaks_off_is_tried_again(measured, errors, monkeypatch, tmp_path):
    """Its interpreter ends at once the first time, as one that runs out of memory."""
    flaky = tmp_path / "flaky"
    first = tmp_path / "first"
    flaky.write_text(
        f'#!/bin/sh\n[ -e {first} ] || {{ touch {first}; exit 9; }}\nexec {sys.executable} "$@"\n'
    )
    flaky.chmod(0o755)
    results, lines = measured(InProcess(errors), replace(BOARD, python=str(flaky)))
    assert results.is_complete
    assert any("ended with exit code 9" in line and "trying again" in line for line in lines)


@pytest.mark.slow
def test_a_measurement_that_takes_too_long_is_ended_and_its_rounds_are_kept(
    measured, errors, tmp_path, monkeypatch
):
    """A clock that stands still until a round was told."""
    stand_in, told = InProcess(errors), []

    def hear(line):
        told.extend([line] * line.startswith("round"))

    clock = SimpleNamespace(monotonic=lambda: 1000.0 * len(told), sleep=time.sleep)
    monkeypatch.setattr(ray_runner, "time", clock)
    with pytest.raises(DeviceError, match=r"took longer than 100 s; the rounds that were"):
        measured(stand_in, replace(BOARD, limit_s=100.0), SPREAD, hear)
    assert len(stand_in.workers) == 1
    assert rounds_in(tmp_path / "results.json") >= 1
    assert not Path(stand_in.workers[0].folder).exists()


def test_an_interrupt_ends_the_script_and_keeps_its_rounds(measured, errors, tmp_path):
    stand_in = InProcess(errors)

    def interrupt(line):
        if line.startswith("round"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(stand_in, kit=SPREAD, on_line=interrupt)
    assert rounds_in(tmp_path / "results.json") >= 1
    assert stand_in.workers[0].outcome[0] == 130
    assert not Path(stand_in.workers[0].folder).exists()


@pytest.mark.parametrize("machine", ["the same", "another"])
def test_what_an_interrupted_process_left_is_continued(measured, errors, staying, machine):
    def interrupt(line):
        if line.startswith("round"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(InProcess(errors, machines=["board"]), staying(1), on_line=interrupt)
    machines = ["board" if machine == "the same" else "other"]
    results, lines = measured(InProcess(errors, machines=machines), staying(1))
    assert results.is_complete
    assert results.sittings == (2 if machine == "the same" else 1)
    told = "on another machine: measuring again from the start" in lines
    assert told == (machine == "another")


def rounds_in(path):
    return len(json.loads(path.read_text())["models"][0]["samples_ms"])


# ---- by a small Ray on this machine -------------------------------------------------------------


@pytest.fixture(scope="module")
def settings():
    """The environment of Ray's processes: a folder of their own, which is removed in the end."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="hw") as folder:
        patch.setenv("TMPDIR", folder)  # short: sockets are made below it
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        before = signal.getsignal(signal.SIGTERM)
        yield Path(folder)
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def head(settings):
    """The address of a Ray of one node that has the stand-in's resource."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        cluster.add_node(
            num_cpus=1, resources={"device:stand-in": 1}, include_dashboard=False,
            object_store_memory=80 * 2**20,
        )  # fmt: skip
        yield cluster.address
    finally:
        __import__("ray").shutdown()
        cluster.shutdown()


@pytest.fixture
def ray(head):
    """Ray, with this process connected to it."""
    import ray

    if not ray.is_initialized():
        ray.init(address=head, log_to_driver=False)
    return ray


@pytest.fixture
def left_behind(settings):
    """Tells the folders and processes of scripts that are there."""

    def found():
        folders = [str(path.relative_to(settings)) for path in settings.glob("hwnas-ray-*/**")]
        return folders + scripts(settings)

    return found


def scripts(folder):
    """The processes that run scripts of Ray workers, by their numbers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{folder}/hwnas-ray-".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def test_files_are_timed_on_the_node_and_the_connection_is_closed(head, left_behind, tmp_path):
    import ray

    ray.shutdown()
    before = signal.getsignal(signal.SIGTERM)
    lines = []
    models = [KitModel(data=exported(RESNET, [width], batch_size=4)) for width in (3, 0)]
    results = replace(BOARD, address=head).measure(
        replace(ONE, models=models, threads=2), tmp_path / "results.json", lines.append
    )
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is before
    assert left_behind() == []
    assert [timing.rounds for timing in results.timings] == [3, 3]
    order = [entry["sha256"] for entry in results.manifest["models"]]
    assert order == [hashlib.sha256(model.data).hexdigest() for model in models]  # as given
    assert [m.file for m in results.measurements] == [
        m["file"] for m in results.manifest["models"]
    ]
    assert results.threads == 2
    assert results.machine["cores"] == os.cpu_count()
    assert results.machine["onnxruntime"]
    assert any("round 3 of 3" in line for line in lines)


def test_two_measurements_on_one_board_follow_each_other(ray, monkeypatch):
    """The second waits while the first runs, and not for ever; the connection is kept open."""
    monkeypatch.setattr(ray_runner, "FOLLOW_S", 0.1)
    holder = ray.remote(KitWorker).options(num_cpus=0, resources={"device:stand-in": 1}).remote()
    ray.get(holder.machine.remote())
    model = exported(RESNET, [0])
    try:
        with pytest.raises(DeviceError, match="device:stand-in was in use for"):
            replace(BOARD, wait_s=0.3).time([model], threads=1)
    finally:
        ray.kill(holder)
    seen = []
    (timing,) = BOARD.time(
        [model], threads=1, rounds=4, runs=2, on_round=lambda i, n: seen.append((i, n))
    )
    assert len(timing.samples_ms) == 8
    assert seen[-1] == (4, 4)
    assert ray.is_initialized()


def test_a_resource_that_no_node_has_is_said_with_those_that_there_are(ray, monkeypatch):
    monkeypatch.setattr(ray_cluster, "APPEAR_S", 0.1)
    with pytest.raises(DeviceError) as caught:
        replace(BOARD, resource="device:stand-inn").time([b"model"], threads=1)
    said = str(caught.value)
    assert "no node of the Ray cluster has a whole device:stand-inn; its 1 node(s) have" in said
    assert "CPU 1, device:stand-in 1. On the machine with the board" in said
    assert "tries" not in said


def test_a_connection_to_another_cluster_is_not_taken_for_the_one_asked_for(ray):
    ours = ray.get_runtime_context().gcs_address
    with connected(ours) as same:
        assert same is ray
    with pytest.raises(DeviceError, match=f"is connected to Ray at {ours} already"):
        replace(BOARD, address="127.0.0.1:1").time([b"model"], threads=1)


# ---- killed, and on other nodes ----------------------------------------------------------------


def kill_worker_of(folder):
    """Kills the Ray worker whose script runs, as a board that runs out of memory would."""
    (pid,) = scripts(folder)
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (parent,) = [int(line.split()[1]) for line in status if line.startswith("PPid:")]
    os.kill(parent, signal.SIGKILL)
    return pid


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_a_killed_worker_is_replaced_and_its_rounds_are_kept(settings, left_behind, tmp_path):
    kit = replace(ONE, protocol=TimingProtocol(rounds=5, min_seconds=6.0, sustained_s=0.0))
    killed = []

    def kill_once(line):
        if line.startswith("round") and not killed:
            killed.append(kill_worker_of(settings))

    results = BOARD.measure(kit, tmp_path / "r.json", kill_once)
    found = json.loads((tmp_path / "r.json").read_text())
    assert results.is_complete
    assert results.sittings == 2
    assert found["sittings"][1]["first_round"] > 0
    assert len(results.measurements[0].rounds_ms) >= 5
    assert not Path(f"/proc/{killed[0]}").exists()
    assert left_behind() == []


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_workers_that_are_always_killed_leave_what_was_measured(settings, left_behind, tmp_path):
    def kill(line):
        if line.startswith("round"):
            kill_worker_of(settings)

    with pytest.raises(DeviceError, match=r"the worker died.*\(2 tries\); the rounds that were"):
        replace(BOARD, retries=1).measure(SPREAD, tmp_path / "r.json", kill)
    assert rounds_in(tmp_path / "r.json") >= 2
    assert left_behind() == []


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_ctrl_c_is_heard_while_the_worker_is_waited_for(left_behind, tmp_path):
    timers, pressed = [], []

    def press():
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    def press_soon(line):
        if line.startswith("round") and not timers:
            timers.append(threading.Timer(0.5, press))  # when the next line is waited for
            timers[0].start()

    with pytest.raises(KeyboardInterrupt):
        BOARD.measure(SPREAD, tmp_path / "r.json", press_soon)
    assert time.monotonic() - pressed[0] < 15
    assert rounds_in(tmp_path / "r.json") >= 1
    assert left_behind() == []


@pytest.fixture
def cluster(settings):
    """A cluster whose second node has a board, and the port of its Ray Client server."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    ray.shutdown()
    port = free_port()
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1, ray_client_server_port=port, **SMALL_NODE)
        cluster.add_node(**FAR)
        yield cluster, port
    finally:
        ray.shutdown()
        cluster.shutdown()


SMALL_NODE = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
FAR = {"num_cpus": 0, "resources": {"device:far": 1}, **SMALL_NODE}


@pytest.mark.slow
def test_a_board_of_another_node_that_leaves_and_comes_back(cluster, settings, tmp_path):
    nodes, _ = cluster
    (first,) = nodes.worker_nodes
    lines = []

    def take_away(line):
        lines.append(line)
        if line.startswith("round") and first in nodes.worker_nodes:
            nodes.remove_node(first, allow_graceful=False)
            nodes.add_node(**FAR)

    kit = replace(ONE, protocol=TimingProtocol(rounds=5, min_seconds=8.0, sustained_s=0.0))
    runner = replace(BOARD, resource="device:far", address=nodes.address)
    results = runner.measure(kit, tmp_path / "r.json", take_away)
    assert results.sittings == 2
    assert any("trying again" in line for line in lines)
    assert scripts(settings) == []


@pytest.mark.slow
def test_a_machine_outside_the_cluster_comes_by_ray_client(cluster, left_behind):
    import ray

    address = f"ray://127.0.0.1:{cluster[1]}"
    runner = replace(BOARD, resource="device:far", address=address)
    assert len(runner.time([exported(RESNET, [0])] * 2, threads=1, rounds=2)) == 2
    assert not ray.is_initialized()
    assert left_behind() == []
