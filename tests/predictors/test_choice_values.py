import numpy as np
import pytest
from sklearn.linear_model import RidgeCV

from predictors import StackedPredictor, features
from predictors.choice_values import choice_values, pooled_values
from predictors.quality import rank_quality
from search_spaces import CNNSpace, HybridSpace
from search_spaces.standard import NASBenchMacro, OFAMobileNetV3

OFA = OFAMobileNetV3()


def chosen(space, row):
    """The values of a row by the name of the choice, by way of the architecture."""
    return dict(space.decode(row)[0].items)


@pytest.mark.parametrize("space", [CNNSpace(), HybridSpace(), OFA], ids=lambda s: s.name)
def test_columns_say_what_the_architecture_says(space):
    rows = space.sample(20, np.random.default_rng(0))
    values, pools = choice_values(space, rows), pooled_values(space, rows)
    for i in range(len(rows)):
        wanted = {f"{k}={v}" for k, v in chosen(space, rows[i]).items() if not isinstance(v, str)}
        assert {name for name, column in values.items() if column[i]} == wanted
        for pool, counts in pools.items():
            before, last = pool.split("*.")
            members = [w for w in wanted if w.startswith(before) and is_deeper(w, before, last)]
            assert counts[i] == len(members), pool


def is_deeper(value, before, last):
    """Whether a value stands below a part of the network, under a name that ends alike."""
    name, _, chosen = value[len(before) :].partition("=")
    return "." in name and f"{name.rpartition('.')[2]}={chosen}" == last


def test_values_that_act_out_of_order_are_learned_in_a_large_space():
    """Expansion 4 is best wherever it stands: no slope along 3, 4, 6 can say so."""
    rows = OFA.sample(300, np.random.default_rng(0))
    best = sum(
        OFA.active(rows)[:, j] & (rows[:, j] == 1)
        for j, choice in enumerate(OFA.choices)
        if choice.name.endswith("expansion")
    ).astype(float)
    model = StackedPredictor(OFA, members=("linear",)).fit(rows[:60], best[:60])
    columns = features(OFA, rows)
    plain = RidgeCV(np.logspace(-2, 3, 6)).fit(columns[:60], best[:60])
    taus = [
        rank_quality(found, best[60:]).kendall_tau
        for found in (model.predict(rows[60:]).mean, plain.predict(columns[60:]))
    ]
    assert taus[0] > 0.8 > 0.5 > taus[1]


def test_spaces_of_names_alone_have_no_such_columns():
    rows = NASBenchMacro().sample(5, np.random.default_rng(0))
    assert not choice_values(NASBenchMacro(), rows)
    assert not pooled_values(NASBenchMacro(), rows)
