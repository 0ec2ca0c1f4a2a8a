import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.benchmarks import tabular_search as benchmark
from experiments.benchmarks.tabular_peers import PEERS
from experiments.search_tables import SPACES, read_search_table
from experiments.tabular_search import TableAccuracy, TableCosts, main, search_table
from records import BadInputError, CorruptFileError, MissingFileError, UnknownNameError
from search_spaces.standard import NASBench201, NASBenchMacro

BENCHDATA = Path(__file__).parents[3] / "shared" / "benchdata"
MACRO = NASBenchMacro()


def macro_columns(n=120, seed=0):
    """Networks whose accuracy grows with their MACs, and whose latency does but for noise."""
    rng = np.random.default_rng(seed)
    genes = np.unique(MACRO.sample(n, rng), axis=0)
    macs = np.log(MACRO.layer_table(genes).macs)
    return {
        "arch": MACRO.names(genes),
        "acc": 60 + 5 * macs - 3 * genes[:, 2] + rng.normal(0, 0.1, len(genes)),
        "lat": np.exp(macs - macs.min()) + 0.2 * rng.random(len(genes)),
    }


@pytest.fixture
def path(tmp_path):
    pq.write_table(pa.table(macro_columns()), tmp_path / "macro.parquet")
    return tmp_path / "macro.parquet"


def command(path, out, *more, mode="--latency-known", budget=15):
    return [
        "--space", "nb_macro", "--table", str(path), "--error-from", "acc", "--latency", "lat",
        mode, "--budget", str(budget), "--out", str(out), *more,
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["--latency-known", "--latency-learned"])
def test_as_many_distinct_rows_as_the_budget_the_same_for_the_same_seed(path, tmp_path, mode):
    found = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(command(path, tmp_path / name, "--seed", seed, mode=mode)) == 0
        found.append(json.loads((tmp_path / name).read_text()))
    assert found[0] == found[1] != found[2]
    assert len(set(found[0])) == len(found[0]) == 15
    assert all(0 <= row < len(macro_columns()["arch"]) for row in found[0])


@pytest.mark.parametrize("strategy", ["predictor_guided", "nsga2", "random"])
def test_other_strategies_fill_the_budget_with_rows_of_the_table(path, strategy):
    table = read_search_table(path, "nb_macro", "acc", "lat")
    rows = search_table(table, latency_known=True, budget=12, strategy=strategy)
    assert len(set(rows)) == len(rows) == 12


def test_a_table_is_evaluated_to_its_last_row_repeated_networks_included(tmp_path):
    columns = {name: list(values)[:9] * 2 for name, values in macro_columns().items()}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_search_table(tmp_path / "t.parquet", "nb_macro", "acc", "lat")
    assert sorted(search_table(table, latency_known=False, budget=99)) == list(range(18))


def test_no_value_of_other_rows_is_looked_at(path):
    """Values of rows that are not evaluated may be anything, and the rows stay the same."""
    columns = macro_columns()
    table = read_search_table(path, "nb_macro", "acc", "lat")
    for known in (True, False):
        rows = search_table(table, latency_known=known, budget=14)
        other = {name: np.array(values) for name, values in columns.items()}
        rest = np.setdiff1d(np.arange(len(table)), rows)
        other["acc"][rest] = np.nan
        if not known:
            other["lat"][rest] = 1e3
        changed = path.with_name("changed.parquet")
        pq.write_table(pa.table(other), changed)
        again = read_search_table(changed, "nb_macro", "acc", "lat")
        assert search_table(again, latency_known=known, budget=14) == rows


def test_rows_without_an_accuracy_are_evaluated_as_failed(tmp_path):
    columns = macro_columns()
    columns["acc"] = [None if i % 2 else v for i, v in enumerate(columns["acc"])]
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_search_table(tmp_path / "t.parquet", "nb_macro", "acc", "lat")
    rows = search_table(table, latency_known=True, budget=14)
    assert len(set(rows)) == 14


def test_each_row_is_reported_as_it_is_evaluated(path):
    table = read_search_table(path, "nb_macro", "acc", "lat")
    met = []
    assert search_table(table, latency_known=True, budget=3, on_row=met.append) == met


