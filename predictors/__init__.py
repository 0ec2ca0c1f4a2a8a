"""How good a subnet will be: accuracy predictors, their calibration and their quality."""

from predictors.boosted_trees import BoostedTrees
from predictors.features import feature_names, features
from predictors.prediction import NotFittedError, Prediction, Predictor
from predictors.quality import Quality, cross_validated, quality, rank_quality

__all__ = [
    "BoostedTrees",
    "NotFittedError",
    "Prediction",
    "Predictor",
    "Quality",
    "cross_validated",
    "feature_names",
    "features",
    "quality",
    "rank_quality",
]
