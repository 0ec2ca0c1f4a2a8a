"""The kit's folder and what comes back from it."""

import copy
import hashlib
import json
import math

import numpy as np
import onnx
import pytest

from deployment import open_session
from deployment.kit import Kit, KitModel, TimingProtocol, manifest_id, read_results, write_kit
from deployment.kit.manifest import matrix_product
from deployment.session_settings import SessionSettings
from records import BadInputError, CorruptFileError, ExistingRunError, MissingFileError
from tests.deployment.doubles import CNN, VIT
from tests.deployment.made_results import made_manifest, made_results, written

MANIFEST = made_manifest([CNN, VIT])
LATENCIES = np.linspace(1.0, 9.0, 24)
RESULTS = made_results(MANIFEST, LATENCIES)


# ---- writing ---------------------------------------------------------------------------------


def kit_of(*models, **options):
    return Kit(models=models, **options)


def test_a_kit_holds_its_models_their_hashes_and_the_script(tmp_path):
    models = [
        KitModel(data=name.encode(), space=0, genes=(k, 1), macs=macs)
        for k, (name, macs) in enumerate((("large", 90), ("small", 1), ("middle", 40)))
    ]
    protocol = TimingProtocol(rounds=9, runs=4, seed=3)
    spaces = [{"name": "S", "hash": "x", "definition": {}}]
    kit = kit_of(*models, spaces=spaces, threads=2, batch_size=4, protocol=protocol)
    manifest = write_kit(kit, tmp_path / "kit")

    assert json.loads((tmp_path / "kit" / "kit.json").read_text()) == manifest
    for entry, model in zip(manifest["models"], models, strict=True):
        data = (tmp_path / "kit" / entry["file"]).read_bytes()
        assert data == model.data
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert (entry["genes"], entry["macs"]) == (list(model.genes), model.macs)
    assert manifest["reference"] == manifest["models"][2]["file"]  # the middle one
    assert manifest["protocol"]["rounds"] == 9
    assert manifest["protocol"]["runs"] == 4
    assert (manifest["threads"], manifest["batch_size"]) == (2, 4)
    assert manifest["spaces"] == spaces
    assert "9 rounds" in (tmp_path / "kit" / "README.md").read_text()
    compile((tmp_path / "kit" / "measure.py").read_text(), "measure.py", "exec")


def test_settings_are_written_as_the_script_takes_them(tmp_path):
    models = [
        KitModel(data=b"usual", macs=5),
        KitModel(data=b"other", macs=6, settings=SessionSettings(optimisation="basic", threads=2)),
        KitModel(data=b"card", macs=7, settings=SessionSettings(provider="cuda")),
    ]
    entries = write_kit(kit_of(*models), tmp_path / "kit")["models"]
    assert "settings" not in entries[0]
    assert entries[1]["settings"] == {
        "optimisation": "basic", "threads": 2, "spinning": False, "arena": True,
        "memory_pattern": True, "providers": [["CPUExecutionProvider", {}]],
        "must_take_all": False,
    }  # fmt: skip
    (name, options), *others = entries[2]["settings"]["providers"]
    assert (name, options["use_tf32"], others) == ("CUDAExecutionProvider", "0", [])
    assert entries[2]["settings"]["must_take_all"]


def test_the_reference_does_not_spin_where_another_network_can_be_it(tmp_path):
    spinning = SessionSettings(spinning=True)
    models = [
        KitModel(data=bytes([k]), macs=k, settings=how)
        for k, how in enumerate([spinning, spinning, spinning, SessionSettings()])
    ]
    calm = write_kit(kit_of(*models, threads=2), tmp_path / "calm")
    assert calm["reference"] == "models/003.onnx"
    alone = write_kit(kit_of(*models[:3], threads=2), tmp_path / "alone")
    assert alone["reference"] == "models/001.onnx"
    one = write_kit(kit_of(*models, threads=1), tmp_path / "one")  # one thread cannot spin
    assert one["reference"] == "models/002.onnx"


