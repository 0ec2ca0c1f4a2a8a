#!/usr/bin/env python3
"""Times the networks of this folder on the machine that runs it.

    python3 measure.py            everything; run it again to continue after an interruption
    python3 measure.py --quick    fewer rounds, for a first look

It needs Python 3.8 or newer and onnxruntime (which brings numpy); nothing is installed and nothing
outside this folder is written. The result is `results.json` beside this file, rewritten after
every round, so that an interruption loses one round at most.

All networks are timed in shuffled round-robin, so that drift and load fall on all alike, between
visits to a reference network. A visit is one run that is not timed and a few that are; a visit
during which the process was mostly off the processor is repeated. Threads do not spin between
runs: with several files open, spinning makes each read two to three times too slow. A network
that the manifest wants opened otherwise is; where its threads spin, it is opened for its visit
alone and closed after it.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from typing import Any, Callable  # noqa: UP035 (Python 3.8)

Say = Callable[[str], None]

FORMAT = "hwnas-kit-1"
RESULTS_FORMAT = "hwnas-kit-results-1"
RESULTS = "results.json"

ROUNDS = 7
"""Visits to each network, at least."""

RUNS = 3
"""Timed runs a visit, after one that is not timed."""

WARM_RUNS = 3
"""Further runs that are not timed, of a network that is opened for its visit alone."""

WARM_S = 0.003
"""Seconds of runs that are not timed after a pause: a processor that has slept is slow at first,
by up to 40 % for networks of a few hundredths of a millisecond."""

MAX_ROUNDS = 100
"""Rounds that a minimum time is filled with at most; pauses fill the rest."""

PREEMPTED = 1.05
"""A run that takes this many times its processor time was interrupted by something else."""

REPEATS = 2
"""How often a visit is repeated at most when more than half of its runs were interrupted."""

BLOCKS = 10
"""Parts that the sustained run is reported in."""

BAD = 2
"""Exit code of what running again does not mend: a damaged kit, a wrong option, no onnxruntime."""

INTERRUPTED = 130

OPENING = {"optimisation": "all", "spinning": False, "arena": True, "memory_pattern": True}
"""How a network is opened where the manifest does not say: as onnxruntime does best with many."""

LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

KEYS = ("protocol", "batch_size", "threads", "reference", "models", "probes")
"""What a kit's manifest must have."""

HERE = os.path.dirname(os.path.abspath(__file__))


class RefusedError(Exception):
    """The measurement cannot be made; the text says what to do."""


# ---- what the machine says of itself ------------------------------------------------------------


