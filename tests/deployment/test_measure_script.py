"""The script that a kit carries: run as on a device, in another process that sees no hwnas."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
from scipy.stats import spearmanr

from deployment import LocalRunner, session_options
from deployment.kit import Kit, KitModel, TimingProtocol, measure, read_results, write_kit
from deployment.kit.manifest import opening
from deployment.runtime import NO_FALLBACK, SPINNING
from deployment.session_settings import SessionSettings
from tests.deployment.doubles import CNN, RESNET
from tests.deployment.test_runner import exported

SOURCE = Path(measure.__file__).read_text()
QUICK = TimingProtocol(rounds=7, min_seconds=0.0, sustained_s=0.2)


def models_of(rows=(0, 1, 2, 3)):
    """ResNets of four widths, the latencies far apart."""
    macs = RESNET.layer_table(np.array([[r] for r in rows])).macs
    return [
        KitModel(data=exported(RESNET, [row], batch_size=2), macs=int(m))
        for row, m in zip(rows, macs, strict=True)
    ]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A kit that is copied before it is measured."""
    folder = tmp_path_factory.mktemp("kit") / "kit"
    write_kit(Kit(models=models_of(), batch_size=2, protocol=QUICK), folder)
    return folder


@pytest.fixture
def kit(fresh, tmp_path):
    return Path(shutil.copytree(fresh, tmp_path / "a kit"))


def command(kit, *options):
    return [sys.executable, "-I", str(kit / "measure.py"), *map(str, options)]


