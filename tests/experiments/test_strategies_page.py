"""The code of docs/strategies.md runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import strategies
from strategies import Strategy
from supernet import ChoiceDistribution

PAGE = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()


@pytest.fixture
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_every_block_runs_and_what_the_page_says_holds(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 9
    names: dict[str, object] = {"__name__": "__docs__"}
    for i, block in enumerate(blocks):
        exec(compile(block, f"strategies.md, block {i}", "exec", dont_inherit=True), names)
    said = capsys.readouterr().out
    for name, least in (("NSGA2", 1), ("LocalSearch", 16)):  # those two have a design in common
        reused = int(re.search(rf"{name} \d+ (\d+) of 24 were known", said).group(1))
        assert reused >= least
    allowed = [names["both"].allows(np.array([n.genes])).all() for n in names["shared"]]
    assert all(allowed)
    assert 1 <= len(allowed) <= 2
    for point in names["own"]:
        is_int8 = point.target.endswith("int8")
        assert (point.architecture["precision"] == "int8") == is_int8
    assert {point.target for point in names["own"]} == set(names["mixed"].targets)
    assert names["slimming"].waits
    assert names["bisection"].waits
    assert names["distribution"].entropy < ChoiceDistribution.uniform(names["space"]).entropy
    assert len(names["designs"].designed) > 8
    assert names["theirs"].pending.shape[1] == len(names["space"].choices)


def test_the_table_lists_every_strategy():
    listed = set(re.findall(r"^\| `(\w+)\(", PAGE, re.M))
    ours = {
        name
        for name in strategies.__all__
        if isinstance(value := getattr(strategies, name), type)
        and issubclass(value, Strategy)
        and value is not Strategy
    }
    assert listed - ours <= {"Bayesian", "OptunaStrategy", "PymooStrategy"}
    assert ours <= listed
