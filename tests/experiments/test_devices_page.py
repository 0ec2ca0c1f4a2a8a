"""The code of docs/devices.md runs as it stands there, on a board that was measured by formula."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from deployment.kit import measure
from experiments.datasets import load_dataset
from experiments.profile_command import ImportOptions, import_results
from experiments.spaces import make_space
from tests.deployment.made_results import made_manifest, made_results, written
from tests.latency_models.doubles import planted_ms

PAGE = (Path(__file__).parents[2] / "docs" / "devices.md").read_text()


@pytest.fixture
def my_board(tmp_path, monkeypatch):
    """A target of the name that the page uses, for the space that its kit is exported for."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    space = make_space("cnn", load_dataset("digits"))
    manifest = made_manifest([space], networks=30)
    genes = np.array([entry["genes"] for entry in manifest["models"]])
    results = made_results(manifest, planted_ms(space, genes))
    import_results(written(results, tmp_path / "r.json"), ImportOptions(name="my-board"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("my_board")
def test_every_block_runs_after_those_before_it(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 4
    names: dict[str, object] = {"__name__": "__docs__"}
    for i, block in enumerate(blocks):
        exec(compile(block, f"devices.md, block {i}", "exec", dont_inherit=True), names)
    said = capsys.readouterr().out
    assert "Raspberry Pi 4 Model B" in said
    assert "off on networks it has not seen" in said
    assert names["costs"].runner is names["pi"]
    assert names["by_ray"].name == "device:rpi4 by Ray"


def test_the_commands_of_the_page_are_those_of_the_command_line(hwnas):
    lines = [line for line in PAGE.splitlines() if line.startswith("hwnas profile")]
    assert len(lines) == 6
    for line in lines:
        words = line.split("#")[0].split()
        helped = hwnas(*words[1:3], "--help").out
        for word in words[3:]:
            if word.startswith("--"):
                assert word in helped, line


def test_the_options_of_the_script_are_those_of_the_page():
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `--")]
    described = {option for row in rows for option in re.findall(r"--[a-z-]+", row)}
    known = set(re.findall(r'add\(\s*"(--[a-z-]+)"', Path(measure.__file__).read_text()))
    assert described == known
