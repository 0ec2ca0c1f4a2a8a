"""The scripts that a bundle carries, run as they will be: by a Python without torch and onnx."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from deployment import deploy
from deployment.bundles.card import model_card
from deployment.bundles.code import cpp_code
from deployment.bundles.file_answers import torch_answers
from deployment.bundles.format import sealed
from deployment.bundles.input import Interface
from deployment.bundles.scripts import verify
from deployment.runners.runner import LocalRunner
from hardware_profiles import Target
from records import file_hash
from supernet import Split, Subnet
from supernet.data import Normalisation
from tests.deployment.doubles import HYBRID, PROFILE, TARGET, rows_of, shaken_subnet

CPP_HEADERS = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
ROW = rows_of(HYBRID, 1)[-1]
KNOWN = Normalisation(mean=(0.4, 0.5, 0.3), deviation=(0.2, 0.25, 0.3), source_size=(16, 16))

ALONE = """
import runpy, sys

ABSENT = {
    "torch", "onnx", "scipy", "sklearn", "safetensors", "yaml", "records", "search_spaces",
    "hardware_profiles", "supernet", "deployment", "latency_models", "experiments",
}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError("not on this machine: " + name)

sys.meta_path.insert(0, Absent())
for name in ABSENT:
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(name + " can be imported: this proves nothing")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(script, *arguments):
    """Runs a script in a new process that has onnxruntime and numpy, not what made the file."""
    command = [sys.executable, "-I", "-B", "-c", ALONE, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def images(count, seed=0):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def made(folder, **options):
    given = {
        "target": TARGET,
        "architecture": HYBRID.decode(ROW)[0].to_json(),
        "space": HYBRID.to_json(),
        "predicted": {
            "latency_ms": 1.25, "latency_source": "predicted: made up", "energy_mj": 0.5,
            "latency_interval_90_ms": [1.0, 1.5], "peak_memory_bytes": 2048.0,
            "energy_source": "modelled: made up", "energy_interval_mj": [0.1, 0.9],
        },
        "facts": {"title": "knee", "dataset": "pictures", "limits": {
            "latency_ms": 1e6, "energy_mj": 0.1}, "validation_accuracy": 0.5},
        "runner": LocalRunner(),
        "images": images(20),
        "test": Split(images(40, seed=1), torch.arange(40) % 10),
        "interface": Interface(class_names=tuple("abcdefghij"), normalisation=KNOWN),
        "cold_starts": 1,
    }  # fmt: skip
    subnet = shaken_subnet(HYBRID, ROW)
    return deploy(subnet, folder, **(given | options))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return made(tmp_path_factory.mktemp("scripts") / "bundle")


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copytree(original.folder, tmp_path / "copy")


def rewrite(folder, change):
    """Changes the record and seals it again, with the hashes of its files."""
    path = folder / "bundle.json"
    record = json.loads(path.read_text())
    change(record)
    record["files"] = {name: file_hash(folder / name) for name in record["files"]}
    record["seal"] = sealed(record)
    path.write_text(json.dumps(record))


def test_a_whole_bundle_verifies_without_torch(copy):
    done = run_alone(copy / "verify.py")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "all checks hold"
    assert [line.split()[1] for line in lines[:-1]] == [
        "files", "session", "answers", "answers", "answers", "answers", "classes", "repeats",
    ]  # fmt: skip
    assert all(line.startswith("ok") for line in lines[:-1])
    assert not (copy / "__pycache__").exists()


def test_an_altered_file_fails_and_is_named(copy):
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    done = run_alone(copy / "verify.py")
    assert done.returncode == 1
    assert re.search(r"FAIL files\s+model\.onnx was altered", done.stdout)
    assert done.stdout.splitlines()[-1].startswith("NOT all checks hold")


def test_a_missing_file_fails_and_is_named(copy):
    (copy / "samples.npz").unlink()
    done = run_alone(copy / "verify.py")
    assert done.returncode == 1
    assert re.search(r"FAIL files\s+samples\.npz is missing", done.stdout)


def test_an_altered_record_fails(copy):
    path = copy / "bundle.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    done = run_alone(copy / "verify.py")
    assert done.returncode == 1
    assert "bundle.json was altered" in done.stdout


def test_a_newer_format_cannot_be_checked(copy):
    rewrite(copy, lambda record: record.update(format="hwnas-bundle-9"))
    done = run_alone(copy / "verify.py")
    assert done.returncode == 2
    assert "made by a newer version" in done.stderr
    assert "hwnas-bundle-9" in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is damaged"),
        ("[]", "is no bundle of hwnas"),
        ('{"format": "hwnas-bundle-1"}', "of an older format"),
        (None, "there is no bundle"),
    ],
)
def test_what_is_no_bundle_cannot_be_checked(copy, content, said, capsys):
    (copy / "bundle.json").unlink()
    if content is not None:
        (copy / "bundle.json").write_text(content)
    assert verify.main(["--folder", str(copy)]) == verify.CANNOT
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["verify.py", "benchmark.py"])
def test_the_scripts_are_of_an_old_python(original, name):
    ast.parse((original.folder / name).read_text(), feature_version=(3, 8))


