"""The command that predicts accuracies, on planted tables and, where at hand, published ones."""

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import kendalltau

from experiments.accuracy_transfer import main
from experiments.benchmarks import accuracy_predictors as benchmark
from search_spaces.standard import NASBench201, NASBenchMacro

TABLES = Path(__file__).resolve().parents[3] / "shared" / "benchdata"
TRAINED = 30


@pytest.fixture(scope="module", params=["nb201", "nb_macro"])
def planted(request, tmp_path_factory):
    """A table of 150 networks, with the accuracies of the first 30 alone; and all of them."""
    folder = tmp_path_factory.mktemp(request.param)
    space = NASBench201(cells=1) if request.param == "nb201" else NASBenchMacro()
    genes = space.sample(150, np.random.default_rng(0))
    macs = space.layer_table(genes).macs
    truth = 60 + 5 * np.log(macs / macs.min())
    strings = space.arch_strings(genes) if request.param == "nb201" else space.names(genes)
    known = [float(a) if i < TRAINED else None for i, a in enumerate(truth)]
    words = ["?"] * 150
    table = pa.table({"arch": strings, "acc": known, "words": words})
    pq.write_table(table, folder / "table.parquet")
    (folder / "rows.json").write_text(json.dumps(list(range(TRAINED))))
    return request.param, folder, truth


def run(planted, *, rows=None, column="acc", space=None, table=None, out="out.parquet"):
    name, folder, _ = planted
    path = folder / "rows.json"
    if rows is not None:
        path = folder / "other.json"
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return main(["--space", space or name, "--table", str(table or folder / "table.parquet"),
                 "--accuracy", column, "--train-rows", str(path),
                 "--out", str(folder / out)])  # fmt: skip


def test_all_rows_are_predicted_from_those_with_an_accuracy(planted):
    _, folder, truth = planted
    assert run(planted) == 0
    found = pq.read_table(folder / "out.parquet")
    assert found.column_names == ["row", "accuracy", "lower", "upper"]
    row, accuracy, lower, upper = (column.to_numpy() for column in found.columns)
    np.testing.assert_array_equal(row, np.arange(150))
    assert kendalltau(accuracy[TRAINED:], truth[TRAINED:]).statistic > 0.6
    assert (lower <= accuracy).all()
    assert (accuracy <= upper).all()
    assert ((lower <= truth) & (truth <= upper))[TRAINED:].mean() > 0.7


def test_what_the_rows_name_is_all_that_is_used(planted, tmp_path):
    """Accuracies of other rows, and other columns, change nothing."""
    _, folder, truth = planted
    table = pq.read_table(folder / "table.parquet")
    full = pa.table({"arch": table.column("arch"), "acc": truth, "macs_m": truth})
    pq.write_table(full, tmp_path / "full.parquet")
    few = list(range(3, 13))
    assert run(planted, rows=few, out="few") == 0
    assert run(planted, rows=few, out="full", table=tmp_path / "full.parquet") == 0
    assert pq.read_table(folder / "few").equals(pq.read_table(folder / "full"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 1, 2, 3, 150], "rows go from 0 to 149, got 150"),
        ([0, 1, 2, 3, -1], "rows go from 0 to 149, got -1"),
        ([0, 1, 2, 3, 3], "row 3 is named twice"),
        ([0, 1, 2, 3, 29, 31], "row 31 is nan"),
        ([0, 1, 2, 3], "at least 5"),
        ([0, 1, 2, 3, 4.5], "whole number, got 4.5"),
        ([0, 1, 2, 3, True], "whole number, got True"),
        ({"rows": [1]}, "must hold a list"),
        ("[0, 1", "no JSON"),
    ],
    ids=["above", "below", "twice", "empty", "few", "fraction", "boolean", "object", "cut"],
)
def test_rows_that_are_refused(planted, capsys, rows, message):
    refused(capsys, run(planted, rows=rows, out="never"), message)
    assert not (planted[1] / "never").exists()


