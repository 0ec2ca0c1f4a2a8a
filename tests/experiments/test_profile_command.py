"""`hwnas profile export-kit`, `import`, `measure`, from the folder to the target in a search."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deployment import CommandRunner
from deployment.kit import manifest_id, read_results
from experiments.board_profile import board_profile, slug
from experiments.cli import run
from experiments.profile_command import ImportOptions, KitOptions, import_results, make_kit
from experiments.spaces import make_space
from experiments.target_report import HopelessMeasurementError
from hardware_profiles import device, device_names, own_devices_folder
from latency_models import calibration_networks, load_target, saved_targets
from records import BadInputError, CorruptFileError, ExistingRunError
from tests.deployment.made_results import made_manifest, made_results, written
from tests.latency_models.doubles import CNN, VIT, planted_ms, sampled

MANIFEST = made_manifest([CNN, VIT], networks=20)
LATENCIES = np.concatenate(
    [
        planted_ms(space, np.array([e["genes"] for e in MANIFEST["models"] if e["space"] == i]))
        for i, space in enumerate((CNN, VIT))
    ]
)
RESULTS = made_results(MANIFEST, LATENCIES)
SMALL = ("--image-size", "8", "--channels", "1", "--networks", "10", "--rounds", "7")


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """The user's own devices folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return own_devices_folder()


@pytest.fixture
def results(tmp_path):
    return written(RESULTS, tmp_path / "results.json")


def refused(outcome, *said):
    assert outcome.code == 2, outcome
    assert len(outcome.err.splitlines()) == 1, outcome.err
    for text in said:
        assert text in outcome.err
    return True


# ---- the kit ---------------------------------------------------------------------------------


def test_a_kit_holds_the_networks_that_calibration_would_time():
    options = KitOptions(spaces=("cnn", "vit"), networks=12, batch_size=2, threads=3, seed=5)
    kit = make_kit(options)
    assert (kit.batch_size, kit.threads) == (2, 3)
    for index, name in enumerate(options.spaces):

        class Facts:
            image_size, channels, num_classes = 32, 3, 10

        space = make_space(name, Facts())
        assert kit.spaces[index]["hash"] == space.hash
        genes = np.array([m.genes for m in kit.models if m.space == index])
        np.testing.assert_array_equal(genes, calibration_networks(space, 12, 5))
        macs = [m.macs for m in kit.models if m.space == index]
        assert macs == space.layer_table(genes).macs.tolist()
        assert {tuple(r) for r in space.extremes("largest")} <= {tuple(r) for r in genes}


def test_from_the_kit_to_a_cost_model(hwnas, tmp_path, own):
    """Exported, measured by a process that sees no hwnas, imported, loaded."""
    kit = tmp_path / "kit"
    outcome = hwnas(
        "profile", "export-kit", "--space", "cnn", "--out", kit, "--sustained", 0.3, *SMALL
    )
    assert outcome.code == 0, outcome.err
    assert "10 networks for batch 1 and 1 thread(s)" in outcome.out
    board = Path(shutil.copytree(kit, tmp_path / "board"))
    done = subprocess.run(
        [sys.executable, "-I", str(board / "measure.py")], cwd=board, env={}, check=False,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    imported = hwnas("profile", "import", board / "results.json", "--name", "my-board", "--force")
    assert imported.code == 0, imported.err
    assert "noise floor" in imported.out
    assert "load_target('my-board-t1-b1')" in imported.out
    assert saved_targets() == ["my-board-t1-b1"]
    assert "my-board" in device_names()
    saved = load_target("my-board-t1-b1")
    assert saved.target.profile == device("my-board")

    class Digits:
        image_size, channels, num_classes = 8, 1, 10

    space = make_space("cnn", Digits())
    costs = saved.cost_model(space)
    measured = read_results(board / "results.json").timings
    assert costs.measured_ms.tolist() == [t.latency_ms for t in measured]
    small, large = costs.latency_ms(
        np.concatenate([space.extremes("smallest")[:1], space.extremes("largest")[-1:]])
    )
    assert 0 < small < large
    report = json.loads((own / "my-board-t1-b1" / "report.json").read_text())
    assert report["steadiness"]["networks"] == 10
    raw = (own / "my-board-t1-b1" / "results.json").read_bytes()
    assert raw == (board / "results.json").read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--space", "cnnn"), "unknown search space"),
        (("--space", "cnn", "--networks", "5"), "networks must be >= 10, got 5"),
        (("--space", "cnn", "--space", "cnn"), "a space is given twice"),
        (("--space", "cnn", "--batch", "0"), "batch_size must be >= 1"),
        (("--space", "cnn", "--rounds", "0"), "rounds and runs must be >= 1"),
        (("--space", "cnn", "--threads", "0"), "threads and batch_size must be >= 1"),
        ((), "--space"),
    ],
)
def test_a_kit_that_cannot_be_is_refused_and_nothing_written(hwnas, tmp_path, options, said):
    assert refused(hwnas("profile", "export-kit", "--out", tmp_path / "kit", *options), said)
    assert not (tmp_path / "kit").exists()


