"""Devices that commands reach, with this machine in the device's place."""

import itertools
import json
import os
import pickle
import shlex
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from deployment import CommandRunner, DeviceError
from deployment.kit import Kit, KitModel, TimingProtocol, measure
from deployment.runners.command import CommandFailedError, run_command
from deployment.runners.command_file import read_command_file
from deployment.runners.command_runner import filled
from records import BadInputError, CorruptFileError, MissingFileError
from tests.deployment.doubles import RESNET
from tests.deployment.test_runner import exported

PYTHON = shlex.quote(sys.executable)
ONE = Kit(
    models=[KitModel(data=exported(RESNET, [0]))],
    protocol=TimingProtocol(rounds=3, min_seconds=0.0, sustained_s=0.0),
    probes=False,
)


@pytest.fixture
def device(tmp_path):
    """The folder of a stand-in for a device."""
    (tmp_path / "device").mkdir()
    return tmp_path / "device"


@pytest.fixture
def runner(device):
    """Copies with `cp`, runs the script with `sh -c` as `ssh` would on the other side."""
    return CommandRunner(
        push="cp -r {local} {remote}",
        run=f"sh -c '{PYTHON} -I -u {{remote}}/measure.py'",
        pull="cp {remote}/results.json {local}",
        clean="rm -rf {remote}",
        name="stand-in",
        folder=str(device),
        timeout_s=60,
        pause_s=0.0,
    )


def running(runner, script, **changes):
    """The runner with another program in the place of `measure.py`; its folder is `$1`."""
    shell = f"sh -c {shlex.quote(script)} sh {{remote}}"
    return replace(runner, run=shell, **changes)


def failure(runner, tmp_path):
    with pytest.raises(DeviceError) as caught:
        runner.measure(ONE, tmp_path / "results.json")
    return str(caught.value)


# ---- it works --------------------------------------------------------------------------------


def test_files_are_timed_on_the_device_and_nothing_is_left_there(runner, device):
    models = [exported(RESNET, [width], batch_size=4) for width in (3, 0)]
    seen = []
    timings = runner.time(
        models, threads=1, rounds=4, runs=2, seed=5, on_round=lambda i, n: seen.append((i, n))
    )
    assert [timing.rounds for timing in timings] == [4, 4]
    assert [len(timing.samples_ms) for timing in timings] == [8, 8]
    assert timings[0].latency_ms > timings[1].latency_ms  # in the order given
    assert seen[-1] == (4, 4)
    assert list(device.iterdir()) == []


def test_nothing_to_time_asks_no_device(runner):
    assert replace(runner, push="false {local} {remote}").time([], threads=1) == []


def test_this_machine_is_a_device_too(tmp_path):
    lines = []
    results = CommandRunner.local().measure(ONE, tmp_path / "results.json", lines.append)
    assert len(results.timings) == 1
    assert results.manifest["models"][0]["sha256"] in (tmp_path / "results.json").read_text()
    assert any("round 3 of 3" in line for line in lines)


def test_a_dropped_connection_is_taken_up_where_it_broke_off(runner, tmp_path, device):
    """The first run is cut after two rounds, the second ends with a network's error code."""
    script = f"""
        n=$(cat {device}/n 2>/dev/null || echo 0); n=$((n+1)); echo $n > {device}/n
        if [ $n = 1 ]; then {PYTHON} -I $1/measure.py --rounds 2; exit 255; fi
        if [ $n = 2 ]; then exit 255; fi
        exec {PYTHON} -I $1/measure.py
    """
    results = running(runner, script).measure(ONE, tmp_path / "results.json")
    assert (device / "n").read_text().strip() == "3"
    assert results.sittings == 2
    assert results.measurements[0].timing.rounds == 3


def test_a_push_that_breaks_off_is_tried_again_in_a_new_folder(runner, tmp_path, device):
    script = f"""
        n=$(cat {device}/n 2>/dev/null || echo 0); n=$((n+1)); echo $n > {device}/n
        if [ $n = 1 ]; then mkdir $2; exit 1; fi
        cp -r "$1" $2
    """
    push = f"sh -c {shlex.quote(script)} sh {{local}} {{remote}}"
    results = replace(runner, push=push).measure(ONE, tmp_path / "results.json")
    assert len(results.timings) == 1
    assert [path.name for path in device.iterdir()] == ["n"]


