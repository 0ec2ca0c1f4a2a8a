import json

import numpy as np
import pytest

from records import BadInputError
from strategies.tune_config import architecture_of, genes_of, network_config
from tests.strategies.doubles import SPACE, TINY, all_rows


def test_a_config_means_the_row_it_was_made_of():
    rows = SPACE.sample(20, np.random.default_rng(0))
    for row, architecture in zip(rows, SPACE.decode(rows), strict=True):
        config = json.loads(json.dumps(network_config(SPACE, row)))
        assert (genes_of(config, SPACE) == row).all()
        assert architecture_of(config, SPACE) == architecture
        for half in ("architecture", "genes"):
            assert (genes_of({half: config[half], "epochs": 3}, SPACE) == row).all()


def test_a_config_names_the_active_choices_and_what_is_known():
    row = all_rows(TINY)[0]
    config = network_config(TINY, row, {"board": 1.5})
    assert config["latency_ms"] == {"board": 1.5}
    (architecture,) = TINY.decode(row[None])
    assert config["architecture"] == dict(architecture.items)
    assert "latency_ms" not in network_config(TINY, row)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.clear(), "has no architecture, only nothing"),
        (lambda c: c.update(genes="0-x"), "numbers with '-' between them"),
        (lambda c: c.update(genes="9" + c["genes"][1:]), "allowed"),
        (lambda c: c.update(genes="1"), "genes"),
        (lambda c: c["architecture"].update({"stem.width": 7}), "allowed"),
        (lambda c: c["architecture"].pop("stem.width"), "is missing"),
        (lambda c: c["architecture"].update({"stem.width": 16}), "something changed one of"),
    ],
)
def test_what_means_no_architecture_or_two_is_refused(change, said):
    config = network_config(SPACE, SPACE.extremes("smallest")[0])
    change(config)
    with pytest.raises(BadInputError, match=said):
        genes_of(config, SPACE)
