"""Transfer on published tables: every figure is on rows that were not measured."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

pytest.importorskip("pyarrow")

from experiments.benchmarks import latency_transfer as benchmark
from experiments.latency_tables import device_columns, read_latency_table
from experiments.latency_transfer import main
from latency_models.transfer import LatencyTransfer

TABLES = Path(__file__).resolve().parents[3] / "shared" / "benchdata"


def table_path(space):
    path = TABLES / f"{space}.parquet"
    if not path.exists():
        pytest.skip(f"{path} is not at hand")
    return path


def scores_of(space, devices):
    """The scores of one seed, by method, number of samples and device, on chosen rows."""
    path = table_path(space)
    table = read_latency_table(path, space, device_columns(path))
    transfer = LatencyTransfer(table.features, table.genes, table.latency_ms)
    found = {}
    for device in devices:
        column = table.columns.index(f"lat_{device}")
        for score in benchmark.score_device(table, transfer, space, column, [0]):
            if score.rows == "chosen":
                found.setdefault((score.method, score.samples), []).append(score)
    return found


def mean(scores):
    return np.mean([score.spearman for score in scores])


@pytest.mark.parametrize(
    ("space", "devices", "least"),
    [
        pytest.param("nb201", ["2080ti_1", "silver_4210r"], 0.95, marks=pytest.mark.slow),
        ("fbnet", ["titanx_1", "silver_4114", "pixel3"], 0.93),
        ("ofa", ["v100_64", "titan_rtx_1", "titan_xp_32"], 0.93),
    ],
    ids=["nb201", "fbnet", "ofa"],
)
def test_ten_networks_rank_all_others_better_than_simple_predictors(space, devices, least):
    scores = scores_of(space, devices)
    ours = scores["transfer", 10]
    assert mean(ours) > least
    assert mean(ours) > mean(scores["MACs", 10]) + 0.05
    for peer in ("ridge on operation counts", "ridge on other devices"):
        assert mean(ours) > mean(scores[peer, 10])
    assert mean(ours) > mean(scores["mean of other devices", 10])
    assert mean(ours) > mean(scores["most similar device", 10]) - 0.01
    assert 0.75 < np.mean([score.coverage for score in ours]) <= 1
    assert mean(scores["transfer", 5]) > mean(scores["most similar device", 5]) - 0.02


def test_the_commands_predict_a_published_device_from_three_others(tmp_path):
    path = table_path("fbnet")
    measured, out = tmp_path / "measured.csv", tmp_path / "out.parquet"
    rows = tmp_path / "rows.json"
    known = ["--space", "fbnet", "--sources", str(path),
             "--source-columns", "lat_1080ti_1,lat_pixel3,lat_silver_4114"]  # fmt: skip
    assert main(["select", *known, "--samples", "10", "--seed", "1", "--out", str(rows)]) == 0
    chosen = json.loads(rows.read_text())
    truth = read_latency_table(path, "fbnet", ["lat_titanx_32"]).latency_ms[:, 0]
    lines = ["row,latency_ms", *(f"{row},{truth[row]}" for row in chosen)]
    measured.write_text("\n".join(lines) + "\n")
    assert main(["predict", *known, "--measured", str(measured), "--out", str(out)]) == 0
    found = pytest.importorskip("pyarrow.parquet").read_table(out).to_pydict()
    rest = np.setdiff1d(np.arange(len(truth)), chosen)
    assert found["row"] == list(range(len(truth)))
    assert spearmanr(np.array(found["latency_ms"])[rest], truth[rest]).statistic > 0.9
    inside = (np.array(found["lower"]) <= truth) & (truth <= np.array(found["upper"]))
    assert 0.75 < inside[rest].mean() <= 1


def test_scores_kept_in_a_file_are_read_back_and_not_computed_again(tmp_path, monkeypatch):
    table_path("ofa")
    scores, calls = tmp_path / "scores.jsonl", []
    real = benchmark.score_device

    def counted(table, transfer, space, device, seeds):
        calls.append((device, tuple(seeds)))
        return list(real(table, transfer, space, device, seeds))

    monkeypatch.setattr(benchmark, "score_device", counted)
    monkeypatch.setattr(benchmark, "SAMPLES", (3, 5))
    arguments = [str(TABLES), "--spaces", "ofa", "--seeds", "1", "--scores", str(scores)]
    parser = benchmark.argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    first = benchmark.run(parser.parse_args(arguments))
    assert len(calls) == len(device_columns(TABLES / "ofa.parquet"))
    second = benchmark.run(parser.parse_args(arguments))
    assert len(calls) == len(device_columns(TABLES / "ofa.parquet"))
    assert first == second


def test_the_most_similar_device_is_the_one_that_correlates_best():
    rng = np.random.default_rng(0)
    sources = rng.normal(5, 1, (12, 4))
    measured = 3 * sources[:, 2] + rng.normal(0, 0.1, 12)
    assert benchmark._most_similar(sources, measured) == 2
