import numpy as np
import pytest

from predictors import BoostedTrees, Prediction, StackedPredictor, select_predictor
from records import BadInputError
from search_spaces import HybridSpace
from tests.predictors.test_quality import Memory

SPACE = HybridSpace()


class Planted(Memory):
    """Answers with a gene, or against it."""

    sign = 1.0

    def predict(self, genes):
        return Prediction(self.sign * np.asarray(genes)[:, 0], np.ones(len(genes)))


class Against(Planted):
    sign = -1.0


@pytest.fixture(scope="module")
def data():
    genes = SPACE.sample(40, np.random.default_rng(0))
    return genes, genes[:, 0] + 0.3 * np.random.default_rng(1).standard_normal(40)


def test_the_better_is_taken_wherever_it_stands(data):
    for candidates in ({"for": Planted, "against": Against}, {"against": Against, "for": Planted}):
        found = select_predictor(SPACE, *data, candidates=candidates)
        assert found.name == "for"
        assert found.qualities["for"].kendall_tau > 0.3 > found.qualities["against"].kendall_tau
        assert found.predictor.mean == pytest.approx(data[1].mean())  # fitted on all rows


def test_in_doubt_the_first_is_taken(data):
    candidates = {"first": Planted, "second": Planted}
    assert select_predictor(SPACE, *data, candidates=candidates).name == "first"
    constant = np.ones(40)
    assert select_predictor(SPACE, data[0], constant, candidates=candidates).name == "first"


@pytest.mark.slow
def test_the_usual_candidates(data):
    found = select_predictor(SPACE, *data, folds=2)
    assert set(found.qualities) == {"stacked", "boosted"}
    kind = {"stacked": StackedPredictor, "boosted": BoostedTrees}[found.name]
    assert isinstance(found.predictor, kind)
    assert found.predictor.predict(data[0]).mean.shape == (40,)


def test_what_cannot_be_compared(data):
    with pytest.raises(BadInputError, match="at least one candidate"):
        select_predictor(SPACE, *data, candidates={})
    with pytest.raises(BadInputError, match="folds"):
        select_predictor(SPACE, data[0][:3], data[1][:3])
