"""The code of docs/predictors.md runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import predictors
from experiments.accuracy_transfer import _parser
from predictors import rank_quality
from predictors.zero_cost import PROXIES

PAGE = (Path(__file__).parents[2] / "docs" / "predictors.md").read_text()


@pytest.fixture
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_every_block_runs_and_what_the_page_says_holds(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 7
    names: dict[str, object] = {"__name__": "__docs__"}
    for i, block in enumerate(blocks):
        exec(compile(block, f"predictors.md, block {i}", "exec", dont_inherit=True), names)
    said = capsys.readouterr().out
    around = names["around"]
    assert (around.lower <= around.upper).all()
    assert names["selection"].name in ("boosted", "shallow")
    assert tuple(names["scores"]) == ("macs", "parameters", "synflow", "naswot", "entropy")
    assert "NeurIPS 2020" in said
    # few epochs favour other networks than many
    assert rank_quality(names["long"], names["short"]).kendall_tau < 0.9
    # the harm of one value is what the cost does not explain
    first = names["space"].choices[0]
    gone = {(e.choice, e.value) for e in names["advice"].removed}
    assert (first.name, first.values[1]) in gone
    smaller = names["smaller"]
    rows = smaller.to_base(smaller.sample(5, np.random.default_rng(0)))
    assert names["advice"].keeps(rows).all()


def test_the_tables_of_the_page_are_complete():
    listed = {name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.M) for name in _names(row)}
    assert set(PROXIES) <= listed
    assert listed - set(PROXIES) <= set(predictors.__all__)


def test_the_command_of_the_page_has_its_options():
    command = PAGE.partition("python -m experiments.accuracy_transfer ")[2].partition("```")[0]
    given = _parser().parse_args(command.replace("\\", " ").split())
    assert (given.space, str(given.out)) == ("nb201", "predictions.parquet")


def _names(row: str) -> list[str]:
    return re.findall(r"`(\w+)", row)