def test_a_space_too_small_for_a_cost_model_is_refused(tmp_path):
    (tmp_path / "cwd" / "tiny_spaces.py").write_text(
        "from tests.latency_models.doubles import OneConvolution\nTiny = OneConvolution\n"
    )
    with pytest.raises(BadInputError, match="2 networks, a cost model needs 10"):
        make_kit(KitOptions(spaces=("tiny_spaces:Tiny",)))
    with pytest.raises(BadInputError, match="which space"):
        make_kit(KitOptions(spaces=()))


def test_a_folder_that_holds_something_is_left_alone(hwnas, tmp_path):
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "mine").write_text("x")
    out = ("--out", tmp_path / "kit")
    assert refused(hwnas("profile", "export-kit", "--space", "cnn", *out), "not an empty folder")
    assert [p.name for p in (tmp_path / "kit").iterdir()] == ["mine"]


# ---- import ----------------------------------------------------------------------------------


def test_every_space_of_a_kit_gets_its_cost_model(results, own, capsys):
    saved, report = import_results(results, ImportOptions())
    assert saved.target.name == "raspberry-pi-4-model-b-rev-1-4-t1-b1"
    assert [fit.space for fit in report.fits] == ["CNNSpace", "ViTSpace"]
    for space in (CNN, VIT):
        costs = saved.cost_model(space)
        genes = sampled(space, 60, seed=9)
        assert np.median(np.abs(costs.latency_ms(genes) / planted_ms(space, genes) - 1)) < 0.15
    assert "CNNSpace" in capsys.readouterr().out


def test_the_profile_is_what_the_device_says_of_itself(results):
    profile = board_profile(read_results(results))
    assert profile.kind == "board-cpu"
    assert profile.vendor == "Raspberry Pi 4 Model B Rev 1.4"
    assert profile.cores.value == 4
    assert profile.max_clock_ghz.value == 1.8
    assert profile.peak_gflops["fp32"].value == 40.0
    assert profile.peak_gflops_per_thread["fp32"].value == 11.5
    assert [level.name for level in profile.memory] == ["l1d", "dram"]
    assert profile.memory[0].size_bytes.value == 32 << 10
    assert profile.main_memory.bandwidth_gbps_per_thread.value == 4.5
    assert profile.main_memory.size_bytes.value == 4 << 30
    assert profile.instruction_sets == ("asimd",)
    assert profile.runtimes == {"onnxruntime": "1.19.2"}
    assert all(quantity.measured for _, _, quantity in profile.quantities())
    assert board_profile(read_results(results), "mine").name == "mine"


def changed(tmp_path, change):
    made = copy.deepcopy(RESULTS)
    change(made)
    return written(made, tmp_path / "changed.json")


