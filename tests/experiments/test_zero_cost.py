import argparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.benchmarks import zero_cost
from records import BadInputError, read_json
from search_spaces.standard import NASBench201


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs the benchmark on a made-up table; says what it showed and how many it scored."""
    rows = NASBench201(cells=1).sample(12, np.random.default_rng(0))
    table = pa.table({"ops": rows.tolist(), "cifar100_acc": np.arange(12.0)})
    pq.write_table(table, tmp_path / "nb201.parquet")
    scored = []

    def score(space, row, batch, names):
        scored.append(zero_cost._key(row))
        return {name: (float(row.sum()), 0.1) for name in names}

    monkeypatch.setattr(zero_cost, "_scored", score)
    monkeypatch.setattr(zero_cost, "BOOTSTRAPS", 3)
    monkeypatch.setattr(zero_cost, "minibatch", lambda *given: (NASBench201(cells=1), None))

    def run(*given):
        parser = argparse.ArgumentParser()
        zero_cost.add_arguments(parser)
        fixed = [str(tmp_path), "--images", "noise", "--scores", str(tmp_path / "scores.json")]
        scored.clear()
        figures = zero_cost.run(parser.parse_args([*fixed, *given]))
        return figures["proxies"], list(scored)

    return run


def test_it_goes_on_where_it_was_interrupted(command, tmp_path):
    _, first = command("--networks", "4", "--proxies", "synflow")
    shown, more = command("--networks", "9", "--proxies", "synflow")
    assert (len(first), len(more)) == (4, 5)
    assert not set(first) & set(more)
    (kept,) = read_json(tmp_path / "scores.json", kind="scores").values()
    assert set(kept) == {*first, *more}
    (tmp_path / "scores.json").unlink()
    assert command("--networks", "9", "--proxies", "synflow")[0] == shown


def test_published_figures_are_called_recalled(command, capsys):
    shown, _ = command("--networks", "5", "--proxies", "synflow", "naswot")
    recalled = {r["proxy"]: r["recalled_spearman"] for r in shown}
    assert recalled == {"synflow": 0.76, "naswot": None, "macs": None, "parameters": None}
    assert "recalled" in capsys.readouterr().out


def test_it_stops_in_time_and_shows_what_there_is(command):
    with pytest.raises(BadInputError, match="fewer than 2"):
        command("--networks", "9", "--proxies", "synflow", "--seconds", "-1")
    command("--networks", "4", "--proxies", "synflow")
    shown, more = command("--networks", "9", "--proxies", "synflow", "--seconds", "-1")
    assert not more
    assert {r["proxy"] for r in shown} == {"synflow", "macs", "parameters"}