def run(kit, *options):
    """Runs the script as on a device: elsewhere, with an empty environment."""
    return subprocess.run(
        command(kit, *options), capture_output=True, text=True, timeout=120, check=False,
        cwd=kit.parent, env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def results_of(kit):
    return read_results(kit / "results.json")


# ---- the script stands alone -----------------------------------------------------------------


def test_the_script_is_python_3_8_and_imports_nothing_but_the_runtime():
    tree = ast.parse(SOURCE, feature_version=(3, 8))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


@pytest.mark.skipif(shutil.which("python3.8") is None, reason="no Python 3.8 here")
def test_an_old_python_reads_the_script(kit):
    version = subprocess.run(["python3.8", "--version"], capture_output=True, check=False)
    if version.returncode:
        pytest.skip("python3.8 does not start")
    done = subprocess.run(
        ["python3.8", "-I", "-S", str(kit / "measure.py"), "--quick"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == measure.BAD
    assert "pip install onnxruntime" in done.stderr  # read to the end, and no Traceback
    assert "Traceback" not in done.stderr


def test_without_the_runtime_it_says_what_to_install(kit):
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(kit / "measure.py")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == measure.BAD
    assert done.stderr.startswith("error: No module named")
    assert "-m pip install onnxruntime" in done.stderr


# ---- a whole measurement ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(fresh, tmp_path_factory):
    """A measured kit and what the script said."""
    kit = Path(shutil.copytree(fresh, tmp_path_factory.mktemp("measured") / "kit"))
    done = run(kit)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(kit=kit, out=done.stdout, results=results_of(kit))


def test_a_measurement_has_all_that_the_protocol_asks_for(measured):
    results = measured.results
    assert results.is_complete
    assert results.sittings == 1
    assert results.batch_size == 2
    for row in results.measurements:
        assert [len(visit) for visit in row.rounds_ms] == [measure.RUNS] * 7
        assert row.timing.rounds == 7
        assert 0 <= row.preempted <= 1
        assert row.open_ms > 0
        assert row.first_run_ms > 0
    assert [len(visit) for visit in results.reference_rounds_ms] == [2 * measure.RUNS] * 7
    assert results.sustained is not None
    assert results.sustained.file == "models/003.onnx"  # the slowest
    assert len(results.sustained.blocks) == measure.BLOCKS
    assert results.sustained.all.runs == sum(b.runs for b in results.sustained.blocks)
    assert results.probes["gflops_1"] > 0.1
    assert results.probes["copy_gbps_1"] > 0.1
    assert "round 7 of 7" in measured.out


def test_wider_networks_are_slower_and_the_reference_agrees_with_itself(measured):
    latencies = [timing.latency_ms for timing in measured.results.timings]
    assert latencies == sorted(latencies)
    reference = measured.results.manifest["reference"]
    own = next(m for m in measured.results.measurements if m.file == reference)
    again = min(min(visit) for visit in measured.results.reference_rounds_ms)
    assert 0.6 < again / own.timing.latency_ms < 1.6


def test_nothing_but_results_and_lock_is_added(fresh, measured):
    def names(folder):
        return {str(p.relative_to(folder)) for p in folder.rglob("*")}

    assert names(measured.kit) - names(fresh) == {"results.json", ".lock"}


def test_the_script_agrees_with_the_local_runner(measured):
    """The same files by both: the same ranks, and the same times but for what else runs."""
    models = [(measured.kit / m.file).read_bytes() for m in measured.results.measurements]
    ours = [t.latency_ms for t in LocalRunner().time(models, threads=1, rounds=7)]
    theirs = [t.latency_ms for t in measured.results.timings]
    assert spearmanr(ours, theirs).statistic == 1
    # a machine may be several times as fast a second later, for what else runs on it
    ratios = np.array(ours) / np.array(theirs)
    assert 1 / 20 < np.median(ratios) < 20
    assert max(ratios) < 3 * min(ratios)


@pytest.mark.slow  # meaningful only while no other test runs beside it
def test_the_script_ranks_many_networks_like_the_local_runner(tmp_path):
    rows = CNN.sample(60, np.random.default_rng(1))
    rows = rows[np.argsort(CNN.layer_table(rows).macs)[::5]]
    models = [exported(CNN, row) for row in rows]
    protocol = TimingProtocol(rounds=25, sustained_s=0.0)
    kit = Kit(models=[KitModel(data=data) for data in models], protocol=protocol, probes=False)
    write_kit(kit, tmp_path / "kit")
    assert run(tmp_path / "kit").returncode == 0
    theirs = np.array([t.latency_ms for t in results_of(tmp_path / "kit").timings])
    timings = LocalRunner().time(models, threads=1, rounds=25, min_seconds=2.5)
    ours = np.array([t.latency_ms for t in timings])
    assert spearmanr(ours, theirs).statistic >= 0.97
    assert 0.9 < np.median(ours / theirs) < 1.1


# ---- interruptions ---------------------------------------------------------------------------


def start_and_stop(kit, how, rounds=3):
    """Begins a long measurement and stops it after some rounds; how many it kept."""
    process = subprocess.Popen(
        command(kit, "--rounds", 4000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # may be ignored here
    )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if (kit / "results.json").exists():
                found = json.loads((kit / "results.json").read_text())
                if len(found["reference"]["samples_ms"]) >= rounds:
                    break
            time.sleep(0.005)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interruption_keeps_the_whole_rounds_and_the_next_run_continues(kit, how):
    code, err = start_and_stop(kit, how)
    kept = results_of(kit)
    assert not kept.is_complete
    rounds = len(kept.measurements[0].rounds_ms)
    assert rounds >= 3
    if how != signal.SIGKILL:
        assert code == measure.INTERRUPTED
        assert "run the same command again" in err
        assert "Traceback" not in err

    assert run(kit, "--rounds", rounds + 2).returncode == 0
    whole = results_of(kit)
    assert whole.is_complete
    assert whole.sittings == 2 or how == signal.SIGKILL
    for before, after in zip(kept.measurements, whole.measurements, strict=True):
        assert after.rounds_ms[:rounds] == before.rounds_ms
        assert len(after.rounds_ms) == rounds + 2
        assert after.open_ms == before.open_ms


def test_a_quick_look_is_part_of_the_whole(kit):
    assert run(kit, "--quick", "--sustained", 0).returncode == 0
    quick = results_of(kit)
    assert quick.sustained is None
    assert run(kit, "--rounds", 9).returncode == 0
    whole = results_of(kit)
    assert len(whole.measurements[0].rounds_ms) == 9
    assert whole.measurements[0].rounds_ms[:7] == quick.measurements[0].rounds_ms
    assert whole.sustained is not None


def test_a_complete_measurement_is_not_made_again_unless_told(measured, tmp_path):
    kit = Path(shutil.copytree(measured.kit, tmp_path / "kit"))
    assert run(kit).returncode == 0
    assert results_of(kit).timings == measured.results.timings
    assert run(kit, "--fresh").returncode == 0
    assert results_of(kit).timings != measured.results.timings


def test_two_measurements_do_not_run_at_once(kit):
    fcntl = pytest.importorskip("fcntl")
    with (kit / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(command(kit), stdout=subprocess.PIPE, text=True)
        assert "waiting" in process.stdout.readline()
    assert "4 networks" in process.stdout.readline()
    process.communicate(timeout=60)
    assert process.returncode == 0


# ---- refusals --------------------------------------------------------------------------------


def edit_manifest(kit, **changes):
    manifest = json.loads((kit / "kit.json").read_text())
    manifest.update(changes)
    (kit / "kit.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "options", "said"),
    [
        (lambda k: (k / "models/001.onnx").write_bytes(b"x"), (), "models/001.onnx is not the f"),
        (lambda k: (k / "models/001.onnx").unlink(), (), "the kit is damaged"),
        (lambda k: (k / "kit.json").write_text("{"), (), "the kit is damaged"),
        (lambda k: (k / "kit.json").write_text("[]"), (), "the kit is damaged"),
        (lambda k: edit_manifest(k, format="x"), (), "kit.json is of format 'x'"),
        (lambda k: (k / "kit.json").write_text(json.dumps({"format": measure.FORMAT})), (),
         "lacks protocol"),
        (lambda k: (k / "results.json").write_text("{}"), (), "is damaged"),
        (lambda k: (k / "results.json").write_text("[]"), (), "is damaged"),
        (lambda k: None, ("--rounds", 0), "--rounds must be 1 or more, got 0"),
        (lambda k: None, ("--sustained", -1), "--sustained must be 0 or more"),
        (lambda k: None, ("--sustained", "nan"), "--sustained must be 0 or more"),
        (lambda k: None, ("--cpus", "a-b"), "cannot stay on the processors a-b"),
        (lambda k: None, ("--provider", "NoSuchProvider"), "NoSuchProvider"),
        (lambda k: None, ("--frobnicate",), "unrecognized arguments"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_a_line(kit, damage, options, said):
    damage(kit)
    done = run(kit, *options)
    assert done.returncode == measure.BAD
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_the_runtime_refuses_is_named(tmp_path):
    write_kit(Kit(models=[KitModel(data=b"no model")]), tmp_path / "kit")
    done = run(tmp_path / "kit")
    assert done.returncode == measure.BAD
    assert "cannot open 000.onnx" in done.stderr


def test_results_of_another_kit_or_use_are_left_alone(measured, tmp_path):
    kit = Path(shutil.copytree(measured.kit, tmp_path / "kit"))
    before = (kit / "results.json").read_bytes()
    done = run(kit, "--threads", 2)
    assert done.returncode == measure.BAD
    assert "other settings (threads)" in done.stderr
    edit_manifest(kit, id="another")
    assert "belongs to another kit" in run(kit).stderr
    assert (kit / "results.json").read_bytes() == before


# ---- its parts, in this process --------------------------------------------------------------


@pytest.fixture
def board(tmp_path):
    """A root with what a board says of itself."""
    texts = {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: asimd\n\n"
        "processor\t: 1\nFeatures\t: asimd\n\nModel\t\t: Board B\n",
        "proc/device-tree/model": "Board B\0",
        "proc/meminfo": "MemTotal:  1000 kB\nMemAvailable: 10 kB\n",
        "sys/devices/system/cpu/cpu0/cache/index0/level": "1\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/class/thermal/thermal_zone1/temp": "none\n",
    }
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_a_board_says_what_it_is(board):
    facts = measure.machine(str(board))
    assert facts["governors"] == ["ondemand"]
    assert facts["max_clock_mhz"] == [1800.0]
    assert facts["memory_bytes"] == 1024_000
    assert facts["files"]["proc/device-tree/model"] == "Board B"
    assert facts["files"]["sys/devices/system/cpu/cpu0/cache/index0/level"] == "1"
    assert "processor\t: 0" in facts["files"]["proc/cpuinfo"]
    assert "processor\t: 1" not in facts["files"]["proc/cpuinfo"]
    assert "Board B" in facts["files"]["proc/cpuinfo"]


def test_a_board_says_how_it_is(board):
    now = measure.conditions(str(board))
    assert now["temperature_c"] == {"cpu-thermal-0": 48.312}
    assert now["clock_mhz"] == [600.0]


def test_where_nothing_can_be_read_nothing_is_said(tmp_path):
    facts = measure.machine(str(tmp_path))
    assert (facts["governors"], facts["memory_bytes"], facts["max_clock_mhz"]) == ([], None, [])
    assert measure.conditions(str(tmp_path))["temperature_c"] == {}


def test_quantiles_are_those_of_numpy():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 100):
        values = sorted(rng.exponential(size=n).tolist())
        for q in (0.0, 0.5, 0.9, 0.99, 1.0):
            assert measure.quantile(values, q) == pytest.approx(np.quantile(values, q))
    found = measure.summary(sorted([3.0, 1.0, 2.0]))
    assert found == {"runs": 3, "least_ms": 1.0, "p50_ms": 2.0, "p90_ms": 2.8, "p99_ms": 2.98}


class FakeSession:
    """Takes a given time a run, on the processor or off it; of a clock's time where it has one."""

    clock = None

    def __init__(self, plan=()):
        self.plan = list(plan)  # seconds to sleep in each run
        self.runs = 0

    def run(self, _outputs, _feed):
        self.runs += 1
        if self.clock is not None:
            self.clock.now += (self.plan.pop(0) if self.plan else 0.0) + 2e-4
            self.clock.worked += 2e-4
            return
        if self.plan:
            time.sleep(self.plan.pop(0))
        end = time.thread_time() + 2e-4
        while time.thread_time() < end:
            pass


def fake_network(plan=(), threads=1, keep_open=True):
    settings = {"threads": threads, "provider": "CPUExecutionProvider"}
    network = measure.Network("x.onnx", settings, keep_open)
    network.session = FakeSession(plan)
    return network


def test_a_visit_that_was_interrupted_is_repeated(monkeypatch):
    # Warm run, three that sleep; warm run, three that do not.
    network = fake_network([0, 0.01, 0.01, 0.01])
    network.session.clock = Clock(monkeypatch)
    samples, preempted, repeats = network.visit(3)
    assert repeats == 1
    assert samples == pytest.approx([0.2] * 3)
    assert preempted == 0
    assert network.session.runs == 2 * 4


def test_what_runs_on_the_processor_alone_was_not_interrupted():
    """By this machine's clocks, which tell so at once unless something else runs always."""
    assert any(fake_network().visit(1)[1] == 0.0 for _ in range(500))


def test_a_visit_is_repeated_so_often_and_no_more():
    network = fake_network([0.003] * 100)
    _, preempted, repeats = network.visit(3)
    assert (preempted, repeats) == (1.0, measure.REPEATS)
    assert network.session.runs == 4 * (1 + measure.REPEATS)


def test_with_more_threads_nothing_is_known_of_interruptions():
    network = fake_network([0.003] * 4, threads=2)
    _, preempted, repeats = network.visit(3)
    assert (preempted, repeats) == (None, 0)


def options_of(own, threads=2, provider="CPUExecutionProvider"):
    """The options that a network of a kit is opened with."""
    return measure.Network("x", {"threads": threads, "provider": provider}, True, own).options()


def test_a_network_is_opened_as_hwnas_itself_opens_it():
    each = [
        SessionSettings(), SessionSettings(optimisation="extended", threads=1),
        SessionSettings(spinning=True, arena=False), SessionSettings(memory_pattern=False),
    ]  # fmt: skip
    names = (
        "intra_op_num_threads", "inter_op_num_threads", "execution_mode", "log_severity_level",
        "graph_optimization_level", "enable_cpu_mem_arena", "enable_mem_pattern",
    )  # fmt: skip
    for settings in each:
        theirs, ours = options_of(opening(settings)), session_options(2, settings)
        assert {n: getattr(theirs, n) for n in names} == {n: getattr(ours, n) for n in names}
        spinning = [o.get_session_config_entry(SPINNING) for o in (theirs, ours)]
        assert spinning[0] == spinning[1]
    theirs = options_of(None)  # a kit of an older version
    assert {n: getattr(theirs, n) for n in names} == {
        n: getattr(session_options(2), n) for n in names
    }
    strict = options_of(opening(SessionSettings(provider="cuda")))
    assert strict.get_session_config_entry(NO_FALLBACK) == "1"


def test_the_command_line_says_what_a_network_leaves_open():
    settings = {"threads": 2, "provider": "SomeProvider"}
    open_ = measure.Network("x", settings)
    assert (open_.threads, open_.provider, open_.keep_open) == (2, "SomeProvider", True)
    own = opening(SessionSettings(threads=None))
    fixed = measure.Network("x", settings, True, own)
    assert (fixed.threads, fixed.provider) == (2, "CPUExecutionProvider")


def test_a_network_whose_threads_spin_is_open_for_its_visits_alone(monkeypatch):
    settings = {"threads": 2, "provider": "CPUExecutionProvider"}
    network = measure.Network("x", settings, True, opening(SessionSettings(spinning=True)))
    sessions = []

    def opened(self):
        self.session = FakeSession()
        sessions.append(self.session)
        return 0.0, 0.0

    monkeypatch.setattr(measure.Network, "open", opened)
    for _ in range(2):
        network.visit(3)
        assert network.session is None
    assert [session.runs for session in sessions] == [measure.WARM_RUNS + 1 + 3] * 2
    calm = measure.Network(
        "x", dict(settings, threads=1), True, opening(SessionSettings(spinning=True))
    )
    calm.visit(3)
    assert calm.session is not None


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("tensor(float)", "float32"), ("tensor(float16)", "float16"), ("tensor(uint8)", "uint8")],
)
def test_values_are_of_the_type_that_a_network_takes(kind, dtype):
    values = measure.random_values(kind, [1, 4, 4, 3])
    assert (values.dtype, values.shape) == (dtype, (1, 4, 4, 3))
    assert len(np.unique(values)) > 20
    with pytest.raises(measure.RefusedError, match="int64"):
        measure.random_values("tensor(int64)", [1])


def test_settings_of_the_kit_are_measured_with(tmp_path, monkeypatch):
    """Every network is opened as its settings say; two threads tell no interruptions."""
    data = exported(RESNET, [3], batch_size=2)
    each = [
        SessionSettings(), SessionSettings(optimisation="disabled"),
        SessionSettings(threads=2, spinning=True),
    ]  # fmt: skip
    models = [KitModel(data=data, settings=settings) for settings in each]
    write_kit(Kit(models=models, batch_size=2, protocol=QUICK, probes=False), tmp_path / "kit")
    opened, real = set(), ort.InferenceSession

    def noted(path, options, **how):
        how_well = options.graph_optimization_level
        opened.add((Path(path).name, how_well, options.intra_op_num_threads))
        return real(path, options, **how)

    monkeypatch.setattr(ort, "InferenceSession", noted)
    measure.measure(measure.parsed([]), str(tmp_path / "kit"))
    every = ort.GraphOptimizationLevel
    assert opened == {
        ("000.onnx", every.ORT_ENABLE_ALL, 1), ("001.onnx", every.ORT_DISABLE_ALL, 1),
        ("002.onnx", every.ORT_ENABLE_ALL, 2),
    }  # fmt: skip
    best, plain, spinning = results_of(tmp_path / "kit").measurements
    assert len(plain.timing.samples_ms) == measure.RUNS * plain.timing.rounds > 0
    assert len(spinning.timing.samples_ms) == len(best.timing.samples_ms)
    assert np.isnan(spinning.preempted)
    assert not np.isnan(best.preempted)


def test_operators_that_a_provider_refuses_are_named(tmp_path):
    name = "AzureExecutionProvider"  # it takes none of ours
    if name not in ort.get_available_providers():
        pytest.skip("this onnxruntime has no provider beside the processor's")
    path = tmp_path / "x.onnx"
    path.write_bytes(exported(RESNET, [0]))
    settings = {"threads": 1, "provider": "CPUExecutionProvider"}
    own = {"providers": [[name, {}]], "must_take_all": True}
    with pytest.raises(measure.RefusedError, match=f"{name} refuses operators of x.onnx: .*Conv"):
        measure.Network(str(path), settings, True, own).open()
    own["must_take_all"] = False
    network = measure.Network(str(path), settings, True, own)
    network.open()
    assert network.operators_left() == ""
    path.write_bytes(b"no model")
    own["must_take_all"] = True
    with pytest.raises(measure.RefusedError, match=r"cannot open x\.onnx"):
        measure.Network(str(path), settings, True, own).open()


def test_a_provider_that_the_device_lacks_is_named_with_those_it_has(tmp_path):
    model = KitModel(data=exported(RESNET, [0]), settings=SessionSettings(provider="qnn"))
    write_kit(Kit(models=[model], protocol=QUICK, probes=False), tmp_path / "kit")
    done = run(tmp_path / "kit")
    assert done.returncode == measure.BAD
    assert "has no QNNExecutionProvider here, it has: " in done.stderr
    assert "CPUExecutionProvider" in done.stderr


def test_short_memory_keeps_no_network_open(monkeypatch, fresh):
    network = fake_network(keep_open=False)
    network.visit(3)
    assert network.session is None
    kit = json.loads((fresh / "kit.json").read_text())
    for free, short in ((10, True), (10**9, False)):
        meminfo = f"MemAvailable: {free} kB"
        monkeypatch.setattr(measure, "read_text", lambda *_, text=meminfo: text)
        assert measure.is_short_of_memory(kit, str(fresh)) is short


def test_every_round_visits_all_in_another_order_between_the_reference(monkeypatch):
    visits = []

    class Network:
        def __init__(self, index):
            self.index = index

        def visit(self, runs):
            visits.append(self.index)
            return [1.0] * runs, 0.0, 0

    def rounds(seed):
        visits.clear()
        results = {
            "settings": {"rounds": 5, "runs": 2, "min_seconds": 0.0, "seed": seed},
            "models": [{"file": str(i), "samples_ms": [], "preempted": []} for i in range(6)],
            "reference": {"file": "2", "samples_ms": [], "preempted": []},
            "seconds": 0.0,
            "repeated_visits": 0,
        }
        monkeypatch.setattr(measure, "write_json", lambda *_: None)
        measure.measure_rounds([Network(i) for i in range(6)], results, "", lambda _: None)
        return np.array(visits).reshape(5, 8).tolist()

    first = rounds(1)
    for order in first:
        assert order[0] == order[-1] == 2
        assert sorted(order[1:-1]) == list(range(6))
    assert len({tuple(order) for order in first}) > 3
    assert rounds(1) == first
    assert rounds(2) != first


class Clock:
    """Time that passes by sleeping and by what is done alone, so that no machine is too slow."""

    def __init__(self, monkeypatch):
        self.now, self.worked, self.pauses = 100.0, 50.0, []
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(measure.time, "thread_time", lambda: self.worked)
        monkeypatch.setattr(measure.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def visit(self, runs):
        self.now += 0.001
        return [1.0] * runs, None, 0


@pytest.mark.parametrize("slow_round", [None, 7])
def test_rounds_are_spread_over_the_least_time(monkeypatch, capsys, slow_round):
    monkeypatch.setattr(measure, "write_json", lambda *_: None)
    clock = Clock(monkeypatch)
    woken, visits = [], []

    def visit(runs):
        visits.append(runs)
        if len(visits) == slow_round:
            clock.now += 0.05  # the machine was busy: the next rounds come without a pause
        return clock.visit(runs)

    network = SimpleNamespace(visit=visit, warm=lambda: woken.append(clock.now))
    results = {
        "settings": {"rounds": 2, "runs": 1, "min_seconds": 1.0, "seed": 0},
        "models": [{"file": "a", "samples_ms": [], "preempted": []}],
        "reference": {"file": "a", "samples_ms": [], "preempted": []},
        "seconds": 0.0,
        "repeated_visits": 0,
    }
    measure.measure_rounds([network], results, "", lambda _: None)
    rounds = len(results["models"][0]["samples_ms"])
    assert rounds == measure.MAX_ROUNDS
    assert results["seconds"] == pytest.approx(1.0)
    assert len(woken) == len(clock.pauses)  # after every pause, and only then
    assert min(clock.pauses) > 0
    assert len(woken) == rounds if slow_round is None else rounds - 10 < len(woken) < rounds
    assert "round 2 of 2" in capsys.readouterr().out


def test_a_network_wakes_the_processor_by_running_for_a_while(monkeypatch):
    clock = Clock(monkeypatch)
    network = object.__new__(measure.Network)
    network.feed, network.session = {}, FakeSession()
    network.session.clock = clock
    network.warm()
    assert clock.now == pytest.approx(100.0 + measure.WARM_S, abs=2.1e-4)
    assert network.session.runs in (15, 16)  # of 0.2 ms, in 3 ms
    network.session = None  # opened for its visits alone
    network.warm()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen")
def test_processors_are_named_by_ranges(monkeypatch):
    chosen = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cpus: chosen.append(cpus))
    measure.pin("4-6,1")
    assert chosen == [{1, 4, 5, 6}]


def test_files_are_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    measure.write_json(str(path), {"a": 1})
    monkeypatch.setattr(json, "dump", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure.write_json(str(path), {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_progress_is_said_from_time_to_time(capsys, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    every = measure.heartbeat(3)
    for i in range(8):
        every(str(i))
    said = capsys.readouterr().out.split()
    assert said == ["2", "5"]