def read_text(path: str, limit: int = 65536) -> str:
    """The text of a file, "" where there is none or it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""


def machine(root: str = "/") -> dict[str, Any]:
    """The facts that a hardware profile is made from, as far as the machine tells."""
    patterns = ["proc/device-tree/model"] + [
        "sys/devices/system/cpu/cpu0/cache/index*/" + name
        for name in ("level", "type", "size", "shared_cpu_list")
    ]
    paths = [
        path for pattern in patterns for path in sorted(glob.glob(os.path.join(root, pattern)))
    ]
    files = {os.path.relpath(path, root): read_text(path, 4096) for path in paths}
    cpuinfo = read_text(os.path.join(root, "proc/cpuinfo"))
    # The first processor, and what boards write after the last one (model, revision).
    blocks = [block for block in cpuinfo.split("\n\n") if block.strip()]
    tail = [block for block in blocks[1:] if not block.lstrip().startswith("processor")]
    files["proc/cpuinfo"] = "\n\n".join(blocks[:1] + tail)
    cpu = os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*")
    governors = [read_text(p) for p in glob.glob(os.path.join(cpu, "cpufreq/scaling_governor"))]
    clocks = [read_text(p) for p in glob.glob(os.path.join(cpu, "cpufreq/cpuinfo_max_freq"))]
    memory = [
        line.split()[1]
        for line in read_text(os.path.join(root, "proc/meminfo")).splitlines()
        if line.startswith("MemTotal")
    ]
    return {
        "system": platform.platform(),
        "architecture": platform.machine(),
        "processor": platform.processor(),
        "cores": os.cpu_count() or 1,
        "usable_cores": len(usable_cpus()) or os.cpu_count() or 1,
        "memory_bytes": 1024 * int(memory[0]) if memory and memory[0].isdigit() else None,
        "governors": sorted(set(filter(None, governors))),
        "max_clock_mhz": sorted({int(c) / 1000 for c in clocks if c.isdigit()}),
        "python": platform.python_version(),
        "files": files,
    }


def usable_cpus() -> list[int]:
    """The processors that this process may use; empty where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def conditions(root: str = "/") -> dict[str, Any]:
    """What changes while one measures: temperatures, clocks, load; nothing where unreadable."""
    temperatures = {}
    for zone in sorted(glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*"))):
        value = read_text(os.path.join(zone, "temp"))
        if value.lstrip("-").isdigit():
            kind = read_text(os.path.join(zone, "type")) or "zone"
            temperatures[kind + "-" + zone.rsplit("thermal_zone", 1)[1]] = int(value) / 1000
    pattern = "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"
    clocks = [read_text(path) for path in sorted(glob.glob(os.path.join(root, pattern)))]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "temperature_c": temperatures,
        "clock_mhz": [int(clock) / 1000 for clock in clocks if clock.isdigit()],
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


# ---- files --------------------------------------------------------------------------------------


def write_json(path: str, value: Any) -> None:
    """Writes a file under another name first: it is the old one or the new one, never half."""
    temporary = path + ".partial"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_kit(folder: str) -> dict[str, Any]:
    """The manifest, with every file's hash compared."""
    try:
        with open(os.path.join(folder, "kit.json"), encoding="utf-8") as file:
            kit: dict[str, Any] = json.load(file)
        if kit["format"] != FORMAT:
            raise RefusedError(
                "kit.json is of format {!r}, this script reads {!r}".format(kit["format"], FORMAT)
            )
        lacking = [key for key in KEYS if key not in kit]
        if lacking:
            raise RefusedError("kit.json is damaged, it lacks {}".format(", ".join(lacking)))
        for entry in kit["models"] + kit["probes"]:
            with open(os.path.join(folder, entry["file"]), "rb") as file:
                if hashlib.sha256(file.read()).hexdigest() != entry["sha256"]:
                    raise RefusedError(
                        "{} is not the file that was exported: copy the kit again".format(
                            entry["file"]
                        )
                    )
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise RefusedError(f"the kit is damaged, copy it again: {what}") from error
    return kit


def begin(kit: dict[str, Any], settings: dict[str, Any], path: str, fresh: bool) -> dict[str, Any]:
    """The results to add to: those of an earlier sitting, or new ones."""
    if not fresh and os.path.exists(path):
        try:
            with open(path, encoding="utf-8") as file:
                found: dict[str, Any] = json.load(file)
            same = found["format"] == RESULTS_FORMAT and found["manifest"] == kit
            fixed = {k: v for k, v in settings.items() if k not in ("rounds", "sustained_s")}
            other = [k for k, v in fixed.items() if found["settings"].get(k) != v]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RefusedError(f"{path} is damaged ({error}): move it away, or --fresh") from error
        if not same or other:
            what = "another kit" if not same else "other settings ({})".format(", ".join(other))
            raise RefusedError(f"{path} belongs to {what}: move it away, or --fresh")
        found["settings"] = settings
        return found
    return {
        "format": RESULTS_FORMAT,
        "complete": False,
        "manifest": kit,
        "settings": settings,
        "machine": machine(),
        "sittings": [],
        "seconds": 0.0,
        "repeated_visits": 0,
        "models": [
            {"file": entry["file"], "sha256": entry["sha256"], "samples_ms": [], "preempted": []}
            for entry in kit["models"]
        ],
        "reference": {"file": kit["reference"], "samples_ms": [], "preempted": []},
        "sustained": None,
        "probes": None,
    }


def locked(folder: str) -> Any:
    """Holds the folder, so that no two measurements run at once; None where it cannot."""
    try:
        import fcntl
    except ImportError:
        return None
    file = open(os.path.join(folder, ".lock"), "w")  # noqa: SIM115 (open while measuring)
    for attempt in range(30):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            if attempt == 0:
                say("another measurement runs in this folder: waiting for it")
            time.sleep(1)
    raise SystemExit("another measurement still runs in this folder: end it first")


# ---- timing -------------------------------------------------------------------------------------


class Network:
    """One file: opened, run, timed."""

    def __init__(
        self, path: str, settings: dict[str, Any], keep_open: bool = True, own: Any = None
    ) -> None:
        given = {key: value for key, value in (own or {}).items() if value is not None}
        self.path = path
        self.how = dict(OPENING, **given)
        self.threads = self.how.get("threads", settings["threads"])
        self.providers = self.how.get("providers", [[settings["provider"], {}]])
        self.provider = self.providers[0][0]
        self.is_alone = self.how["spinning"] and self.threads > 1
        self.keep_open = keep_open and not self.is_alone
        self.session: Any = None
        self.feed: Any = None

    def options(self) -> Any:
        """The session's options, as hwnas itself sets them."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        level = LEVELS[self.how["optimisation"]]
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.enable_cpu_mem_arena = self.how["arena"]
        options.enable_mem_pattern = self.how["memory_pattern"]
        spinning = "1" if self.how["spinning"] else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        if self.how.get("must_take_all"):
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.log_severity_level = 3
        return options

    def open(self) -> tuple[float, float]:
        """Opens the session; the seconds that it took, and those of the first run."""
        import onnxruntime

        options, name = self.options(), os.path.basename(self.path)
        present = onnxruntime.get_available_providers()
        if self.provider not in present:
            raise RefusedError(
                f"onnxruntime {onnxruntime.__version__} has no {self.provider} here, it has: "
                + ", ".join(present)
            )
        start = time.perf_counter()
        try:
            self.session = onnxruntime.InferenceSession(
                self.path,
                options,
                providers=[(provider, given) for provider, given in self.providers],
                enable_fallback=0,
            )
        except Exception as error:
            left = self.operators_left()
            if left:
                said = f"{self.provider} refuses operators of {name}: {left}"
                raise RefusedError(said) from error
            raise RefusedError(
                f"onnxruntime {onnxruntime.__version__} cannot open {name} (1.17 or newer is "
                f"needed): {error}"
            ) from error
        opened = time.perf_counter() - start
        if self.provider not in self.session.get_providers():
            used = ", ".join(self.session.get_providers())
            raise RefusedError(f"{self.provider} is not used here, only {used}")
        entry = self.session.get_inputs()[0]
        if self.feed is None:
            self.feed = {entry.name: random_values(entry.type, entry.shape)}
        start = time.perf_counter()
        self.run()
        return opened, time.perf_counter() - start

    def operators_left(self) -> str:
        """Operators that a provider that must take all leaves to the processor; "" for none."""
        import onnxruntime

        if not self.how.get("must_take_all"):
            return ""
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(tempfile.gettempdir(), "hwnas-profile")
        options.log_severity_level = 4
        providers = [(provider, given) for provider, given in self.providers]
        try:
            session = onnxruntime.InferenceSession(
                self.path, options, providers=providers, enable_fallback=0
            )
            entry = session.get_inputs()[0]
            session.run(None, {entry.name: random_values(entry.type, entry.shape)})
            profile = session.end_profiling()
            events = json.loads(read_text(profile, 1 << 28))
            os.remove(profile)
        except Exception:  # it does not run with the processor's help either
            return ""
        ran = [event["args"] for event in events if event.get("cat") == "Node"]
        left = {a["op_name"] for a in ran if a.get("provider") == "CPUExecutionProvider"}
        return ", ".join(sorted(left))

    def run(self) -> None:
        """One run."""
        self.session.run(None, self.feed)

    def warm(self) -> None:
        """Runs until the processor is awake again, where the file is open."""
        awake = time.perf_counter() + WARM_S
        while self.session is not None and time.perf_counter() < awake:
            self.run()

    def visit(self, runs: int) -> tuple[list[float], float | None, int]:
        """Milliseconds of some runs after one that warms, and the share that was interrupted."""
        if self.session is None:
            self.open()
            for _ in range(WARM_RUNS if self.is_alone else 0):
                self.run()
        best: Any = None
        repeats = -1
        while repeats < REPEATS and (best is None or best[0] > 0.5):
            self.run()
            wall, off = [], []
            for _ in range(runs):
                processor, start = time.thread_time(), time.perf_counter()
                self.run()
                wall.append(time.perf_counter() - start)
                off.append(wall[-1] > PREEMPTED * (time.thread_time() - processor))
            share = sum(off) / runs if self.tells_preemption() else 0.0
            taken = (share, min(wall), wall)
            best = taken if best is None else min(best, taken)
            repeats += 1
        if not self.keep_open:
            self.session = None
        preempted = best[0] if self.tells_preemption() else None
        return [round(1000 * second, 6) for second in best[2]], preempted, repeats

    def tells_preemption(self) -> bool:
        """Whether processor time says anything: one thread, on the processor, a fine clock."""
        fine = time.get_clock_info("thread_time").resolution < 1e-4
        return self.threads == 1 and self.provider == "CPUExecutionProvider" and fine


def random_values(kind: str, shape: list[int]) -> Any:
    """Values for an input: normal ones, or pixels where it takes bytes."""
    import numpy

    random = numpy.random.RandomState(0)
    if kind == "tensor(uint8)":
        return random.randint(0, 256, shape).astype(numpy.uint8)
    kinds = {"tensor(float)": numpy.float32, "tensor(float16)": numpy.float16}
    if kind not in kinds:
        raise RefusedError(f"an input of {kind} cannot be timed")
    return random.standard_normal(shape).astype(kinds[kind])


def cold_starts(networks: list[Network], results: dict[str, Any], every: Say) -> None:
    """Opens every network; what that and the first run took is kept once."""
    for row, network in zip(results["models"], networks):  # noqa: B905 (Python 3.8)
        opened, first = network.open()
        row.setdefault("open_ms", round(1000 * opened, 6))
        row.setdefault("first_run_ms", round(1000 * first, 6))
        if not network.keep_open:
            network.session = None
        every("opened {}".format(row["file"]))


def measure_round(
    networks: list[Network], reference: int, results: dict[str, Any], every: Say
) -> None:
    """One round: every network once in a new order, the reference before and after."""
    settings = results["settings"]
    done = len(results["reference"]["samples_ms"])
    order = list(range(len(networks)))
    random.Random("{}-{}".format(settings["seed"], done)).shuffle(order)
    taken: dict[int, Any] = {}
    before = networks[reference].visit(settings["runs"])
    for place, index in enumerate(order):
        taken[index] = networks[index].visit(settings["runs"])
        every(f"round {done + 1}: network {place + 1} of {len(order)}")
    after = networks[reference].visit(settings["runs"])
    for index, row in enumerate(results["models"]):
        samples, preempted, repeats = taken[index]
        row["samples_ms"].append(samples)
        row["preempted"].append(preempted)
        results["repeated_visits"] += repeats
    results["reference"]["samples_ms"].append(before[0] + after[0])
    results["reference"]["preempted"].append(before[1])


def measure_rounds(
    networks: list[Network], results: dict[str, Any], path: str, every: Say
) -> None:
    """Rounds until there are enough of them and they are spread over the least time."""
    settings = results["settings"]
    files = [row["file"] for row in results["models"]]
    reference = files.index(results["reference"]["file"])
    began, earlier = time.perf_counter(), results["seconds"]
    rarely = heartbeat(1.0)
    first = done = len(results["reference"]["samples_ms"])
    while done < settings["rounds"] or (
        results["seconds"] < settings["min_seconds"] and done < MAX_ROUNDS
    ):
        measure_round(networks, reference, results, every)
        done += 1
        late = done * settings["min_seconds"] / MAX_ROUNDS
        pause = late - earlier - (time.perf_counter() - began)
        if pause > 0:
            time.sleep(pause)
            networks[reference].warm()
        results["seconds"] = earlier + time.perf_counter() - began
        write_json(path, results)
        left = (time.perf_counter() - began) / (done - first) * max(settings["rounds"] - done, 0)
        text = f"round {done} of {settings['rounds']}, about {left:.0f} s left"
        if done == settings["rounds"]:
            say(text)
        else:
            rarely(text if done < settings["rounds"] else f"round {done}, spread over time")


def sustained(networks: list[Network], results: dict[str, Any]) -> dict[str, Any]:
    """Runs the slowest network without a pause; the first part against the last shows heat."""
    least = [min(map(min, row["samples_ms"])) for row in results["models"]]
    slowest = least.index(max(least))
    network, seconds = networks[slowest], results["settings"]["sustained_s"]
    if network.session is None:
        network.open()
    say(
        "running {} for {:g} s without a pause".format(results["models"][slowest]["file"], seconds)
    )
    before, begin_s, blocks = conditions(), time.perf_counter(), []
    for block in range(BLOCKS):
        wall: list[float] = []
        while not wall or time.perf_counter() - begin_s < (block + 1) * seconds / BLOCKS:
            start = time.perf_counter()
            network.run()
            wall.append(1000 * (time.perf_counter() - start))
        blocks.append(sorted(wall))
        median = quantile(blocks[-1], 0.5)
        say(f"  part {block + 1} of {BLOCKS}: median {median:.4g} ms")
    return {
        "file": results["models"][slowest]["file"],
        "seconds": seconds,
        "blocks": [summary(block) for block in blocks],
        "all": summary(sorted(ms for block in blocks for ms in block)),
        "before": before,
        "after": conditions(),
    }


def summary(values: list[float]) -> dict[str, Any]:
    """Count, least and quantiles of sorted milliseconds."""
    found = {"runs": len(values), "least_ms": round(values[0], 6)}
    for name, q in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)):
        found[name] = round(quantile(values, q), 6)
    return found


def quantile(values: list[float], q: float) -> float:
    """The quantile of sorted values, between neighbours linearly."""
    place = q * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def probe(kit: dict[str, Any], folder: str, settings: dict[str, Any]) -> dict[str, float]:
    """What the machine reaches at a large matrix product and at copying memory."""
    found = {}
    for entry in kit["probes"]:
        for threads in sorted({1, len(usable_cpus()) or os.cpu_count() or 1}):
            use = dict(settings, threads=threads)
            network = Network(os.path.join(folder, entry["file"]), use)
            network.open()
            best, end = 1e30, time.perf_counter() + 0.7
            while time.perf_counter() < end or best == 1e30:
                start = time.perf_counter()
                network.run()
                best = min(best, time.perf_counter() - start)
            found[f"gflops_{threads}"] = round(entry["flop"] / best / 1e9, 3)
    source, copy = bytearray(os.urandom(1 << 20) * 32), bytearray(32 << 20)
    best = 1e30
    for _ in range(10):
        start = time.perf_counter()
        copy[:] = source
        best = min(best, time.perf_counter() - start)
    found["copy_gbps_1"] = round(2 * len(source) / best / 1e9, 3)  # read and written
    return found


# ---- the command --------------------------------------------------------------------------------


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


def heartbeat(seconds: float = 5.0) -> Say:
    """A function that prints a text, but not more often than this."""
    last = [time.perf_counter()]

    def every(text: str) -> None:
        if time.perf_counter() - last[0] >= seconds:
            last[0] = time.perf_counter()
            say(text)

    return every


def is_short_of_memory(kit: dict[str, Any], folder: str) -> bool:
    """Whether all networks open at once might not fit: then each is opened for its visit."""
    lines = read_text("/proc/meminfo").splitlines()
    free = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    size = sum(os.path.getsize(os.path.join(folder, entry["file"])) for entry in kit["models"])
    return bool(free) and free[0].isdigit() and 8 * size > 1024 * int(free[0])


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(
        description="Times the networks of this folder on this machine, into results.json."
    )
    add = parser.add_argument
    add("--quick", action="store_true", help=f"{ROUNDS} rounds and a sustained run of 5 s")
    add("--fresh", action="store_true", help="forget what results.json holds")
    add("--rounds", type=int, help="visits to each network, at least")
    add("--threads", type=int, help="threads of a network; else as the kit says")
    add(
        "--sustained", type=float, help="seconds that one network runs without a pause, 0 for none"
    )
    add("--cpus", help="processors to stay on, such as 4-7 or 0,2")
    add("--provider", default="CPUExecutionProvider", help="execution provider of onnxruntime")
    add("--low-memory", action="store_true", help="open one network at a time")
    options = parser.parse_args(arguments)
    for name, least in (("rounds", 1), ("threads", 1), ("sustained", 0)):
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise RefusedError(f"--{name} must be {least} or more, got {value}")
    return options


def settings_of(kit: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """How this measurement is made: the kit's protocol and what the command line changes."""
    protocol = kit["protocol"]
    rounds = ROUNDS if options.quick else protocol["rounds"]
    seconds = min(5.0, protocol["sustained_s"]) if options.quick else protocol["sustained_s"]
    return {
        "rounds": rounds if options.rounds is None else options.rounds,
        "runs": protocol["runs"],
        "min_seconds": protocol["min_seconds"],
        "sustained_s": seconds if options.sustained is None else options.sustained,
        "seed": protocol["seed"],
        "batch_size": kit["batch_size"],
        "threads": kit["threads"] if options.threads is None else options.threads,
        "provider": options.provider,
        "cpus": options.cpus,
    }


def pin(cpus: str) -> None:
    """Keeps this process on some processors."""
    try:
        wanted = set()
        for part in cpus.split(","):
            first, _, last = part.partition("-")
            wanted |= set(range(int(first), int(last or first) + 1))
        os.sched_setaffinity(0, wanted)
    except (ValueError, OSError, AttributeError) as error:
        raise RefusedError(f"cannot stay on the processors {cpus}: {error}") from error


def measure(options: argparse.Namespace, folder: str) -> None:
    """The whole measurement."""
    kit = load_kit(folder)
    settings = settings_of(kit, options)
    path = os.path.join(folder, RESULTS)
    results = begin(kit, settings, path, options.fresh)
    if options.cpus:
        pin(options.cpus)
    try:
        import numpy
        import onnxruntime
    except ImportError as error:
        advice = f"install it with: {sys.executable} -m pip install onnxruntime"
        raise RefusedError(f"{error}; {advice}") from error
    facts = {"onnxruntime": onnxruntime.__version__, "numpy": numpy.__version__}
    results["machine"].update(facts, providers=onnxruntime.get_available_providers())
    low_memory = options.low_memory or is_short_of_memory(kit, folder)
    sitting = dict(conditions(), **facts)
    sitting.update(first_round=len(results["reference"]["samples_ms"]), low_memory=low_memory)
    results["sittings"].append(sitting)
    results["complete"] = False
    networks_text = f"{len(kit['models'])} networks, batch {settings['batch_size']}"
    how = ", one open at a time" if low_memory else ""
    version = facts["onnxruntime"]
    say(f"{networks_text}, {settings['threads']} thread(s), onnxruntime {version}{how}")
    every = heartbeat()
    files = [os.path.join(folder, entry["file"]) for entry in kit["models"]]
    networks = [
        Network(file, settings, not low_memory, entry.get("settings"))
        for file, entry in zip(files, kit["models"])  # noqa: B905 (Python 3.8)
    ]
    cold_starts(networks, results, every)
    measure_rounds(networks, results, path, every)
    if settings["sustained_s"] > (results["sustained"] or {"seconds": 0})["seconds"]:
        results["sustained"] = sustained(networks, results)
        write_json(path, results)
    if results["probes"] is None and kit["probes"]:
        results["probes"] = probe(kit, folder, settings)
    results["complete"] = True
    sitting["after"] = conditions()
    write_json(path, results)
    say(f"done: {path}")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        options = parsed(arguments)
        lock = locked(HERE)
        measure(options, HERE)
    except RefusedError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return BAD
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr, flush=True)
        return INTERRUPTED
    del lock
    return 0


if __name__ == "__main__":
    sys.exit(main())
