"""Opening bundles: whole ones, altered ones, those of other versions."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from deployment import Bundle, deploy
from deployment.bundles.bundle import COLD_STARTS, FORMAT
from deployment.bundles.cold_start import measure_cold_start
from deployment.bundles.file_answers import answers, judge_file, torch_answers, with_batch
from deployment.bundles.format import read_record, sealed
from deployment.bundles.input import Interface, as_taken
from deployment.bundles.making import runnable_here, unselected_variant
from deployment.bundles.record import limits_kept, memory_record
from deployment.runners.runner import LocalRunner
from deployment.selection.select import select_kernels
from deployment.session_settings import SessionSettings
from deployment.target_file import verify_quantised
from hardware_profiles import Target
from records import BadInputError, CorruptFileError, MissingFileError
from supernet import Split
from supernet.data import Normalisation
from tests.deployment.doubles import (
    HYBRID,
    PROFILE,
    TARGET,
    CountingRunner,
    quantity,
    rows_of,
    shaken_subnet,
)

ROW = rows_of(HYBRID, 1)[-1]
SHAPE = (HYBRID.channels, HYBRID.image_size, HYBRID.image_size)
KNOWN = Normalisation(mean=(0.4, 0.5, 0.3), deviation=(0.2, 0.25, 0.3), source_size=(16, 16))

PROFILE_INT8 = replace(PROFILE, peak_gflops={**PROFILE.peak_gflops, "int8": quantity(80.0)})
GPU = replace(PROFILE, name="gpu", kind="embedded-gpu", runtimes={"tensorrt": ""})
COREML = replace(PROFILE_INT8, name="phone", runtimes={"coreml": ""})


def deployed(folder, subnet=None, **options):
    given = {
        "target": TARGET,
        "architecture": HYBRID.decode(ROW)[0].to_json(),
        "space": HYBRID.to_json(),
        "predicted": {"latency_ms": 1.25, "energy_mj": 0.5, "energy_source": "modelled: made up"},
        "facts": {"title": "knee"},
        "runner": None,
        "images": photos(24),
    }
    return deploy(subnet or shaken_subnet(HYBRID, ROW), folder, **(given | options))


def photos(count, seed=0):
    """Images as the loader would make them: pixels, normalised."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, *SHAPE), generator=generator)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (KNOWN.mean, KNOWN.deviation))
    return ((pixels / 255 - mean) / deviation).float()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    return deployed(folder, runner=CountingRunner())


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copytree(original.folder, tmp_path / "copy")


def rewrite(folder, **changes):
    path = folder / "bundle.json"
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(record))


def test_an_opened_bundle_is_the_one_that_was_written(original):
    opened = Bundle.open(original.folder)
    assert opened.record == json.loads(json.dumps(original.record))
    assert opened.agreement == original.agreement
    assert opened.timing.samples_ms == original.timing.samples_ms
    assert opened.latency_ms == original.latency_ms
    assert opened.settings == SessionSettings()
    assert opened.inside is None
    assert opened.timed_file() == opened.model_path.read_bytes()
    images = photos(3, seed=5)
    ours = torch_answers(shaken_subnet(HYBRID, ROW), images)
    assert answers(opened.session(), images.numpy()) == pytest.approx(ours, abs=1e-4)


def test_an_untimed_bundle_opens(tmp_path):
    opened = Bundle.open(deployed(tmp_path / "bundle").folder)
    assert opened.timing is None
    assert opened.latency_ms is None