def test_without_onnxruntime_it_says_what_to_install(copy):
    script = ALONE.replace('"torch", "onnx"', '"torch", "onnxruntime", "onnx"')
    command = [sys.executable, "-I", "-B", "-c", script, str(copy / "verify.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "pip install onnxruntime numpy" in done.stderr


def other_network(folder):
    """Puts another network's answers in the place of torch's, with matching hashes."""
    with np.load(folder / "samples.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    for name in arrays:
        if name.endswith("_logits"):
            arrays[name] = np.roll(arrays[name], 1, axis=1)
    np.savez_compressed(folder / "samples.npz", **arrays)
    rewrite(folder, lambda record: None)


def test_another_function_fails_though_all_hashes_fit(copy, capsys):
    other_network(copy)
    assert verify.main(["--folder", str(copy)]) == verify.FAILS
    said = capsys.readouterr().out
    assert re.search(r"FAIL answers\s+16 real images", said)
    assert re.search(r"FAIL classes\s+0 of 16", said)
    assert re.search(r"ok\s+files", said)


def test_another_input_than_recorded_fails(copy, capsys):
    rewrite(copy, lambda record: record["input"].update(shape=[2, 3, 16, 16]))
    assert verify.main(["--folder", str(copy)]) == verify.FAILS
    assert re.search(r"FAIL session\s+the input is", capsys.readouterr().out)


def test_samples_that_cannot_be_read_fail(copy, capsys):
    (copy / "samples.npz").write_bytes(b"no archive")
    rewrite(copy, lambda record: None)
    assert verify.main(["--folder", str(copy)]) == verify.FAILS
    assert "samples.npz cannot be read" in capsys.readouterr().out


def test_a_file_that_does_not_open_fails(copy, capsys):
    (copy / "model.onnx").write_bytes(b"no graph")
    rewrite(copy, lambda record: None)
    assert verify.main(["--folder", str(copy)]) == verify.FAILS
    assert "cannot open model.onnx" in capsys.readouterr().out


def test_an_absent_provider_is_replaced_and_said(copy, capsys):
    def change(record):
        record["session"]["providers"] = [["TensorrtExecutionProvider", {"device_id": "0"}]]
        record["session"]["config_entries"]["session.disable_cpu_ep_fallback"] = "1"

    rewrite(copy, change)
    assert verify.main(["--folder", str(copy)]) == verify.HOLDS
    assert "has no TensorrtExecutionProvider" in capsys.readouterr().out


def test_a_tolerance_that_cannot_be_stated_is_not_judged(copy, capsys):
    def change(record):
        record["samples"]["kinds"]["extreme"].update(tolerance=None, note="made up")

    rewrite(copy, change)
    assert verify.main(["--folder", str(copy)]) == verify.HOLDS
    assert "not judged (made up)" in capsys.readouterr().out


def test_the_scripts_difference_is_ours():
    from deployment.bundles.samples import difference

    rng = np.random.default_rng(0)
    ours, theirs = rng.standard_normal((2, 5, 10)).astype(np.float32)
    for measure in ("largest", "rms"):
        assert verify.difference(measure, ours, theirs) == difference(measure, ours, theirs)
        assert verify.difference(measure, ours * np.nan, theirs) == float("inf")
        assert difference(measure, ours * np.nan, theirs) == float("inf")
    assert difference("largest", theirs + 0.5, theirs) == pytest.approx(
        0.5 / np.abs(theirs).max(), rel=1e-5
    )
    assert difference("rms", theirs + 0.5, theirs) == pytest.approx(0.5 / theirs.std(), rel=1e-5)


def test_the_benchmark_times_beside_what_was_recorded(copy):
    done = run_alone(copy / "benchmark.py", "--runs", "50", "--cold-starts", "1")
    assert done.returncode == 0, done.stderr
    assert "recorded on: bench-t1-b1, measured: local process" in done.stdout
    rows = {line[:22].strip(): line for line in done.stdout.splitlines()}
    for name in ("least", "p50", "p90", "p99", "open", "first run"):
        assert rows[name].count(" ms") == 2, done.stdout
    assert not (copy / "__pycache__").exists()
    again = run_alone(
        copy / "benchmark.py", "--runs", "50", "--cold-starts", "0", "--json", "--threads", "1"
    )
    warm = json.loads(again.stdout)["warm"]
    assert 0 < warm["least_ms"] <= warm["p50_ms"] <= warm["p90_ms"] <= warm["p99_ms"]


@pytest.mark.parametrize("interface", [
    Interface(normalisation=KNOWN, takes_pixels=True, any_batch=True),
    Interface(any_batch=True),
])  # fmt: skip
def test_pixels_and_any_batch_verify_and_run_too(tmp_path, interface):
    folder = made(tmp_path / "bundle", interface=interface, cold_starts=1).folder
    done = run_alone(folder / "verify.py")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_alone(folder / "benchmark.py", "--runs", "5", "--cold-starts", "0", "--json")
    assert done.returncode == 0, done.stderr


def test_the_benchmark_refuses_what_it_cannot_run(copy):
    assert run_alone(copy / "benchmark.py", "--runs", "0").returncode == 2
    (copy / "bundle.json").unlink()
    done = run_alone(copy / "benchmark.py")
    assert done.returncode == 2
    assert "there is no bundle" in done.stderr


# ---- the card -----------------------------------------------------------------------------------


def test_the_card_states_what_the_record_holds(original):
    record = original.record
    card = (original.folder / "README.md").read_text()
    tested, measured = record["tested"], record["measured"]
    low, high = tested["interval_95"]
    for text in (
        "# bench-t1-b1: knee",
        f"{record['parameters']:,}",
        f"**{100 * tested['accuracy']:.2f} %**",
        f"{100 * low:.2f} % to {100 * high:.2f} %",
        f"{measured['latency_ms']:.4g} ms",
        f"| measured, p50 | {measured['p50_ms']:.4g} ms",
        f"| measured, p90 | {measured['p90_ms']:.4g} ms",
        f"| measured, p99 | {measured['p99_ms']:.4g} ms",
        f"| opening the file | {record['cold_start']['open_ms']:.4g} ms",
        "| predicted before it was timed | 1.25 ms (90 % interval 1 to 1.5) | predicted: made up",
        "| energy of one run | 0.5 mJ (0.1 to 0.9) | modelled: made up",
        "subtract the mean (0.4, 0.5, 0.3), divide by the deviation (0.2, 0.25, 0.3)",
        "| latency | 1e+06 ms |",
        "| energy | 0.1 mJ | 0.5 mJ, modelled | NOT kept |",
        "a, b, c, d, e, f, g, h, i, j",
        "Energy was modelled, not measured",
    ):
        assert text in card, text
    assert "None" not in card.replace("run(None", "")


def block(card, language):
    return re.search(rf"```{language}\n(.*?)```", card, re.DOTALL)[1]


@pytest.mark.parametrize("takes_pixels", [False, True])
def test_the_cards_python_gives_torchs_classes(tmp_path, takes_pixels):
    border = Normalisation(
        mean=KNOWN.mean, deviation=KNOWN.deviation, source_size=(12, 12), border=(2, 2)
    )
    interface = Interface(normalisation=border, takes_pixels=takes_pixels)
    folder = made(tmp_path / "bundle", interface=interface, cold_starts=0).folder
    pixels = np.random.default_rng(0).integers(0, 256, (1, 12, 12, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    name = "images" if takes_pixels else "pixels"
    code = block((folder / "README.md").read_text(), "python")
    code, count = re.subn(
        rf"^{name} = np\.zeros\(\(1, 12, 12, 3\), np\.uint8\).*$",
        f"{name} = np.load(r'{tmp_path / 'pixels.npy'}')",
        code,
        flags=re.MULTILINE,
    )
    assert count == 1, code
    names: dict = {}
    code = code.replace('"model.onnx"', f"r'{folder / 'model.onnx'}'")
    exec(compile(code, "README.md", "exec"), names)
    padded = np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0))) / 255
    values = (padded - np.array(KNOWN.mean)) / np.array(KNOWN.deviation)
    tensor = torch.from_numpy(values.transpose(0, 3, 1, 2).astype(np.float32)).contiguous()
    ours = torch_answers(Subnet.load(folder / "subnet"), tensor)
    assert names["logits"] == pytest.approx(ours, abs=1e-4)
    assert names["classes"].tolist() == ours.argmax(1).tolist()


def test_the_cards_cpp_names_the_recorded_settings(original):
    record = json.loads(json.dumps(original.record))
    record["session"] |= {"threads": 3, "optimisation": "basic", "arena": False,
                          "memory_pattern": False}  # fmt: skip
    record["session"]["providers"] = [["CUDAExecutionProvider", {}]]
    code = cpp_code(record)
    for text in (
        "options.SetIntraOpNumThreads(3);", "ORT_ENABLE_BASIC", "DisableCpuMemArena",
        "DisableMemPattern", "append CUDAExecutionProvider", "shape{1, 3, 16, 16}",
        'AddConfigEntry("session.intra_op.allow_spinning", "0")', "CreateTensor<float>",
    ):  # fmt: skip
        assert text in code
    record["input"]["type"] = "tensor(uint8)"
    assert "std::vector<uint8_t>" in cpp_code(record)


@pytest.mark.slow
@pytest.mark.skipif(
    not (CPP_HEADERS / "onnxruntime_cxx_api.h").exists() or not shutil.which("c++"),
    reason="needs a compiler and libonnxruntime-dev (or its folder in ONNXRUNTIME_INCLUDE)",
)
def test_the_cards_cpp_compiles_and_finds_the_class(original, tmp_path):
    code = block((original.folder / "README.md").read_text(), "cpp")
    code = code.replace('"model.onnx"', f'"{original.folder / "model.onnx"}"')
    (tmp_path / "run.cpp").write_text(code)
    (library,) = (Path(ort.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # as a release has it
        (tmp_path / name).symlink_to(library)
    options = [f"-I{CPP_HEADERS}", f"-L{tmp_path}", "-lonnxruntime", f"-Wl,-rpath,{tmp_path}"]
    command = ["c++", "-std=c++17", "run.cpp", *options, "-o", "run"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run(["./run"], cwd=tmp_path, check=True, capture_output=True, text=True)
    session = ort.InferenceSession(original.folder / "model.onnx")
    (entry,) = session.get_inputs()
    (logits,) = session.run(None, {entry.name: np.zeros((1, *entry.shape[1:]), np.float32)})
    assert int(said.stdout) == logits[0].argmax()


def test_the_card_of_a_costs_only_bundle_says_so(tmp_path):
    bundle = made(
        tmp_path / "bundle", runner=None, test=None, interface=None, images=None,
        predicted={}, facts={},
    )  # fmt: skip
    card = (bundle.folder / "README.md").read_text()
    assert "not timed: costs only" in card
    assert "was run on no test images" in card
    assert "not known to this bundle" in card
    assert run_alone(bundle.folder / "verify.py").returncode == 0


def test_the_card_tells_how_sizes_change(original):
    record = json.loads(json.dumps(original.record))
    record["input"]["normalisation"] |= {"resized_to": [16, 16], "border": [2, 1]}
    before = (
        "add a black border of 2 rows above, 1 below, and as many columns left and right; resize "
        "to 16 x 16 pixels, bilinear and antialiased"
    )
    assert f"yours to do: {before}; divide the pixels" in model_card(record)
    record["input"]["preprocessing"] = {"layout": "hwc"}
    assert f"Yours to do before: {before}." in model_card(record)
    assert "its preprocessing included" in model_card(record)
    record["output"]["classes"] = [str(i) for i in range(1000)]
    assert "of 1000 classes, named in `bundle.json`" in model_card(record)


def test_memory_and_batch_of_a_larger_target(tmp_path):
    target = Target(profile=PROFILE, batch_size=3)
    bundle = made(tmp_path / "bundle", target=target, cold_starts=0)
    assert bundle.record["tested"]["images"] == 40  # not a multiple of the batch
    assert run_alone(bundle.folder / "verify.py").returncode == 0
    weights = bundle.record["memory"]["weight_bytes"]
    assert weights == pytest.approx(4 * bundle.record["parameters"], rel=0.1)