# ---- it fails --------------------------------------------------------------------------------


def test_a_command_that_is_none_is_named(runner, tmp_path):
    said = failure(replace(runner, push="no-such-program {local} {remote}"), tmp_path)
    assert said.startswith("stand-in: push cannot be started: No such file")
    assert "no-such-program" in said
    assert "tries" not in said


@pytest.mark.parametrize("code", [2, 126, 127])
def test_what_another_try_does_not_mend_is_not_tried_again(runner, tmp_path, device, code):
    script = f"echo x >> {device}/n; echo first >&2; echo the reason >&2; exit {code}"
    said = failure(running(runner, script), tmp_path)
    assert f"run ended with exit code {code}" in said
    assert "\n  first\n  the reason" in said
    assert (device / "n").read_text() == "x\n"


def test_a_failure_shows_command_code_and_last_lines_after_all_tries(runner, tmp_path, device):
    script = f"echo x >> {device}/n; seq 100 >&2; exit 255"
    said = failure(running(runner, script, retries=1), tmp_path)
    assert "exit code 255: sh -c" in said
    assert "(2 tries)" in said
    assert "\n  100" in said
    assert "\n  90" not in said
    assert "is left on the device" in said
    assert (device / "n").read_text() == "x\nx\n"


def test_output_is_shown_where_there_are_no_errors(runner, tmp_path):
    assert "\n  only output" in failure(running(runner, "echo only output; exit 2"), tmp_path)


def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    runner, tmp_path, device, monkeypatch
):
    """A clock that runs only once the command hangs: no machine is too slow to come so far."""
    hours = itertools.count(0, 3600)
    named = device / "pid"
    clock = SimpleNamespace(monotonic=lambda: next(hours) if named.exists() else 0)
    monkeypatch.setattr("deployment.runners.command.time", clock)
    script = f"sleep 300 & echo $! > {device}/new; mv {device}/new {named}; wait"
    began = time.monotonic()
    said = failure(running(runner, script, retries=0), tmp_path)
    assert time.monotonic() - began < 100
    assert "run was silent for 60 s and was ended" in said
    pid = int(named.read_text())
    end = time.monotonic() + 60
    while _is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _is_alive(pid)


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_a_device_that_gives_up_for_good_leaves_the_rounds_that_it_measured(
    runner, tmp_path, device
):
    script = f"{PYTHON} -I $1/measure.py --rounds 2 --fresh; exit 255"
    said = failure(running(runner, script, retries=0), tmp_path)
    assert "the rounds that were measured are in" in said
    found = json.loads((tmp_path / "results.json").read_text())
    assert len(found["models"][0]["samples_ms"]) == 2
    assert list(device.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("printf '{\"format\": ' > $1/results.json", "not valid JSON"),
        ("printf garbage > $1/results.json", "not valid JSON"),
        ("printf '{}' > $1/results.json", "its format is None"),
        ("true", "pull ended with exit code 1"),
    ],
)
def test_results_that_are_none_are_refused(runner, tmp_path, command, said):
    assert said in failure(running(runner, command, retries=0), tmp_path)