@pytest.mark.parametrize("name", ["model.onnx", "README.md", "subnet/weights.safetensors"])
def test_an_altered_file_is_named(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(CorruptFileError, match=f"{name} was altered"):
        Bundle.open(copy)
    assert Bundle.open(copy, check=False).record["format"] == FORMAT


def test_an_altered_record_is_told_by_its_seal(copy):
    rewrite(copy, macs=1)
    with pytest.raises(CorruptFileError, match=r"bundle\.json was altered"):
        Bundle.open(copy)


def test_files_that_are_missing_are_named(copy):
    (copy / "verify.py").unlink()
    (copy / "samples.npz").unlink()
    with pytest.raises(MissingFileError, match=r"lacks samples\.npz, verify\.py"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hwnas-bundle-3", r"newer version of hwnas.*hwnas-bundle-2.*install"),
        ("hwnas-bundle-1", r"older version of hwnas.*export the network again"),
        ("hwnas-front-1", r"no bundle: its format is 'hwnas-front-1'"),
        (None, "no bundle: its format is None"),
    ],
)
def test_another_format_is_refused(copy, name, said):
    rewrite(copy, format=name)
    with pytest.raises(CorruptFileError, match=said):
        Bundle.open(copy)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"is no bundle: it has no bundle\.json"):
        Bundle.open(tmp_path)
    (tmp_path / "bundle.json").write_text("[1]")
    with pytest.raises(CorruptFileError, match="no bundle"):
        Bundle.open(tmp_path)
    (tmp_path / "bundle.json").write_text(json.dumps({"format": FORMAT}))
    with pytest.raises(CorruptFileError, match="names no files"):
        Bundle.open(tmp_path)


def test_the_seal_covers_everything_but_itself(original):
    record = read_record(original.folder)
    assert record["seal"] == sealed(record)
    assert sealed({**record, "seal": "x"}) == record["seal"]
    assert sealed({**record, "seed": 99}) != record["seal"]


# ---- what goes in -------------------------------------------------------------------------------


def test_pixels_are_what_tensors_were_made_from():
    inside = Interface(normalisation=KNOWN, takes_pixels=True).inside(SHAPE)
    images = photos(5)
    pixels = inside.denormalised(images.numpy())
    assert pixels.shape == (5, 16, 16, 3)
    assert inside.normalised(pixels) == pytest.approx(images.numpy(), abs=1e-6)
    assert as_taken(images.numpy(), None) is not pixels


def test_a_border_is_not_among_the_pixels():
    known = Normalisation(mean=(0.5,), deviation=(0.5,), source_size=(4, 4), border=(2, 2))
    inside = Interface(normalisation=known, takes_pixels=True).inside((1, 8, 8))
    assert inside.image_shape((1, 8, 8)) == (4, 4, 1)
    images = torch.full((1, 1, 8, 8), -1.0)
    images[..., 2:6, 2:6] = 1.0
    pixels = inside.denormalised(images.numpy())
    assert pixels.shape == (1, 4, 4, 1)
    assert (pixels == 255).all()
    assert inside.normalised(pixels) == pytest.approx(images.numpy())


def test_resized_images_are_taken_in_the_networks_size():
    known = Normalisation(mean=(0.5,), deviation=(0.5,), source_size=(28, 28))
    interface = Interface(normalisation=known, takes_pixels=True)
    assert interface.inside((1, 8, 8)).image_shape((1, 8, 8)) == (8, 8, 1)
    assert interface.record((1, 8, 8), 1)["normalisation"]["resized_to"] == [8, 8]


def test_pixels_need_a_known_normalisation():
    with pytest.raises(BadInputError, match="how the images were normalised"):
        Interface(takes_pixels=True)


@pytest.mark.parametrize("any_batch", [False, True])
def test_a_file_that_takes_pixels_answers_as_torch_does(tmp_path, any_batch):
    interface = Interface(
        class_names=tuple("abcdefghij"), normalisation=KNOWN, takes_pixels=True,
        any_batch=any_batch,
    )  # fmt: skip
    test = Split(photos(30, seed=2), torch.arange(30) % 10)
    subnet = shaken_subnet(HYBRID, ROW)
    bundle = deployed(
        tmp_path / "bundle", subnet, interface=interface, test=test, runner=CountingRunner()
    )
    record = bundle.record
    assert record["input"]["shape"] == [None if any_batch else 1, 16, 16, 3]
    assert record["input"]["type"] == "tensor(uint8)"
    assert record["output"]["classes"] == list("abcdefghij")
    assert record["tested"]["top1_agreement"] == 1.0
    assert record["facts"]["test_images"] == 30
    opened = Bundle.open(bundle.folder)
    pixels = opened.inside.denormalised(test.images.numpy())
    ours = torch_answers(subnet, test.images)
    assert answers(opened.session(), pixels) == pytest.approx(ours, abs=1e-3)
    assert record["memory"]["activation_bytes"] > 0