@pytest.mark.parametrize(
    ("files", "model"),
    [
        ({"proc/cpuinfo": "model name : Some CPU"}, "Some CPU"),
        ({"proc/cpuinfo": "processor : 0"}, "aarch64"),
        ({}, "aarch64"),
        (None, "aarch64"),
    ],
)
def test_a_device_without_a_name_is_called_by_its_processor(tmp_path, files, model):
    path = changed(tmp_path, lambda r: r["machine"].update(files=files, max_clock_mhz=[]))
    profile = board_profile(read_results(path))
    assert (profile.vendor, profile.name) == (model, slug(model))
    assert profile.max_clock_ghz is None


@pytest.mark.parametrize("path", ["../x", "/etc/x", "proc/../../x", "home/x", "proc/a b"])
def test_a_file_of_the_device_is_written_nowhere_else(tmp_path, path):
    bad = changed(tmp_path, lambda r: r["machine"].update(files={path: "x"}))
    with pytest.raises(BadInputError, match="which no kit writes"):
        board_profile(read_results(bad))


def test_without_probes_a_profile_must_be_named(tmp_path, own):
    path = changed(tmp_path, lambda r: r.update(probes=None))
    with pytest.raises(BadInputError, match="--device or --profile"):
        import_results(path, ImportOptions())
    saved, _ = import_results(path, ImportOptions(device="raspberry-pi-4"))
    assert saved.target.profile == device("raspberry-pi-4")
    assert saved.target.name == "raspberry-pi-4-t1-b1"
    assert not (own / "raspberry-pi-4.yaml").exists()


def test_a_profile_of_a_file_and_a_folder_of_ones_own(results, tmp_path, own):
    shipped = Path(__file__).parents[2] / "hardware_profiles/devices/raspberry-pi-4.yaml"
    options = ImportOptions(profile=shipped, out=tmp_path / "mine")
    saved, _ = import_results(results, options)
    assert saved.folder == tmp_path / "mine"
    assert load_target(tmp_path / "mine").target == saved.target
    assert saved_targets() == []
    import_results(results, ImportOptions(name="new", out=tmp_path / "other"))
    assert "new" not in device_names()


def test_nothing_is_overwritten(results, own):
    import_results(results, ImportOptions(name="mine"))
    before = (own / "mine.yaml").read_bytes()
    with pytest.raises(ExistingRunError, match="--device mine adds a target"):
        import_results(results, ImportOptions(name="mine"))
    with pytest.raises(ExistingRunError):
        import_results(results, ImportOptions(device="mine"))
    assert (own / "mine.yaml").read_bytes() == before


def test_hopeless_measurements_are_refused_unless_forced(tmp_path, hwnas, own):
    path = written(made_results(MANIFEST, LATENCIES, noise=4.0), tmp_path / "noisy.json")
    assert refused(hwnas("profile", "import", path), "the noise floor is", "--force")
    assert not own.exists()
    forced = hwnas("profile", "import", path, "--force", "--name", "noisy")
    assert forced.code == 0
    assert "warning: the noise floor of" in forced.out
    with pytest.raises(HopelessMeasurementError):
        import_results(path, ImportOptions())


def fewer(results):
    kept = [e for e in MANIFEST["models"] if e["space"] == 0 or int(e["file"][7:10]) < 25]
    few = dict(MANIFEST, models=kept)
    few["id"] = manifest_id(few)
    results["manifest"] = few
    results["models"] = [r for r in results["models"] if int(r["file"][7:10]) < 25]


def all_equal(results):
    for row in results["models"]:
        row["samples_ms"] = [[1.0] * 3] * 9


def with_manifest(**changes):
    def change(results):
        manifest = copy.deepcopy(MANIFEST)
        for key, value in changes.items():
            manifest["spaces"][0][key] = value
        manifest["id"] = manifest_id(manifest)
        results["manifest"] = manifest

    return change


def no_space(results):
    manifest = dict(MANIFEST, spaces=[])
    manifest["id"] = manifest_id(manifest)
    results["manifest"] = manifest


