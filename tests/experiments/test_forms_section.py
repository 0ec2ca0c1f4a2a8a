"""The code of the section "Forms" of docs/deployment.md runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from deployment import FORMS, gelu_error
from experiments.datasets import load_dataset
from search_spaces import CNNSpace, ConvStage
from supernet import Supernet

PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
SECTION = re.search(r"^## Forms\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M).group(1)
SPACE = CNNSpace(
    image_size=8,
    channels=1,
    stages=(ConvStage(depths=(1, 2), widths=(8, 16), kernels=(3,), expansions=(1, 2)),),
)


def test_block_runs_and_what_the_section_says_holds(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", SECTION, re.S)
    data = load_dataset("digits")
    names = {"__name__": "__docs__", "data": data, "space": SPACE, "supernet": Supernet(SPACE)}
    exec(compile(block, "deployment.md, Forms", "exec", dont_inherit=True), names)
    choices, difference, entry = capsys.readouterr().out.splitlines()
    assert "'norms': ('folded', 'kept')" in choices
    assert "'attention': ('packed',)" in choices
    assert float(difference) <= 1e-5
    assert "tensor(uint8)" in entry
    assert "['batch', 8, 8, 1]" in entry
    digits = np.round(load_digits().images * (255 / 16)).astype(np.uint8)[:20, ..., None]
    (logits,) = names["session"].run(None, {"images": digits})
    mean, deviation = data.normalisation.mean[0], data.normalisation.deviation[0]
    images = torch.from_numpy((digits[..., 0] / 255 - mean) / deviation).float()[:, None]
    with torch.no_grad():
        ours = names["network"](images).numpy()
    np.testing.assert_allclose(logits, ours, rtol=0, atol=1e-5 * np.abs(ours).max())


def test_table_names_every_form_with_the_default_first():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", SECTION, re.M))
    assert set(rows) == set(FORMS)
    for name, values in FORMS.items():
        places = [rows[name].index(f"`{value}`") for value in values]
        assert places == sorted(places), name


def test_stated_error_is_the_computed_one():
    stated = float(re.search(r"`gelu_error\(\)` = (\S+) ", SECTION).group(1))
    assert abs(gelu_error() - stated) < 0.5e-6