def test_a_file_for_any_batch_is_timed_for_the_targets(tmp_path):
    target = Target(profile=PROFILE, batch_size=4)
    runner = CountingRunner()
    bundle = deployed(
        tmp_path / "bundle", target=target, interface=Interface(any_batch=True), runner=runner
    )
    data = bundle.model_path.read_bytes()
    (call,) = runner.calls
    assert call["models"] == [with_batch(data, 4)] != [data]
    assert bundle.timed_file() == call["models"][0]
    assert with_batch(call["models"][0], 9) == call["models"][0]
    session = bundle.session()
    images = photos(70)
    ours = torch_answers(shaken_subnet(HYBRID, ROW), images)
    assert answers(session, images.numpy()) == pytest.approx(ours, abs=1e-4)


def test_images_of_another_shape_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="images must be n x"):
        deployed(tmp_path / "bundle", images=torch.zeros(2, 3, 8, 8))
    assert list(tmp_path.iterdir()) == []


# ---- which file ---------------------------------------------------------------------------------


def test_accuracy_is_that_of_the_file_with_its_interval():
    subnet = shaken_subnet(HYBRID, ROW)
    images = photos(50)
    says = torch_answers(subnet, images).argmax(1)
    labels = torch.from_numpy(says.copy())
    labels[:5] = (labels[:5] + 1) % 10
    from deployment import emit, open_session

    session = open_session(emit(subnet, 8).SerializeToString())
    found = judge_file(subnet, session, Split(images, labels), images.numpy())
    assert (found.images, found.accuracy, found.torch_accuracy) == (50, 0.9, 0.9)
    assert found.top1_agreement == 1.0
    assert found.interval_95 == pytest.approx((0.7864, 0.9565), abs=2e-4)


def test_a_selection_is_shipped_and_on_the_record(tmp_path):
    subnet = shaken_subnet(HYBRID, ROW)
    validation = Split(photos(40, seed=3), torch.zeros(40, dtype=torch.int64))
    selection = select_kernels(
        subnet, TARGET, runner=LocalRunner(), validation=validation, calibration_images=None,
        seconds=3.0, numerics=("fp32",),
    )  # fmt: skip
    bundle = deployed(
        tmp_path / "bundle", subnet, selection=selection, runner=LocalRunner(), cold_starts=0
    )
    assert bundle.model_path.read_bytes() == selection.data
    record = Bundle.open(bundle.folder).record
    assert record["selection"]["chosen"]["variant"] == record["variant"]
    assert record["variant"] == selection.chosen.variant.to_json()
    assert len(record["selection"]["tried"]) == len(selection.tried) > 3
    assert record["selection"]["default"]["latency_ms"] > 0
    assert record["provider"]["state"] == "run"
    card = (bundle.folder / "README.md").read_text()
    for one in selection.tried:
        assert one.change in card


def test_int8_is_compared_on_its_own_terms(tmp_path):
    target = Target(profile=PROFILE_INT8, precision="int8")
    subnet = shaken_subnet(HYBRID, ROW)
    bundle = deployed(
        tmp_path / "bundle", subnet, target=target, calibration_images=photos(64, seed=1)
    )
    record = bundle.record
    assert record["precision"] == "int8"
    assert record["numerics"] == "int8 static"
    assert record["samples"]["measure"] == "rms"
    kinds = record["samples"]["kinds"]
    assert 0.001 < kinds["real"]["difference"] < kinds["real"]["tolerance"] < 0.5
    again = verify_quantised(
        subnet, bundle.model_path.read_bytes(), photos(24), quantisation="static"
    )
    assert record["quantised"]["relative_error"] == pytest.approx(again.relative_error)


