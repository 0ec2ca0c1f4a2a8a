"""The code of docs/costs.md runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch

from latency_models import CostModel

PAGE = (Path(__file__).parents[2] / "docs" / "costs.md").read_text()


@pytest.fixture
def _one_thread_in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread_in_an_empty_folder")
def test_every_block_runs_and_what_the_page_says_holds(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 8
    names: dict[str, object] = {"__name__": "__docs__"}
    for i, block in enumerate(blocks):
        exec(compile(block, f"costs.md, block {i}", "exec", dont_inherit=True), names)
    said = capsys.readouterr().out
    assert "fitted to 16 networks timed" in said
    assert "24 files, others interpolated; calibrated on 4 networks" in said
    known = names["known"]
    assert (known.latency_low_ms <= known.latency_ms).all()
    assert (known.latency_ms <= known.latency_high_ms).all()
    assert known.measured + known.interpolated + known.analytic == pytest.approx(1)
    assert names["limits"] == {"peak_memory_bytes": 320 * 1024, "flash_bytes": 1024 * 1024}
    patched, whole, some = names["patched"], names["at_once"], names["some"]
    assert (patched.peak_memory_bytes(some) / whole.peak_memory_bytes(some)).mean() < 0.7
    assert 1 < (patched.latency_ms(some) / whole.latency_ms(some)).mean() < 2


def test_the_options_of_the_page_are_those_of_the_command_line(hwnas):
    helped = hwnas("explain", "--help").out
    options = set(re.findall(r"`[^`]*(--[a-z-]+)", PAGE.partition("`hwnas explain")[2]))
    assert options
    assert all(option in helped for option in options)


def test_the_cost_models_of_the_page_are_exported():
    import latency_models

    rows = re.findall(r"^\| `(\w+)[(`]", PAGE, re.M)
    assert rows.count("RooflineCostModel") == 1
    for name in set(rows) - {"LatencyTransfer"}:
        assert name in latency_models.__all__
    assert issubclass(latency_models.KernelTableCostModel, CostModel)
