import json
from dataclasses import replace

import pytest

from hardware_profiles import Target
from latency_models.kernel_costs import MeasuredKernels, TimedFile, identity_of
from records import BadInputError, CorruptFileError, MissingFileError
from tests.latency_models.doubles import PROFILE, TARGET
from tests.latency_models.kernel_doubles import a_kernel

ONE, OTHER = a_kernel(), a_kernel(channels=128, activation=3, mixing=1)
ROWS = [
    TimedFile(what="kernel", kernels=(ONE, OTHER, ONE), latency_ms=0.25, dispersion_ms=0.01),
    TimedFile(what="network", kernels=(OTHER,), latency_ms=1 / 3),
]


@pytest.fixture
def table():
    made = MeasuredKernels(identity_of(TARGET), ROWS)
    made.refused[a_kernel(kind=10)] = "no such operator"
    return made


def test_round_trip_keeps_everything(table, tmp_path):
    table.save(tmp_path / "t.json")
    again = MeasuredKernels.load(tmp_path / "t.json")
    assert again.identity == table.identity
    assert again.refused == table.refused
    assert [(r.what, sorted(r.kernels), r.latency_ms) for r in again.files] == [
        (r.what, sorted(r.kernels), r.latency_ms) for r in table.files
    ]
    assert again.files[0].dispersion_ms == 0.01
    assert again.files[1].dispersion_ms != again.files[1].dispersion_ms
    assert again.kernels == {ONE, OTHER}
    again.save(tmp_path / "u.json")
    assert (tmp_path / "u.json").read_bytes() == (tmp_path / "t.json").read_bytes()


def test_rows_are_told_apart(table):
    assert len(table) == 2
    assert [row.latency_ms for row in table.rows("kernel")] == [0.25]
    assert table.sums("network").latencies_ms == [1 / 3]


def test_too_many_rows_keep_those_that_matter_then_the_latest():
    rows = [
        TimedFile(what="kernel", kernels=(a_kernel(channels=c),), latency_ms=float(c))
        for c in (8, 16, 24, 32)
    ]
    table = MeasuredKernels(identity_of(TARGET), rows)
    assert sorted(table.sums("kernel", [a_kernel(channels=8)], 2).latencies_ms) == [8, 32]
    assert len(table.sums("kernel", [], 0).latencies_ms) == 4


@pytest.mark.parametrize("latency", [0.0, -1.0, float("nan"), float("inf")])
def test_latencies_that_cannot_be_are_refused_and_named(table, latency):
    wrong = TimedFile(what="kernel", kernels=(OTHER,), latency_ms=latency)
    with pytest.raises(BadInputError, match=r"row 3 \(pointwise, 32 to 128 channels"):
        table.add([ROWS[0], wrong])
    assert len(table) == 2


def test_rows_of_nothing_are_refused(table):
    with pytest.raises(BadInputError, match="row 2"):
        table.add([TimedFile(what="kernel", kernels=(), latency_ms=1.0)])
    with pytest.raises(BadInputError, match="row 2"):
        table.add([TimedFile(what="block", kernels=(ONE,), latency_ms=1.0)])


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"batch_size": 4}, "batch_size (table: 1, here: 4)"),
        ({"threads": 2}, "threads (table: 1, here: 2)"),
        ({"precision": "int8"}, "precision (table: 'fp32', here: 'int8')"),
        ({"profile": replace(PROFILE, name="other")}, "device (table: 'bench', here: 'other')"),
        ({"profile": replace(PROFILE, runtimes={"onnxruntime": "9"})}, "runtime_version"),
        (
            {"profile": replace(PROFILE, instruction_sets=("avx512f",))},
            "channel_block (table: 8, here: 16)",
        ),
    ],
    ids=["batch", "threads", "precision", "device", "version", "block"],
)
def test_another_target_is_refused_with_what_differs(table, change, differs):
    other = replace(TARGET, **change)
    with pytest.raises(BadInputError) as error:
        table.check(other)
    assert differs in str(error.value)
    table.check(Target(profile=PROFILE))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="kernel table"):
        MeasuredKernels.load(tmp_path / "t.json")


def damaged(value, how):
    match how:
        case "format":
            value["format"] = "hwnas-kernel-table-0"
        case "list":
            return [value]
        case "columns":
            value["columns"][0] = "sort"
        case "files":
            del value["files"]
        case "index":
            value["files"][0][1][0][0] = 7
        case "negative index":
            value["files"][0][1][0][0] = -1
        case "count":
            value["files"][0][1][0][1] = 1.5
        case "latency":
            value["files"][1][2] = 0.0
        case "kernel":
            value["kernels"][0] = value["kernels"][0][1:]
        case "operator":
            value["kernels"][0][1] = "konv"
        case "size":
            value["kernels"][0][8] = -3
    return value


@pytest.mark.parametrize(
    ("how", "says"),
    [("format", "its format is"), ("list", "its format is None"), ("columns", "other columns"),
     ("files", "damaged"), ("index", "damaged"), ("negative index", "no natural number"),
     ("count", "no natural number"), ("latency", "row 1"), ("kernel", "columns, got"),
     ("operator", "konv"), ("size", "-3 is no natural")],
)  # fmt: skip
def test_damaged_files_are_refused(table, tmp_path, how, says):
    path = tmp_path / "t.json"
    table.save(path)
    path.write_text(json.dumps(damaged(json.loads(path.read_text()), how)))
    with pytest.raises(CorruptFileError) as error:
        MeasuredKernels.load(path)
    assert says in str(error.value)


def test_text_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(CorruptFileError, match="not valid JSON"):
        MeasuredKernels.load(tmp_path / "t.json")


def test_the_identity_of_this_machine_has_the_runtimes_version(monkeypatch):
    import onnxruntime

    monkeypatch.setattr(Target, "is_local", property(lambda self: True))
    assert identity_of(TARGET)["runtime_version"] == onnxruntime.__version__
    elsewhere = replace(TARGET, profile=replace(PROFILE, runtimes={}), runtime="no-such-runtime")
    assert identity_of(elsewhere)["runtime_version"] == ""
