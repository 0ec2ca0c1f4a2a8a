"""The command that transfers latencies, on planted tables and, where at hand, published ones."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import spearmanr

from experiments.latency_transfer import main
from search_spaces.standard import FBNetSpace, NASBench201, OFAMobileNetV3

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Tables of 200 networks with three devices, of which `lat_c` mixes the others."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    for name, space in (
        ("nb201", NASBench201()),
        ("fbnet", FBNetSpace.cifar100()),
        ("ofa", OFAMobileNetV3()),
    ):
        genes = space.sample(200, rng)
        table = space.layer_table(genes)
        macs, layers = table.macs / 1e7, table.total("active") / 10.0
        columns = {"lat_a": macs, "lat_b": layers, "lat_c": 0.6 * macs + 0.5 * layers}
        if name == "nb201":
            columns |= {"ops": genes.tolist(), "arch": space.arch_strings(genes)}
        elif name == "fbnet":
            columns |= {"op_idx": genes.tolist()}
        else:
            s = space.settings(genes)
            columns |= {"resolution": s.resolutions, "kernel": s.kernels.tolist()}
            columns |= {"expand": s.expansions.tolist()}
            columns |= {f"depth_{i + 1}": s.depths[:, i] for i in range(5)}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def run(command, table, space, out, *more, columns="lat_a,lat_b"):
    return main([command, "--space", space, "--sources", str(table), "--source-columns", columns,
                 "--out", str(out), *more])  # fmt: skip


def measure(path, table, rows, column="lat_c"):
    truth = pq.read_table(table).column(column).to_numpy()
    lines = [f"{row},{truth[row]}" for row in rows]
    path.write_text("\n".join(["row,latency_ms", *lines]) + "\n")
    return truth


def refused(capsys, status):
    error = capsys.readouterr().err
    assert status == 2
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("space", ["nb201", "fbnet", "ofa"])
@pytest.mark.parametrize("columns", ["lat_a,lat_b", "lat_b", ""], ids=["two", "one", "none"])
def test_a_planted_device_is_found(planted, tmp_path, space, columns):
    table = planted / f"{space}.parquet"
    rows_file, out = tmp_path / "rows.json", tmp_path / "predictions.parquet"
    assert run("select", table, space, rows_file, "--samples", "12", columns=columns) == 0
    rows = json.loads(rows_file.read_text())
    assert len(set(rows)) == 12
    truth = measure(tmp_path / "measured.csv", table, rows)
    measured = ("--measured", str(tmp_path / "measured.csv"))
    assert run("predict", table, space, out, *measured, columns=columns) == 0
    found = pq.read_table(out).to_pydict()
    assert list(found) == ["row", "latency_ms", "lower", "upper"]
    assert found["row"] == list(range(200))
    assert spearmanr(found["latency_ms"], truth).statistic > (0.99 if columns else 0.95)
    lower, middle, upper = (np.array(found[k]) for k in ("lower", "latency_ms", "upper"))
    assert (lower <= middle).all()
    assert (middle <= upper).all()


def test_what_is_selected_follows_the_network_not_its_place(planted, tmp_path):
    whole = pq.read_table(planted / "nb201.parquet")
    order = np.random.default_rng(1).permutation(200)
    pq.write_table(whole.take(order).drop_columns(["ops"]), tmp_path / "other.parquet")
    assert run("select", planted / "nb201.parquet", "nb201", tmp_path / "a.json") == 0
    assert run("select", tmp_path / "other.parquet", "nb201", tmp_path / "b.json") == 0
    first, second = (json.loads((tmp_path / f).read_text()) for f in ("a.json", "b.json"))
    assert order[second].tolist() == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,ms\n1,2\n", "no column 'latency_ms'"),
        ("", "no column 'row'"),
        ("row,latency_ms\n1,2\n2,3\n", "at least 3 measured rows are needed, got 2"),
        ("row,latency_ms\n1,2\n2,3\n3,0\n", "line 4: latency_ms must be positive"),
        ("row,latency_ms\n1,2\n2,-3\n3,1\n", "line 3: latency_ms must be positive"),
        ("row,latency_ms\n1,2\n2,nan\n3,1\n", "line 3: latency_ms must be positive"),
        ("row,latency_ms\n1,2\n2,inf\n3,1\n", "line 3: latency_ms must be positive"),
        ("row,latency_ms\n1,2\n2\n3,1\n", "line 3: latency_ms must be a number"),
        ("row,latency_ms\n1,2\nx,2\n3,1\n", "line 3: row must be a whole number, got 'x'"),
        ("row,latency_ms\n1,2\n1,3\n3,1\n", "row 1 is measured twice"),
        ("row,latency_ms\n1,2\n200,3\n3,1\n", "row 200 is not in the table: rows are 0 to 199"),
        ("row,latency_ms\n1,2\n-1,3\n3,1\n", "row -1 is not in the table"),
        ("row,latency_ms\n1,2\n2,2\n3,2\n", "latency_ms is 2 for all measured rows"),
    ],
    ids=str,
)
def test_bad_measurements_are_one_line_and_write_nothing(planted, tmp_path, capsys, text, message):
    measured, out = tmp_path / "measured.csv", tmp_path / "out.parquet"
    measured.write_text(text)
    status = run("predict", planted / "fbnet.parquet", "fbnet", out, "--measured", str(measured))
    assert message in refused(capsys, status)
    assert [path.name for path in tmp_path.iterdir()] == ["measured.csv"]


@pytest.mark.parametrize(
    ("space", "columns", "more", "message"),
    [
        ("fbnet", "lat_x", (), "unknown column 'lat_x'; did you mean 'lat_"),
        ("fbnet", "lat_a,lat_a", (), "column 'lat_a' is named twice"),
        ("cifar", "lat_a", (), "unknown space 'cifar'"),
        ("ofa", "lat_a", (), "it needs the columns resolution, depth_1"),
        ("fbnet", "lat_a", ("--samples", "2"), "samples must be 3 to 200, got 2"),
        ("fbnet", "lat_a", ("--samples", "201"), "samples must be 3 to 200, got 201"),
        ("fbnet", "lat_a", ("--seed", "-1"), "seed must be an integer >= 0"),
        ("fbnet", "op_idx", (), "column 'op_idx' does not hold numbers"),
    ],
    ids=str,
)
def test_bad_requests_are_one_line(planted, tmp_path, capsys, space, columns, more, message):
    table, out = planted / "fbnet.parquet", tmp_path / "rows.json"
    assert message in refused(capsys, run("select", table, space, out, *more, columns=columns))
    assert not out.exists()


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -1.0], ids=str)
def test_a_source_that_is_no_latency_is_named_with_its_row(planted, tmp_path, capsys, value):
    columns = pq.read_table(planted / "fbnet.parquet").to_pydict()
    columns["lat_b"][17] = value
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    status = run("select", tmp_path / "t.parquet", "fbnet", tmp_path / "rows.json")
    assert "'lat_b' of row 17 is" in refused(capsys, status)


def test_files_that_are_absent_or_no_tables_are_named(planted, tmp_path, capsys):
    absent = tmp_path / "absent.parquet"
    assert "no such file" in refused(capsys, run("select", absent, "fbnet", tmp_path / "o"))
    absent.write_text("no table")
    assert "cannot read the table" in refused(
        capsys, run("select", absent, "fbnet", tmp_path / "o")
    )
    table, out = planted / "fbnet.parquet", tmp_path / "out.parquet"
    csv = ("--measured", str(tmp_path / "none.csv"))
    assert "no such file" in refused(capsys, run("predict", table, "fbnet", out, *csv))
    columns = pq.read_table(table).to_pydict()
    columns["op_idx"][3][0] = 9
    columns["lat_b"] = [0.0] * 200
    pq.write_table(pa.table(columns), tmp_path / "wrong.parquet")
    wrong = tmp_path / "wrong.parquet"
    assert "are no networks of fbnet" in refused(
        capsys, run("select", wrong, "fbnet", tmp_path / "o", columns="lat_a")
    )


def test_the_module_runs_as_a_command(planted, tmp_path):
    out = tmp_path / "rows.json"
    command = [sys.executable, "-m", "experiments.latency_transfer", "select", "--space", "fbnet",
               "--sources", str(planted / "fbnet.parquet"), "--source-columns", "lat_a",
               "--samples", "3", "--seed", "1", "--out", str(out)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(out.read_text())) == 3