UNKNOWN = {"space": "Mine", "version": 1, "parameters": {}}
NEWER = {**CNN.to_json(), "version": 99}


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (fewer, BadInputError, "has 5 networks of ViTSpace, a cost model needs 10"),
        (all_equal, BadInputError, "all 20 networks of CNNSpace in"),
        (no_space, CorruptFileError, "belong to no search space"),
        (with_manifest(hash="0123"), CorruptFileError, "with hash 0123, here it has"),
        (with_manifest(definition=UNKNOWN), CorruptFileError, "unknown search space 'Mine'"),
        (with_manifest(definition=NEWER), CorruptFileError, "is of version 1 here, got 99"),
    ],
)
def test_measurements_that_fit_no_cost_model_are_refused(tmp_path, own, change, kind, said):
    path = changed(tmp_path, change)
    with pytest.raises(kind) as caught:
        import_results(path, ImportOptions(force=True))
    assert said in str(caught.value)
    assert not own.exists()


def test_a_bad_row_ends_with_one_line(hwnas, tmp_path, own):
    path = changed(tmp_path, lambda r: r["models"][3]["samples_ms"][2].__setitem__(0, -1))
    assert refused(hwnas("profile", "import", path), "models[3].samples_ms[2][0] is -1")
    assert refused(hwnas("profile", "import", tmp_path / "none.json"), "there is no such file")
    options = ("--device", "raspberry-pi-4", "--name", "x")
    assert refused(hwnas("profile", "import", path, *options), "exclude each other")
    assert refused(hwnas("profile", "import", path, "--resolution", "0"), "within 0 and 1")
    assert not own.exists()


OWN_SPACE = """
from dataclasses import dataclass
from search_spaces import SearchSpace
from search_spaces.blocks import classifier


@dataclass(frozen=True, kw_only=True)
class BoardSpace(SearchSpace):
    image_size: int = 6

    def build(self, net, images):
        x = images
        for i in range(2):
            x = net.conv2d(x, net.choice(f"width{i}", (4, 8, 12, 16)), kernel=3, name=f"c{i}")
        return classifier(net, x, self.num_classes)
"""


