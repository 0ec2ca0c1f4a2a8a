"""The code of the documentation runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch

from search_spaces.primitives import PRIMITIVES
from supernet.elastic import ELASTIC
from supernet.static import STATIC

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def _tables_as_before():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    known = [dict(table) for table in (PRIMITIVES, ELASTIC, STATIC)]
    yield
    for table, before in zip((PRIMITIVES, ELASTIC, STATIC), known, strict=True):
        for name in set(table) - set(before):
            del table[name]
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_tables_as_before")
@pytest.mark.parametrize("page", ["spaces.md", "training.md"])
def test_every_block_of_a_page_runs_after_those_before_it(page, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.S)
    assert len(blocks) > 2
    names: dict[str, object] = {"__name__": "__docs__"}
    for i, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {i}", "exec", dont_inherit=True), names)
    capsys.readouterr()