def test_tables_that_are_refused(planted, capsys, tmp_path):
    _, folder, _ = planted
    refused(capsys, run(planted, column="accuracy"), "accuracy")
    refused(capsys, run(planted, column="words"), "does not hold numbers")
    refused(capsys, run(planted, space="nb101"), "nb201")
    refused(capsys, run(planted, table=tmp_path / "none"), "no such file")
    refused(capsys, run(planted, table=folder / "rows.json"), "cannot read the table")
    bare = tmp_path / "bare.parquet"
    pq.write_table(pa.table({"acc": [1.0]}), bare)
    refused(capsys, run(planted, table=bare), "does not describe networks")
    pq.write_table(pa.table({"arch": ["9"], "acc": [1.0]}), bare)
    refused(capsys, run(planted, table=bare), "holds no networks")


def test_rows_of_no_file_are_refused(planted, capsys, tmp_path):
    name, folder, _ = planted
    status = main(["--space", name, "--table", str(folder / "table.parquet"), "--accuracy", "acc",
                   "--train-rows", str(tmp_path / "none"), "--out", "x"])  # fmt: skip
    refused(capsys, status, "no such file")


def refused(capsys, status, message):
    error = capsys.readouterr().err
    assert status == 2
    assert error.count("\n") == 1
    assert message in error


def test_cells_may_be_given_as_operations(tmp_path):
    space = NASBench201(cells=1)
    genes = space.sample(40, np.random.default_rng(1))
    accuracy = np.arange(40.0)
    for name, column in (("arch", space.arch_strings(genes)), ("ops", genes.tolist())):
        pq.write_table(pa.table({name: column, "acc": accuracy}), tmp_path / name)
        table = benchmark.read_accuracy_table(tmp_path / name, "nb201", "acc")
        np.testing.assert_array_equal(table.genes, genes)
        np.testing.assert_array_equal(table.accuracy, accuracy)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "rows", "least"),
    [("nb201", 20, 0.65), ("nb201", 100, 0.80), ("nb_macro", 20, 0.75), ("nb_macro", 100, 0.86)],
)
def test_published_accuracies(space, rows, least):
    """Two seeds, on all rows that were not trained on, beside the order by MACs."""
    file, column = benchmark.TABLES[space]
    if not (TABLES / f"{file}.parquet").exists():
        pytest.skip(f"{TABLES / file}.parquet is not at hand")
    table = benchmark.read_accuracy_table(TABLES / f"{file}.parquet", space, column)
    scores = [benchmark.score(table, space, column, "stacked", rows, seed) for seed in (0, 1)]
    macs = benchmark.score(table, space, column, "MACs", rows, 0)
    assert np.mean([s.tau for s in scores]) > max(least, macs.tau)
    assert 0.8 < np.mean([s.coverage for s in scores]) < 0.99


def test_the_benchmark_goes_on_where_it_stopped(planted, tmp_path, monkeypatch, capsys):
    space, folder, truth = planted
    table = pq.read_table(folder / "table.parquet").set_column(1, "acc", [truth])
    pq.write_table(table, tmp_path / "t.parquet")
    monkeypatch.setitem(benchmark.TABLES, space, ("t", "acc"))
    arguments = ["--spaces", space, "--seeds", "2", "--rows", "20", "--methods", "MACs",
                 "sklearn GP", "--scores", str(tmp_path / "scores")]  # fmt: skip
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    given = parser.parse_args([str(tmp_path), *arguments])
    first = benchmark.run(given)
    by_macs = next(r for r in first["means"] if r["method"] == "MACs")
    assert by_macs["tau"] == pytest.approx(1)
    assert by_macs["seeds"] == 2
    monkeypatch.setattr(benchmark, "score", None)  # nothing is computed again
    assert benchmark.run(given)["means"][0]["tau"] == first["means"][0]["tau"]
    assert "Kendall" in capsys.readouterr().out