def test_a_space_of_ones_own_goes_the_same_way(hwnas, tmp_path, monkeypatch):
    (tmp_path / "cwd" / "board_spaces.py").write_text(OWN_SPACE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = ("--space", "board_spaces:BoardSpace", "--networks", "10", "--sustained", "0")
    outcome = hwnas(
        "profile", "measure", "--here", *options, "--rounds", "7", "--name", "own", "--force"
    )
    assert outcome.code == 0, outcome.err
    assert "BoardSpace" in outcome.out
    results = own_devices_folder() / "own-t1-b1" / "results.json"
    again = hwnas(
        "profile", "import", results, "--device", "own", "--out", tmp_path / "again", "--force",
        "--space", "board_spaces:BoardSpace",
    )  # fmt: skip
    assert again.code == 0, again.err
    sys.modules.pop("board_spaces", None)


# ---- measure ---------------------------------------------------------------------------------


def stand_in(tmp_path, **changes):
    """A file of commands that use this machine."""
    (tmp_path / "device").mkdir(exist_ok=True)
    local = CommandRunner.local()
    lines = {
        "name": "stand-in", "push": local.push, "run": local.run, "pull": local.pull,
        "clean": local.clean, "folder": str(tmp_path / "device"), "pause_s": 0.0, **changes,
    }  # fmt: skip
    path = tmp_path / "board.yaml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items()))
    return path


def test_a_device_that_commands_reach_becomes_a_target(hwnas, tmp_path, own):
    options = ("--space", "cnn", *SMALL, "--sustained", "0", "--force", "--name", "mine")
    file = ("--command-file", stand_in(tmp_path))
    outcome = hwnas("profile", "measure", *options, *file)
    assert outcome.code == 0, outcome.err
    assert "measuring 10 networks on stand-in" in outcome.out
    assert "round 7 of 7" in outcome.out
    assert saved_targets() == ["mine-t1-b1"]
    assert list((tmp_path / "device").iterdir()) == []
    again = hwnas("profile", "measure", *options, *file)  # before anything is measured
    assert refused(again, "mine-t1-b1 already exists")
    assert "measuring" not in again.out


def test_a_run_that_breaks_off_for_good_is_kept(hwnas, tmp_path):
    script = f"{sys.executable} -I $1/measure.py --rounds 2; exit 255"
    commands = stand_in(tmp_path, run=f"sh -c '{script}' sh {{remote}}", retries=0)
    options = ("--space", "cnn", *SMALL, "--sustained", "0", "--command-file", commands)
    outcome = hwnas("profile", "measure", *options)
    assert refused(outcome, "exit code 255", "the rounds that were measured are in")
    kept = Path(outcome.out.split("hwnas profile import ")[1].strip().replace("\n", ""))
    assert str(kept) in outcome.err
    assert len(read_results(kept).measurements[0].rounds_ms) >= 2
    shutil.rmtree(kept.parent)


def test_a_run_that_broke_off_goes_on_when_it_is_started_again(hwnas, tmp_path, own):
    measure, flag = f"{sys.executable} -I $1/measure.py", tmp_path / "broken"
    script = tmp_path / "run.sh"  # breaks off after two rounds, the first time
    script.write_text(
        f"if test -e {flag}; then {measure}; exit $?; fi\ntouch {flag}\n{measure} --rounds 2\n"
        'sed -i \'s/"complete": *true/"complete": false/\' $1/results.json\nexit 255\n'
    )
    commands = stand_in(tmp_path, run=f"sh {script} {{remote}}", retries=0)
    options = ("--space", "cnn", *SMALL, "--sustained", "0", "--force", "--name", "mine")
    first = hwnas("profile", "measure", *options, "--command-file", commands)
    assert refused(first, "exit code 255")
    (kept,) = own.glob(".unfinished/*/results.json")
    before = read_results(kept).measurements[0].rounds_ms
    assert not read_results(kept).is_complete

    again = hwnas("profile", "measure", *options, "--command-file", commands)
    assert again.code == 0, again.err
    assert f"an earlier run broke off after {len(before)} rounds" in again.out
    assert "round 1 of 7" not in again.out
    found = read_results(own / "mine-t1-b1" / "results.json")
    assert found.sittings == 2
    rounds = found.measurements[0].rounds_ms
    assert len(rounds) >= 7
    assert rounds[: len(before)] == before
    assert list(own.glob(".unfinished/*")) == []


def test_a_run_that_gave_nothing_leaves_nothing(hwnas, tmp_path, own):
    commands = stand_in(tmp_path, run="false {remote}", retries=0)
    options = ("--space", "cnn", *SMALL, "--sustained", "0", "--command-file", commands)
    assert refused(hwnas("profile", "measure", *options), "exit code 1")
    assert list(own.glob(".unfinished/*")) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give one of --command-file, --ssh, --adb, --ray, --here, got none"),
        (("--here", "--ssh", "pi@board"), "got --ssh, --here"),
        (("--ssh", "-oProxyCommand=x"), "host"),
        (("--command-file", "none.yaml"), "there is no such file"),
        (("--adb", "a;b"), "serial"),
        (("--ray", "device:rpi4", "--address", "head"), "address must be host:port"),
        (("--ssh", "pi@board", "--address", "head:6379"), "name the device with --ray"),
        (("--here", "--device", "raspberry-pi-44"), "did you mean 'raspberry-pi-4'"),
    ],
)
def test_which_device_must_be_clear(hwnas, options, said):
    assert refused(hwnas("profile", "measure", "--space", "cnn", *options), said)


def test_this_machine_measured_by_another_process_is_local(hwnas, monkeypatch):
    options = ("--space", "cnn", *SMALL, "--sustained", "0", "--force")
    outcome = hwnas("profile", "measure", "--here", *options)
    assert outcome.code == 0, outcome.err
    assert saved_targets() == ["local-t1-b1"]
    assert load_target("local-t1-b1").target.is_local


def test_the_group_still_measures_this_machine(hwnas, capsys):
    assert "runtimes: " in hwnas("profile").out
    with pytest.raises(SystemExit):
        run(["profile", "nonsense"])
    assert "export-kit, import, measure" in capsys.readouterr().err