def test_latencies_that_are_not_known_are_not_told(path, tmp_path, capsys):
    table = read_search_table(path, "nb_macro", "acc", "lat")
    costs = TableCosts(table, is_known=False)
    accuracy = TableAccuracy(table, costs)
    with pytest.raises(BadInputError, match="not evaluated"):
        costs.predict(table.genes[:2])
    first, strange = accuracy.evaluate(np.concatenate([table.genes[:1], [[0] * 8]]))
    assert first.value == table.accuracy[0]
    assert strange.status == "failed"
    assert costs.bound("latency_ms", table.genes[:1]) == table.latency_ms[0]
    assert costs.extremes("latency_ms") is None
    for useless in (lambda: accuracy.subnet(None), lambda: costs.deploy(None, None, None, {})):
        with pytest.raises(BadInputError, match="table"):
            useless()
    pq.write_table(pa.table(macro_columns(20_000)), path)  # most networks of the space
    arguments = command(path, tmp_path / "o", "--strategy", "predictor_guided")
    arguments[arguments.index("--latency-known")] = "--latency-learned"
    assert main(arguments) == 2
    assert "use --latency-known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--space": "nb301"}, "nb_macro"),
        ({"--error-from": "accuracy"}, "acc"),
        ({"--latency": "lat_x"}, "lat"),
        ({"--strategy": "tpe"}, "bayesian"),
        ({"--budget": "0"}, "at least 1"),
        ({"--table": "nowhere.parquet"}, "no such file"),
        ({"--error-from": "arch"}, "does not hold numbers"),
        ({"--space": "ofa"}, "needs the columns"),
        ({"--space": "nb201"}, "are no networks of nb201"),
    ],
    ids=["space", "error", "latency", "strategy", "budget", "file", "text", "columns", "networks"],
)
def test_bad_input_is_named_in_one_line(path, tmp_path, capsys, change, message):
    arguments = command(path, tmp_path / "out", "--strategy", "bayesian")
    for name, value in change.items():
        arguments[arguments.index(name) + 1] = value
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists()


def test_damaged_tables_are_refused(tmp_path):
    columns = macro_columns(20)
    path = tmp_path / "t.parquet"
    for change, error, message in (
        ({"lat": [-1.0, *columns["lat"][1:]]}, BadInputError, "'lat' of row 0 is -1"),
        ({"arch": ["zebra"] * len(columns["arch"])}, CorruptFileError, "no networks"),
        ({name: values[:0] for name, values in columns.items()}, CorruptFileError, "no rows"),
    ):
        pq.write_table(pa.table({**columns, **change}), path)
        with pytest.raises(error, match=message):
            read_search_table(path, "nb_macro", "acc", "lat")
    path.write_bytes(b"PAR1")
    with pytest.raises(CorruptFileError, match="cannot read"):
        read_search_table(path, "nb_macro", "acc", "lat")
    with pytest.raises(MissingFileError):
        read_search_table(tmp_path / "none", "nb_macro", "acc", "lat")
    with pytest.raises(UnknownNameError):
        read_search_table(path, "nb101", "acc", "lat")


@pytest.mark.parametrize("space", ["nb201", "nb_macro", "ofa", "fbnet"])
def test_published_tables_are_read(space):
    path = BENCHDATA / f"{space}.parquet"
    if not path.exists():
        pytest.skip("the benchmark tables are not here")
    accuracy, latency = {
        "nb201": ("cifar100_acc", "lat_pixel3"),
        "nb_macro": ("mean_acc", "flops"),
        "ofa": ("macs_m", "lat_v100_1"),
        "fbnet": ("flops_m", "lat_pixel3"),
    }[space]
    table = read_search_table(path, space, accuracy, latency)
    assert table.genes.shape == (len(table), len(SPACES[space].space.choices))
    assert np.isfinite(table.accuracy).all()
    assert sum(map(len, table.rows_of.values())) == len(table)


def test_real_cells_are_found_soon():
    """0.95 to 0.99 in 20 searches; 0.83 by random search after twice as many evaluations."""
    path = BENCHDATA / "nb201.parquet"
    if not path.exists():
        pytest.skip("the benchmark tables are not here")
    table = read_search_table(path, "nb201", "cifar100_acc", "lat_2080ti_256")
    rows = search_table(table, latency_known=True, budget=25)
    assert benchmark.share_of_front(table)(rows) > 0.93


# ---- the benchmark -----------------------------------------------------------------------------


@pytest.fixture
def cells(tmp_path):
    """All cells with a made-up accuracy and two devices."""
    space = NASBench201(cells=1)
    genes = space.enumerate()
    rng = np.random.default_rng(0)
    convolutions = (genes == 3).sum(axis=1) + 0.5 * (genes == 2).sum(axis=1)
    columns = {"ops": genes.tolist(), "cifar100_acc": 50 + 4 * convolutions + genes[:, 3]}
    for device in ("lat_a", "lat_b"):
        columns[device] = 1 + convolutions + rng.random(len(genes))
    pq.write_table(pa.table(columns), tmp_path / "nb201.parquet")
    return tmp_path


