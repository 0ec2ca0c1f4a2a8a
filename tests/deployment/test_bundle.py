import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from deployment import (
    LocalRunner,
    Timing,
    VerificationError,
    deploy,
    describe_target,
    open_session,
)
from deployment.bundles.bundle import FORMAT, load_model
from hardware_profiles import Quantity, Target
from records import ExistingRunError, file_hash, read_json, versions
from search_spaces import Architecture, SearchSpace
from supernet import Subnet
from tests.deployment.doubles import (
    HYBRID,
    PROFILE,
    TARGET,
    CountingRunner,
    rows_of,
    shaken_subnet,
)

ROW = rows_of(HYBRID, 1)[-1]
PREDICTED = {"latency_ms": 1.25, "coverage": {"measured": 0.5}}
FACTS = {"accuracy": 0.9, "note": None}


@pytest.fixture
def subnet():
    return shaken_subnet(HYBRID, ROW)


def deployed(subnet, folder, **options):
    given = {
        "target": TARGET,
        "architecture": HYBRID.decode(ROW)[0].to_json(),
        "space": HYBRID.to_json(),
        "predicted": PREDICTED,
        "facts": FACTS,
        "runner": None,
    }
    return deploy(subnet, folder, **(given | options))


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_folder_holds_model_record_and_subnet(subnet, tmp_path):
    bundle = deployed(subnet, tmp_path / "deep" / "bundle")
    assert files(bundle.folder) == [
        "README.md",
        "benchmark.py",
        "bundle.json",
        "model.onnx",
        "samples.npz",
        "subnet/graph.json",
        "subnet/weights.safetensors",
        "verify.py",
    ]
    assert bundle.model_path == bundle.folder / "model.onnx"
    assert files(tmp_path) == [f"deep/bundle/{name}" for name in files(bundle.folder)]


def test_record_has_all_that_reproduces_its_numbers(subnet, tmp_path):
    runner = CountingRunner()
    bundle = deployed(subnet, tmp_path / "bundle", runner=runner, seed=5)
    record = read_json(bundle.folder / "bundle.json", kind="bundle")
    assert record == json.loads(json.dumps(bundle.record))
    assert record["format"] == FORMAT
    assert record["target"] == describe_target(TARGET)
    assert record["parameters"] == HYBRID.layer_table(ROW[None]).parameters[0]
    assert record["macs"] == HYBRID.layer_table(ROW[None]).macs[0]
    assert record["predicted"] == PREDICTED
    assert record["facts"] == FACTS
    assert record["seed"] == 5
    assert record["versions"] == versions()
    assert record["agreement"]["relative_difference"] <= record["agreement"]["tolerance"]
    assert record["agreement"]["images"] == bundle.agreement.images == 3
    keys = list(record)
    assert keys.index("predicted") < keys.index("measured")
    space = SearchSpace.from_json(record["space"])
    assert space == HYBRID
    np.testing.assert_array_equal(
        space.encode(Architecture.from_json(record["architecture"]))[0], ROW
    )


def test_hashes_match_the_files(subnet, tmp_path):
    bundle = deployed(subnet, tmp_path / "bundle")
    hashes = read_json(bundle.folder / "bundle.json", kind="bundle")["files"]
    assert sorted(hashes) == [name for name in files(bundle.folder) if name != "bundle.json"]
    for name, value in hashes.items():
        assert value == file_hash(bundle.folder / name)


def test_raw_timings_are_kept(subnet, tmp_path):
    runner = CountingRunner()
    bundle = deployed(subnet, tmp_path / "bundle", runner=runner, seed=5)
    (call,) = runner.calls
    assert call["models"] == [bundle.model_path.read_bytes()]
    assert (call["threads"], call["seed"]) == (TARGET.threads, 5)
    measured = bundle.record["measured"]
    samples = measured["samples_ms"]
    assert samples == list(bundle.timing.samples_ms)
    assert measured["latency_ms"] == bundle.latency_ms == min(samples)
    assert measured["median_ms"] == pytest.approx(np.median(samples))
    for name, q in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)):
        assert measured[name] == pytest.approx(np.quantile(samples, q))
    assert measured["dispersion_ms"] == bundle.timing.dispersion_ms
    assert measured["rounds"] == bundle.timing.rounds
    assert measured["preempted"] is None
    assert measured["source"] == "measured: counting"


