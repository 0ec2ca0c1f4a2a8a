"""The cluster's page: its configuration is one, and its command runs as pasted."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path

import psutil
import pytest
import yaml

from records import Ledger

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "experiments" / "cluster"
BIN = Path(sys.executable).parent
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 2}
"""As the page says, with a token of the test's own."""


def job_command():
    """The first command of the page that submits a job."""
    blocks = re.findall(r"```sh\n(.*?)```", (CLUSTER / "README.md").read_text(), re.S)
    return next(block for block in blocks if block.startswith("ray job submit"))


def test_the_configuration_is_one_that_ray_takes():
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = yaml.safe_load((CLUSTER / "cluster.yaml").read_text())
    util.validate_config(util.prepare_config(config))
    assert len(config["provider"]["worker_ips"]) == 3
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        for line in config[commands]:
            subprocess.run(["bash", "-n", "-c", line], check=True)


def test_the_page_names_options_and_files_that_exist():
    from experiments.config import SearchConfig

    text = (CLUSTER / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (CLUSTER / link).exists(), link
    arguments = shlex.split(job_command().split(" -- ")[1].replace("\\\n", " "))
    assert arguments[:3] == ["python", "-m", "experiments.search"]
    for option in arguments[3::2]:
        assert hasattr(SearchConfig(), option.removeprefix("--").replace("target", "targets"))


def test_what_is_ignored_is_not_sent_with_a_job(tmp_path):
    packaging = pytest.importorskip("ray._private.runtime_env.packaging")
    package = tmp_path / "package.zip"
    packaging._zip_files(str(ROOT), [], str(package), include_gitignore=True)
    assert package.stat().st_size < 10e6
    with zipfile.ZipFile(package) as file:
        names = file.namelist()
    assert "experiments/search.py" in names
    assert "latency_models/costs.py" in names
    top = {name.partition("/")[0] for name in names}
    assert not top & {".git", ".venv", "runs", "tests", "docs"}


@pytest.fixture
def head(tmp_path):
    """A head with a job server on this machine, as `ray start --head` starts it: its address."""
    pytest.importorskip("ray.dashboard.optional_deps")
    with tempfile.TemporaryDirectory(prefix="hw") as folder:
        port, jobs, agent, grpc, metrics, client = free_ports(6)
        command = [
            BIN / "ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=2",
            f"--dashboard-port={jobs}", f"--temp-dir={folder}", "--disable-usage-stats",
            f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}",
            f"--metrics-export-port={metrics}", f"--ray-client-server-port={client}",
            f"--object-store-memory={100 * 2**20}",
        ]  # fmt: skip
        environment = {
            **os.environ, **TOKEN, "RAY_TMPDIR": folder, "OMP_NUM_THREADS": "1",
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }  # fmt: skip
        with (tmp_path / "head.log").open("w") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                wait_for(f"http://127.0.0.1:{jobs}/api/version", tmp_path / "head.log", process)
                yield f"http://127.0.0.1:{jobs}"
            finally:
                end(process)


def end(process):
    """Ends a head and everything that it started."""
    everything = []
    if process.poll() is None:
        everything = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
    for one in everything:
        if one.is_running():
            one.kill()


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_for(url, log, process):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            request = urllib.request.Request(
                url, headers={"Authorization": f"Bearer {TOKEN['RAY_AUTH_TOKEN']}"}
            )
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail(log.read_text())


def submitted(head, out, *options):
    """Runs the page's command with another address and folder, and these options behind it."""
    text = job_command().replace("http://127.0.0.1:8265", head).replace("/shared/runs/first", out)
    assert head in text
    assert out in text
    command = text.strip() + " " + shlex.join(options)
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=500,
        env={
            **os.environ, **TOKEN, "PATH": f"{BIN}:{os.environ['PATH']}", "RAY_ADDRESS": "",
        },
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_of_the_page_runs_as_pasted(head, tmp_path):
    out = tmp_path / "shared" / "first"
    tiny = ("--epochs", "1", "--evaluations", "20", "--train-images", "200")
    done = submitted(head, str(out), *tiny)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "succeeded" in said
    assert "has room for 2 of 8 workers" in said

    front = json.loads((out / "front.json").read_text())
    assert front["search"]["evaluations"] == 20
    assert front["search"]["failed"] == 0
    assert front["config"]["executor"] == "ray"
    with Ledger.open(out / "evaluations.db", read_only=True) as ledger:
        found = {o.genes: o.value for o in ledger.observations("accuracy")}
    assert len(found) == 20
    for point in front["points"]:
        assert found[tuple(point["genes"])] == point["validation_accuracy"]

    lost = submitted(head, "runs/first", *tiny)
    assert lost.returncode != 0
    assert "removes after the job" in lost.stdout + lost.stderr