def test_shares_of_a_front_are_those_of_its_hypervolume(path):
    table = read_search_table(path, "nb_macro", "acc", "lat")
    share = benchmark.share_of_front(table)
    assert share(range(len(table))) == pytest.approx(1)
    assert share([0]) < share([0, 1, 2, 3, 4]) < 1


@pytest.mark.parametrize(
    "peer",
    [
        "random",
        "pymoo NSGA-II",
        "Optuna NSGA-II",
        "Optuna TPE",
        pytest.param("Optuna GP", marks=pytest.mark.slow),
    ],
)
def test_peers_evaluate_distinct_rows_until_the_budget_is_spent(cells, peer):
    pytest.importorskip({"p": "pymoo", "O": "optuna"}.get(peer[0], "numpy"))
    table = read_search_table(cells / "nb201.parquet", "nb201", "cifar100_acc", "lat_a")
    rows = benchmark.distinct_rows(table, PEERS[peer], 12, seed=1)
    assert len(set(rows)) == len(rows) == 12


def test_the_benchmark_goes_on_where_it_stopped(cells, capsys):
    parser = benchmark.argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    scores = cells / "scores.jsonl"
    given = [str(cells), "--scores", str(scores), "--seeds", "1", "--budget", "30", "--methods"]
    figures = benchmark.run(parser.parse_args([*given, "random", "Optuna GP"]))
    assert len(scores.read_text().splitlines()) == 2  # the slow one has no device here
    again = benchmark.run(parser.parse_args([*given, "random"]))
    assert len(scores.read_text().splitlines()) == 2
    assert again["means"] == figures["means"]
    assert again["means"][0]["searches"] == 2
    assert set(again["means"][0]["share"]) == {"25"}
    assert again["slow"] == []
    assert "share of the front's hypervolume" in capsys.readouterr().out


def test_an_interval_is_that_of_means_over_devices():
    rng = np.random.default_rng(0)
    of_device = rng.normal(0.9, 0.02, 60)
    shares = np.repeat(of_device, 3)[:, None] + rng.normal(0, 0.001, (180, 2))
    devices = np.repeat([f"lat_{i}" for i in range(60)], 3).tolist()
    half = 1.96 * of_device.std(ddof=1) / np.sqrt(60)
    for column, (low, high) in zip(shares.T, benchmark.intervals(shares, devices), strict=True):
        assert low == pytest.approx(column.mean() - half, abs=0.1 * half)
        assert high == pytest.approx(column.mean() + half, abs=0.1 * half)
    alone = benchmark.intervals(shares[:3], ["lat_0"] * 3)
    assert (alone[:, 0] < alone[:, 1]).all()
    assert (alone[:, 0] >= shares[:3].min(axis=0)).all()
    np.testing.assert_allclose(benchmark.intervals(shares[:1], ["lat_0"])[0], shares[0, 0])


def test_scores_of_other_settings_are_left_out_and_run_anew(cells, monkeypatch, capsys):
    parser = benchmark.argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    monkeypatch.setattr(benchmark, "POINTS", (9,))
    scores = cells / "scores.jsonl"
    methods = ["ours, latency known", "random"]
    text = ["--scores", str(scores), "--seeds", "1", "--budget", "9", "--devices", "lat_a"]
    given = parser.parse_args([str(cells), *text, "--methods", *methods])

    def kept():
        benchmark.run(given)
        return [json.loads(line) for line in scores.read_text().splitlines()]

    ours, random = kept()
    assert len(ours["settings"]) == 12
    assert random["settings"] == ""
    assert len(kept()) == 2
    scores.write_text("\n".join(json.dumps(strip(line)) for line in (ours, random)) + "\n")
    assert [line["method"] for line in kept()] == [*methods, methods[0]]  # it had no settings
    monkeypatch.setattr("strategies.bayesian.RECIPE", -1)
    figures = benchmark.run(given)
    last = json.loads(scores.read_text().splitlines()[-1])
    assert last["method"] == methods[0]
    assert last["settings"] not in ("", ours["settings"])
    assert [record["searches"] for record in figures["means"]] == [1, 1]
    assert "95 %" in capsys.readouterr().out


def strip(line):
    """A line as it was written before settings were."""
    return {name: value for name, value in line.items() if name != "settings"}
