import logging

import numpy as np
import pytest
import torch

from predictors import entropy
from predictors.zero_cost import (
    PROXIES,
    SIZES,
    fresh_network,
    score_network,
    unscored,
    zero_cost_scores,
)
from predictors.zero_cost.scores import checked_batch
from records import BadInputError, UnknownNameError
from search_spaces import CNNSpace
from search_spaces.standard import NASBench201

SPACE = CNNSpace(image_size=8, channels=1, num_classes=4)
CELLS = NASBench201(image_size=8, channels_first=4, cells=1)
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(size=(6, 1, 8, 8)).astype(np.float32), np.arange(6) % 4
QUICK = ("synflow", "snip", "entropy")


def test_every_proxy_gives_a_number_a_network_beside_macs_and_parameters():
    genes = SPACE.sample(3, np.random.default_rng(1))
    scores = zero_cost_scores(SPACE, genes, IMAGES, LABELS)
    assert tuple(scores) == ("macs", "parameters", *PROXIES)
    for values in scores.values():
        assert values.shape == (3,)
        assert np.isfinite(values).all()
    table = SPACE.layer_table(genes)
    np.testing.assert_array_equal(scores["macs"], table.macs)
    np.testing.assert_array_equal(scores["parameters"], table.parameters)
    np.testing.assert_array_equal(scores["entropy"], entropy(table).score)


def test_names_choose_proxies_and_sizes_come_in_any_case():
    genes = SPACE.sample(1, np.random.default_rng(1))
    scores = zero_cost_scores(SPACE, genes, IMAGES, LABELS, names=["snip", "macs", "snip"])
    assert tuple(scores) == (*SIZES, "snip")
    assert tuple(zero_cost_scores(SPACE, genes, IMAGES, LABELS, names=())) == tuple(SIZES)


def test_a_score_depends_neither_on_the_other_rows_nor_on_who_holds_the_images():
    genes = SPACE.sample(3, np.random.default_rng(2))
    together = zero_cost_scores(SPACE, genes, IMAGES, LABELS, names=QUICK)
    images, labels = torch.tensor(IMAGES), torch.tensor(LABELS)
    turned = zero_cost_scores(SPACE, genes[[2, 0, 2]], images, labels, names=QUICK)
    for name, values in together.items():
        np.testing.assert_array_equal(turned[name], values[[2, 0, 2]])


def test_the_seed_draws_the_weights():
    genes = SPACE.sample(1, np.random.default_rng(2))
    scores = [zero_cost_scores(SPACE, genes, IMAGES, LABELS, names=QUICK, seed=s) for s in (0, 1)]
    assert scores[0]["snip"] != scores[1]["snip"]
    assert scores[0]["entropy"] == scores[1]["entropy"]


def test_networks_without_a_score_are_nan_and_counted(caplog):
    genes = [[0] * 6, [3] * 6, [0] * 6, [1, 0, 0, 0, 0, 0]]  # no path leads through but the second
    images, labels = RNG.normal(size=(4, 3, 8, 8)), np.arange(4)
    with caplog.at_level(logging.WARNING):
        scores = zero_cost_scores(
            CELLS, genes, images, labels, names=["synflow", "snip", "entropy"]
        )
    for name in ("synflow", "entropy"):
        assert np.isnan(scores[name]).tolist() == [True, False, True, True]
    assert unscored(scores) == {"macs": 0, "parameters": 0, "synflow": 3, "snip": 0, "entropy": 3}
    assert [r.getMessage() for r in caplog.records] == [
        "synflow: 3 of 4 networks have no score",
        "entropy: 3 of 4 networks have no score",
    ]


def test_a_single_network_is_scored_by_a_name():
    genes = SPACE.sample(1, np.random.default_rng(3))
    batch = checked_batch(SPACE, IMAGES, LABELS, seed=5)
    alone = score_network("snip", fresh_network(SPACE, genes[0], batch), batch)
    table = zero_cost_scores(SPACE, genes, IMAGES, LABELS, names=["snip"], seed=5)
    assert alone == table["snip"][0]
    with pytest.raises(UnknownNameError, match="proxy of a network 'entropy'"):
        score_network("entropy", fresh_network(SPACE, genes[0], batch), batch)


def test_every_proxy_names_its_paper_and_scores_networks_or_tables():
    for proxy in PROXIES.values():
        assert "arXiv" in proxy.source
        assert (proxy.of_network is None) != (proxy.of_table is None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": ["sinflow"]}, "did you mean 'synflow'"),
        ({"names": "synflow"}, "list of proxies"),
        ({"images": IMAGES[:, :, :4]}, "1 x 8 x 8, got shape"),
        ({"images": IMAGES[:1], "labels": LABELS[:1]}, "2 or more"),
        ({"images": IMAGES * np.inf}, "finite"),
        ({"labels": LABELS[:2]}, "6 integers"),
        ({"labels": LABELS * 1.0}, "6 integers"),
        ({"labels": LABELS + 1}, "labels must be 0 to 3"),
        ({"genes": [[99]]}, "genes must be"),
    ],
    ids=["name", "text", "size", "one", "infinite", "few", "floats", "class", "genes"],
)
def test_what_cannot_be_scored_is_refused(changed, message):
    given = {"genes": SPACE.extremes("smallest"), "images": IMAGES, "labels": LABELS}
    with pytest.raises(BadInputError, match=message):
        zero_cost_scores(SPACE, **{**given, **changed})
