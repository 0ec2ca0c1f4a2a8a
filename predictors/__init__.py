"""How good a subnet will be: accuracy predictors, their calibration and their quality."""

from predictors.boosted_trees import BoostedTrees
from predictors.entropy import Entropy, entropy
from predictors.features import feature_names, features
from predictors.gaussian_process import GaussianProcess
from predictors.graph_features import (
    GraphFeatures,
    graph_feature_groups,
    graph_feature_names,
    graph_features,
    network_hashes,
)
from predictors.prediction import NotFittedError, Prediction, Predictor
from predictors.pretrained import PretrainedPredictor
from predictors.pruning_advice import PruningAdvice, pruning_advice
from predictors.quality import (
    Quality,
    cross_validated,
    quality,
    rank_quality,
    top_k_regret,
)
from predictors.selection import Selection, select_predictor
from predictors.stacked import StackedPredictor

__all__ = [
    "BoostedTrees",
    "Entropy",
    "GaussianProcess",
    "GraphFeatures",
    "NotFittedError",
    "Prediction",
    "Predictor",
    "PretrainedPredictor",
    "PruningAdvice",
    "Quality",
    "Selection",
    "StackedPredictor",
    "cross_validated",
    "entropy",
    "feature_names",
    "features",
    "graph_feature_groups",
    "graph_feature_names",
    "graph_features",
    "network_hashes",
    "pruning_advice",
    "quality",
    "rank_quality",
    "select_predictor",
    "top_k_regret",
]