def test_one_sample_is_enough(subnet, tmp_path):
    bundle = deployed(subnet, tmp_path / "bundle", runner=CountingRunner(samples=1))
    assert bundle.record["measured"]["dispersion_ms"] is None
    assert bundle.latency_ms > 0


def test_without_a_runner_it_is_costs_only(subnet, tmp_path):
    bundle = deployed(subnet, tmp_path / "bundle")
    assert bundle.record["measured"] == {
        "latency_ms": None,
        "source": "not timed: costs only",
    }
    assert bundle.timing is None
    assert bundle.latency_ms is None


def test_timing_taken_before_is_used(subnet, tmp_path):
    timing = Timing(samples_ms=(2.0, 1.5, 3.0), rounds=3, preempted=0.25)
    runner = CountingRunner()
    bundle = deployed(subnet, tmp_path / "bundle", runner=runner, timing=timing)
    assert not runner.calls
    assert bundle.latency_ms == 1.5
    assert bundle.record["measured"]["samples_ms"] == [2.0, 1.5, 3.0]
    assert bundle.record["measured"]["preempted"] == 0.25


def test_local_runner_times_the_file(subnet, tmp_path):
    bundle = deployed(subnet, tmp_path / "bundle", runner=LocalRunner())
    assert 0.001 < bundle.latency_ms < 1000
    assert len(bundle.timing.samples_ms) >= 45


def test_saved_subnet_and_file_answer_alike(subnet, tmp_path):
    target = replace(TARGET, batch_size=2)
    bundle = deployed(subnet, tmp_path / "bundle", target=target)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    loaded = Subnet.load(bundle.folder / "subnet")
    with torch.no_grad():
        ours = loaded(images).numpy()
        assert torch.equal(loaded(images), subnet(images))
    theirs = open_session(bundle.model_path).run(None, {"images": images.numpy()})[0]
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5 * np.abs(ours).max())
    assert (
        load_model(bundle.folder).SerializeToString()
        == onnx.load(bundle.model_path).SerializeToString()
    )


def test_existing_folder_is_untouched(subnet, tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ExistingRunError, match="not an empty folder"):
        deployed(subnet, folder)
    assert files(tmp_path) == ["bundle/notes.txt"]
    assert (folder / "notes.txt").read_text() == "mine"


def test_empty_folder_is_filled(subnet, tmp_path):
    (tmp_path / "bundle").mkdir()
    assert "model.onnx" in files(deployed(subnet, tmp_path / "bundle").folder)


def test_failure_midway_leaves_nothing(subnet, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("power cut")

    monkeypatch.setattr("deployment.bundles.bundle.write_json", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        deployed(subnet, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_record_that_is_not_json_leaves_nothing(subnet, tmp_path):
    with pytest.raises(ValueError, match=r"NaN|nan"):
        deployed(subnet, tmp_path / "bundle", facts={"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_file_that_disagrees_is_not_written(subnet, tmp_path):
    with torch.no_grad():
        subnet.layers["classifier"].bias[0] = float("nan")
    with pytest.raises(VerificationError):
        deployed(subnet, tmp_path / "bundle", runner=CountingRunner())
    assert list(tmp_path.iterdir()) == []


def test_real_images_are_verified_with(subnet, tmp_path):
    bundle = deployed(subnet, tmp_path / "bundle", images=torch.zeros(4, 3, 16, 16))
    assert bundle.agreement.images == 3 + 4


def test_target_is_described_with_its_numbers():
    described = describe_target(Target(profile=PROFILE, batch_size=4, threads=2))
    assert described["name"] == "bench-t2-b4"
    assert (described["device"], described["runtime"]) == ("bench", "onnxruntime")
    assert (described["precision"], described["batch_size"], described["threads"]) == (
        "fp32",
        4,
        2,
    )
    same = describe_target(Target(profile=replace(PROFILE, notes="other words")))
    assert same["profile_hash"] == described["profile_hash"]
    idle = replace(PROFILE, idle_power_w=Quantity(value=2.0, source="made up"))
    assert describe_target(Target(profile=idle))["profile_hash"] != described["profile_hash"]
    json.dumps(described)