def test_the_probe_multiplies_matrices():
    model = matrix_product(8)
    onnx.checker.check_model(model, full_check=True)
    left = np.random.default_rng(1).standard_normal((8, 8)).astype(np.float32)
    right = onnx.numpy_helper.to_array(model.graph.initializer[0])
    (product,) = open_session(model.SerializeToString()).run(None, {"left": left})
    np.testing.assert_allclose(product, left @ right, rtol=1e-4, atol=1e-5)


def test_the_probe_can_be_left_out(tmp_path):
    model = KitModel(data=b"x")
    assert write_kit(kit_of(model, probes=False), tmp_path / "a")["probes"] == []
    (probe,) = write_kit(kit_of(model), tmp_path / "b")["probes"]
    assert probe["flop"] == 2 * 512**3
    data = (tmp_path / "b" / probe["file"]).read_bytes()
    assert probe["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "mine").write_text("x")
    with pytest.raises(ExistingRunError):
        write_kit(kit_of(KitModel(data=b"x")), tmp_path / "kit")
    assert [path.name for path in (tmp_path / "kit").iterdir()] == ["mine"]


def test_the_id_is_of_everything_else():
    again = json.loads(json.dumps(MANIFEST))
    assert manifest_id(again) == MANIFEST["id"]
    again["models"][3]["genes"][0] += 1
    assert manifest_id(again) != MANIFEST["id"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: kit_of(), "a network at least"),
        (lambda: kit_of(KitModel(data=b"x"), threads=0), "got 0 and 1"),
        (lambda: kit_of(KitModel(data=b"x"), batch_size=0), "got 1 and 0"),
        (lambda: TimingProtocol(rounds=0), "got 0 and 3"),
        (lambda: TimingProtocol(runs=0), "got 15 and 0"),
        (lambda: TimingProtocol(min_seconds=-1.0), "min_seconds must be >= 0"),
        (lambda: TimingProtocol(sustained_s=math.inf), "sustained_s must be >= 0 and finite"),
    ],
)
def test_a_kit_that_cannot_be_measured_is_refused(make, said):
    with pytest.raises(BadInputError, match=said):
        make()


# ---- reading ---------------------------------------------------------------------------------


def test_results_are_read_in_the_order_of_the_kit(tmp_path):
    shuffled = copy.deepcopy(RESULTS)
    shuffled["models"].reverse()
    results = read_results(written(shuffled, tmp_path / "results.json"))

    assert [m.file for m in results.measurements] == [e["file"] for e in MANIFEST["models"]]
    assert [m.genes for m in results.measurements] == [
        tuple(e["genes"]) for e in MANIFEST["models"]
    ]
    for timing, row in zip(results.timings, RESULTS["models"], strict=True):
        assert timing.rounds == 9
        assert timing.samples_ms == tuple(ms for visit in row["samples_ms"] for ms in visit)
        assert timing.preempted == 0.0
    assert [len(results.of_space(i)) for i in (0, 1, 2)] == [12, 12, 0]
    assert (results.threads, results.batch_size) == (1, 1)
    assert results.is_complete
    assert results.sittings == 1
    assert results.probes == {"gflops_1": 11.5, "gflops_4": 40.0, "copy_gbps_1": 4.5}
    assert results.sustained is not None
    assert len(results.sustained.blocks) == 10
    assert results.sustained.all.p99_ms == pytest.approx(9.0 * 1.5)


def test_what_was_not_measured_may_be_absent(tmp_path):
    lean = copy.deepcopy(RESULTS)
    lean.update(sustained=None, probes=None, complete=False)
    for row in lean["models"]:
        row["preempted"] = [None] * 9
    results = read_results(written(lean, tmp_path / "results.json"))
    assert results.sustained is None
    assert results.probes == {}
    assert not results.is_complete
    assert all(math.isnan(m.preempted) for m in results.measurements)


def put(*path_and_value):
    """A change: the last argument at the place that the others lead to."""
    *path, last, value = path_and_value

    def change(results):
        for key in path:
            results = results[key]
        results[last] = value

    return change


def drop(*path):
    def change(results):
        *most, last = path
        for key in most:
            results = results[key]
        del results[last]

    return change


SAMPLE = ("models", 3, "samples_ms", 2, 0)