def test_a_provider_that_is_not_here_is_never_run(tmp_path):
    target = Target(profile=GPU, runtime="tensorrt")
    bundle = deployed(tmp_path / "bundle", target=target)
    record = bundle.record
    assert record["provider"]["name"] == "tensorrt"
    assert record["provider"]["state"] == "never run"
    assert record["session"]["providers"][0][0] == "TensorrtExecutionProvider"
    assert record["memory"] is None
    assert "never run" in (bundle.folder / "README.md").read_text()
    assert runnable_here(bundle.settings).provider == "cpu"
    assert answers(bundle.session(), photos(2).numpy()).shape == (2, 10)


def test_a_runtime_that_does_not_take_the_numbers_leaves_them_to_the_processor():
    target = Target(profile=PROFILE_INT8, precision="int8")
    subnet = shaken_subnet(HYBRID, ROW)
    kept = unselected_variant(subnet, target, "dynamic", ("stem",)).numerics
    assert (kept.way, kept.fp32_blocks) == ("dynamic", ("stem",))
    everything = [layer.name for layer in subnet.graph.layers[1:]]
    assert unselected_variant(subnet, target, "static", everything).numerics.way == "fp32"
    coreml = Target(profile=COREML, runtime="coreml", precision="int8")
    assert unselected_variant(subnet, coreml, "static").settings.provider == "cpu"


def test_cold_starts_are_of_this_machine_alone(original, tmp_path):
    assert original.record["cold_start"] is None  # timed by a runner that is elsewhere
    bundle = deployed(tmp_path / "bundle", runner=LocalRunner(), cold_starts=1)
    cold = bundle.record["cold_start"]
    assert cold["processes"] == 1 <= COLD_STARTS
    assert 0 < cold["first_run_ms"] < 30_000
    assert 0 < cold["open_ms"] < 30_000
    assert cold["source"].startswith("measured: a new process")
    assert not (bundle.folder / "__pycache__").exists()
    Bundle.open(bundle.folder)


def test_a_start_that_fails_gives_no_cold_start(original, tmp_path):
    (tmp_path / "benchmark.py").write_text("raise SystemExit(1)")
    assert measure_cold_start(tmp_path, 2) is None
    (tmp_path / "benchmark.py").write_text("print('[]')")
    assert measure_cold_start(tmp_path, 1) is None
    assert measure_cold_start(original.folder, 0) is None


def test_memory_that_onnxruntime_does_not_tell_is_none():
    assert memory_record(b"no graph", 1) is None


@pytest.mark.parametrize(
    ("metric", "measured", "kept", "how"),
    [
        ("latency_ms", {"latency_ms": 0.9, "dispersion_ms": 0.05}, True, "measured"),
        ("latency_ms", {"latency_ms": 0.9, "dispersion_ms": 0.2}, False, "measured"),
        ("latency_ms", {"latency_ms": 0.9, "dispersion_ms": None}, True, "measured"),
        ("latency_ms", {"latency_ms": None}, False, "modelled"),
        ("energy_mj", {"latency_ms": 0.9, "dispersion_ms": None}, True, "modelled"),
        ("flash_bytes", {"latency_ms": None}, False, "modelled"),
    ],
)
def test_a_limit_is_held_against_what_was_measured(metric, measured, kept, how):
    record = {
        "facts": {"limits": {metric: 1.0}},
        "predicted": {"latency_ms": 1.5, "energy_mj": 0.5},
        "measured": measured,
    }
    (found,) = limits_kept(record)
    assert (found["is_kept"], found["how"]) == (kept, how)