CHANGE = """
import json, sys
path = sys.argv[1] + "/results.json"
r = json.load(open(path))
{}
json.dump(r, open(path, "w"))
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("r['models'] = []", "models lack 1 of the kit's networks: models/000.onnx"),
        ("r['models'][0]['samples_ms'][1][0] = 0", r"models[0].samples_ms[1][0] is 0"),
        ("r['models'] *= 2", "models[1] is a duplicate"),
    ],
)
def test_results_that_lack_something_are_refused(runner, tmp_path, change, said):
    change = shlex.quote(CHANGE.format(change))
    script = f"{PYTHON} -I $1/measure.py && {PYTHON} -c {change} $1"
    message = failure(running(runner, script), tmp_path)
    assert "stand-in gave back results that cannot be used" in message
    assert said in message


def test_results_of_another_kit_are_refused(runner, tmp_path, device):
    other = replace(ONE, batch_size=3)
    runner.measure(other, device / "other.json")
    script = f"cp {device}/other.json $1/results.json"
    assert "results of another kit" in failure(running(runner, script), tmp_path)


def test_an_interrupt_ends_the_command_and_brings_what_there_is(runner, tmp_path, device):
    def interrupt(line):
        if "round 3" in line:
            raise KeyboardInterrupt

    script = f"{PYTHON} -I -u $1/measure.py; sleep 300"
    with pytest.raises(KeyboardInterrupt):
        running(runner, script).measure(ONE, tmp_path / "results.json", interrupt)
    assert (tmp_path / "results.json").exists()
    assert list(device.iterdir()) == []


def test_what_goes_on_in_the_background_does_not_keep_a_command(monkeypatch):
    """It is silent for ten seconds of a clock that runs once it has said its line."""
    lines = []
    clock = SimpleNamespace(monotonic=lambda: 10.0 * len(lines))
    monkeypatch.setattr("deployment.runners.command.time", clock)
    began = time.monotonic()
    run_command("ssh", ["sh", "-c", "sleep 60 & echo $!"], 60, lines.append)
    assert time.monotonic() - began < 50
    (background,) = map(int, lines)
    assert _is_alive(background)
    os.kill(background, signal.SIGKILL)


def test_a_machine_that_stands_still_after_the_end_loses_no_lines(monkeypatch):
    """Ten seconds pass at every look at the clock, and the command has ended by the first line."""
    lines = []
    ticks = itertools.count(0, 10)
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    monkeypatch.setattr("deployment.runners.command.time", clock)

    def read(line):
        if not lines:
            time.sleep(0.3)
        lines.append(line)

    run_command("ssh", ["sh", "-c", "seq 500"], 1e6, read)
    assert lines == [str(i) for i in range(1, 501)]


def test_output_that_is_no_text_does_not_stop_a_command():
    with pytest.raises(CommandFailedError, match="exit code 3") as caught:
        run_command("run", ["sh", "-c", "printf '\\377\\376\\n' >&2; exit 3"], 60)
    assert caught.value.code == 3


# ---- templates -------------------------------------------------------------------------------


def test_a_path_with_spaces_stays_one_word():
    places = {"local": "/tmp/a b; rm -rf $HOME", "remote": "kit"}
    words = filled("scp -r {local} 'pi@my board:{remote}'", places)
    assert words == ["scp", "-r", "/tmp/a b; rm -rf $HOME", "pi@my board:kit"]
    assert filled("sh -c 'cd ${local}; {}'", places) == ["sh", "-c", "cd ${local}; {}"]


def test_ssh_and_adb_are_what_one_would_type():
    ssh = CommandRunner.ssh("pi@board", python="~/venv/bin/python", options="-i key")
    assert filled(ssh.push, {"local": "/tmp/k", "remote": "kit"}) == [
        "scp", "-q", "-r", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-i", "key",
        "/tmp/k", "pi@board:kit",
    ]  # fmt: skip
    assert filled(ssh.run, {"remote": "kit"})[-4:] == [
        "pi@board", "~/venv/bin/python", "-u", "kit/measure.py",
    ]  # fmt: skip
    assert filled(ssh.clean, {"remote": "kit"})[-4:] == ["pi@board", "rm", "-rf", "kit"]
    assert ssh.name == "pi@board"
    adb = CommandRunner.adb("0123")
    assert filled(adb.push, {"local": "/tmp/k", "remote": "/data/k"}) == [
        "adb", "-s", "0123", "push", "/tmp/k", "/data/k",
    ]  # fmt: skip
    assert adb.folder == "/data/local/tmp"
    assert filled(CommandRunner.adb().run, {"remote": "k"})[:2] == ["adb", "shell"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"push": "scp {local} board:"}, r"push lacks {remote}"),
        ({"push": ""}, "push must be a command with {local} and {remote}, got ''"),
        ({"run": "ssh board {local} {remote}"}, r"run has {local}; its places are {remote}"),
        ({"run": "ssh board '{remote}"}, "run cannot be split into words"),
        ({"pull": "scp {remote} {locall}"}, "pull has {locall}"),
        ({"clean": "rm"}, "clean lacks {remote}"),
        ({"folder": "a b"}, "folder 'a b' may hold"),
        ({"folder": "$(reboot)"}, "may hold"),
        ({"folder": "-rf"}, "may hold"),
        ({"timeout_s": 0}, "timeout_s must be positive"),
        ({"timeout_s": "60"}, "timeout_s must be positive"),
        ({"retries": 1.5}, "retries"),
        ({"retries": -1}, "got 60, -1 and 0.0"),
    ],
)
def test_a_template_that_cannot_work_is_refused(runner, change, said):
    with pytest.raises(BadInputError) as caught:
        replace(runner, **change)
    assert said in str(caught.value)


@pytest.mark.parametrize("host", ["pi@board; reboot", "-oProxyCommand=x", "", "a b"])
def test_a_host_that_a_shell_misreads_is_refused(host):
    with pytest.raises(BadInputError, match="host"):
        CommandRunner.ssh(host)


# ---- the file --------------------------------------------------------------------------------


def test_a_file_of_commands_is_a_runner(tmp_path, runner):
    path = tmp_path / "board.yaml"
    path.write_text(
        "push: cp -r {local} {remote}\nrun: python3 {remote}/measure.py\n"
        "pull: cp {remote}/results.json {local}\nname: mine\ntimeout_s: 5\nretries: 0\n"
    )
    assert read_command_file(path) == CommandRunner(
        push="cp -r {local} {remote}",
        run="python3 {remote}/measure.py",
        pull="cp {remote}/results.json {local}",
        name="mine",
        timeout_s=5,
        retries=0,
    )
    path.write_text("ssh: pi@board\npython: python3.9\nname: Pi\npause_s: 1.5\n")
    ssh = CommandRunner.ssh("pi@board", python="python3.9")
    assert read_command_file(path) == replace(ssh, name="Pi", pause_s=1.5)
    path.write_text("adb: '12'\nfolder: /sdcard\n")
    assert read_command_file(path) == CommandRunner.adb("12", folder="/sdcard")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1", "a mapping is needed"),
        ("ssh: [", "not valid YAML"),
        ("shh: pi@board", "unknown key 'shh'; did you mean 'ssh'?"),
        ("ssh: 3", "ssh must be text, got 3"),
        ("ssh: a\nretries: true", "retries must be a number, got True"),
        ("ssh: a\nretries: 1.5", "retries must be a whole number, got 1.5"),
        ("name: x", "either ssh, or adb, or ray, or push, run and pull must be given, got none"),
        ("ssh: a\nadb: b", "got ssh, adb"),
        ("ssh: a\npush: b {local} {remote}", "got ssh, push"),
        ("adb: a\noptions: b", "options means nothing beside adb"),
        ("push: b {local} {remote}", "run is missing"),
        ("push: b\nrun: a\npull: c\npython: d", "python means nothing beside push"),
        ("push: b\nrun: a\npull: c", "push lacks {local}"),
        ("ssh: a b", "host 'a b' may hold"),
    ],
)
def test_a_file_that_is_none_names_the_key(tmp_path, text, said):
    path = tmp_path / "board.yaml"
    path.write_text(text)
    with pytest.raises(CorruptFileError) as caught:
        read_command_file(path)
    assert "board.yaml" in str(caught.value)
    assert said in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.yaml"):
        read_command_file(tmp_path / "none.yaml")
    with pytest.raises(OSError, match="read the commands"):
        read_command_file(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(CorruptFileError, match="not valid YAML"):
        read_command_file(tmp_path / "x.yaml")


def test_a_runner_goes_to_another_process_as_it_is(runner):
    assert pickle.loads(pickle.dumps(runner)) == runner


def test_exit_codes_that_are_not_retried_hold_the_scripts_refusal():
    from deployment.runners.kit_runner import NOT_MENDED

    assert measure.BAD in NOT_MENDED
    assert measure.INTERRUPTED not in NOT_MENDED