BAD = {
    "zero": (put(*SAMPLE, 0), "models[3].samples_ms[2][0] is 0"),
    "negative": (put(*SAMPLE, -1.5), "models[3].samples_ms[2][0] is -1.5"),
    "nan": (put(*SAMPLE, math.nan), "models[3].samples_ms[2][0] is nan"),
    "infinite": (put(*SAMPLE, math.inf), "models[3].samples_ms[2][0] is inf"),
    "null": (put(*SAMPLE, None), "models[3].samples_ms[2][0] is None"),
    "text": (put(*SAMPLE, "1.0"), "models[3].samples_ms[2][0] is '1.0'"),
    "truth": (put(*SAMPLE, True), "models[3].samples_ms[2][0] is True"),
    "no sample": (put("models", 3, "samples_ms", 2, []), "models[3].samples_ms is empty"),
    "no round": (put("models", 3, "samples_ms", []), "models[3].samples_ms is empty"),
    "no samples": (drop("models", 3, "samples_ms"), "models[3].samples_ms must be a list"),
    "a round less": (drop("models", 3, "samples_ms", 2), "models[3].samples_ms has 8 rounds"),
    "a sample less": (drop(*SAMPLE), "models[3].samples_ms has 9 rounds of"),
    "missing row": (drop("models", 3), "models lack 1 of the kit's networks: models/003.onnx"),
    "no rows": (put("models", []), "models lack 24 of the kit's networks: models/000.onnx"),
    "duplicate": (
        lambda r: r["models"].append(r["models"][3]),
        "models[24] is a duplicate: models/003.onnx is in models[3] already",
    ),
    "foreign row": (put("models", 3, "file", "x.onnx"), "models[3].file is 'x.onnx'"),
    "altered model": (put("models", 3, "sha256", "0" * 64), "models[3].sha256 differs"),
    "altered genes": (
        put("manifest", "models", 3, "genes", 0, 1 - MANIFEST["models"][3]["genes"][0]),
        "manifest.id does not fit",
    ),
    "no cold start": (drop("models", 3, "open_ms"), "models[3].open_ms is None"),
    "cold start of 0": (put("models", 3, "first_run_ms", 0), "models[3].first_run_ms is 0"),
    "row that is none": (put("models", 3, 7), "models[3] must be an object, got int"),
    "rows that are none": (put("models", {}), "models must be a list, got dict"),
    "another version": (put("format", "hwnas-kit-results-0"), "'hwnas-kit-results-0'"),
    "another kit's version": (put("manifest", "format", "x"), "manifest.format is 'x'"),
    "no manifest": (drop("manifest"), "it lacks 'manifest'"),
    "no machine": (drop("machine"), "it lacks 'machine'"),
    "no settings": (drop("settings"), "it lacks 'settings'"),
    "no threads": (put("settings", "threads", 0), "settings.threads is 0"),
    "threads by halves": (put("settings", "threads", 1.5), "settings.threads is 1.5"),
    "reference": (put("reference", "samples_ms", []), "reference.samples_ms is empty"),
    "probe": (put("probes", "gflops_1", -1), "probes.gflops_1 is -1: a rate"),
    "sustained": (put("sustained", "blocks", 2, "p50_ms", 0), "sustained.blocks[2].p50_ms is 0"),
    "sustained runs": (put("sustained", "all", "runs", 0), "sustained.all.runs is 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named(tmp_path, name):
    change, said = BAD[name]
    results = copy.deepcopy(RESULTS)
    change(results)
    path = written(results, tmp_path / "results.json")
    with pytest.raises(CorruptFileError) as caught:
        read_results(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", json.dumps(RESULTS)[:5000].encode()])
def test_a_file_that_was_cut_off_says_so(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(CorruptFileError, match="not valid JSON"):
        read_results(tmp_path / "results.json")


@pytest.mark.parametrize("value", [[], 3, None, "text"])
def test_a_file_of_something_else_is_refused(tmp_path, value):
    with pytest.raises(CorruptFileError, match="must be an object"):
        read_results(written(value, tmp_path / "results.json"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.json"):
        read_results(tmp_path / "none.json")
    with pytest.raises(OSError, match="read the results"):
        read_results(tmp_path)
