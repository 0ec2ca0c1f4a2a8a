"""The code of the section "Quantisation" of docs/deployment.md runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from deployment import open_session
from experiments.datasets import load_dataset
from search_spaces import CNNSpace, ConvStage
from supernet import Supernet, train

PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
SPACE = CNNSpace(
    image_size=8,
    channels=1,
    stages=(ConvStage(depths=(1, 2), widths=(8, 16), kernels=(3,), expansions=(1, 2)),),
)


@pytest.fixture
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_every_block_runs_and_what_the_section_says_holds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    section = re.search(r"^## Quantisation\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M).group(1)
    blocks = re.findall(r"```python\n(.*?)```", section, re.S)
    assert len(blocks) == 2
    data = load_dataset("digits", train_images=300)
    supernet = train(Supernet(SPACE, seed=0), data, epochs=3)
    names = {"__name__": "__docs__", "data": data, "space": SPACE, "supernet": supernet}
    for i, block in enumerate(blocks):
        exec(compile(block, f"deployment.md, block {i}", "exec", dont_inherit=True), names)
    said = capsys.readouterr().out
    assert all(name in said for name in ("stem", "stage0.layer1", "classifier"))
    kept = names["kept"]
    assert kept.accuracy >= kept.fp32_accuracy - 0.005
    image = data.test.images[:1].numpy()
    assert np.isfinite(open_session(names["file"]).run(None, {"images": image})[0]).all()
    assert (tmp_path / "models" / "mixed" / "model.onnx").exists()
