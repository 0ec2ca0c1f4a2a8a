"""What can be built: choices, genes, architectures, blocks and the layer table."""

from search_spaces.additive import InfeasibleLimitError, layer_values, least
from search_spaces.architecture import Architecture, ArchitectureDiff
from search_spaces.band import (
    CountInBand,
    MetricDistribution,
    count_in_band,
    distribution,
    sample_in_band,
)
from search_spaces.band_search import FoundInBand, search_in_band
from search_spaces.block_names import block_of, stage_of
from search_spaces.block_precision import WithBlockPrecision
from search_spaces.choice import Choice
from search_spaces.cnn import CNNSpace, ConvStage
from search_spaces.expression import Dim, Expression
from search_spaces.genes import Genes, GeneSpace, Mask
from search_spaces.graph import Graph, Layer
from search_spaces.hybrid import HybridSpace, HybridStage
from search_spaces.layer_table import LayerTable, peak_alive
from search_spaces.network import NetworkBuilder, Node, Tensor
from search_spaces.platform import WithPlatform
from search_spaces.precision import WithPrecision
from search_spaces.pruning import Pruned, RemovedValue, prune, prune_by_search, prune_layers
from search_spaces.recipe import WithRecipe
from search_spaces.restricted import Restricted
from search_spaces.space import SearchSpace
from search_spaces.standard import STANDARD, standard_space
from search_spaces.tabulate import Tabulation, tabulate
from search_spaces.vit import ViTSpace

__all__ = [
    "STANDARD",
    "Architecture",
    "ArchitectureDiff",
    "CNNSpace",
    "Choice",
    "ConvStage",
    "CountInBand",
    "Dim",
    "Expression",
    "FoundInBand",
    "GeneSpace",
    "Genes",
    "Graph",
    "HybridSpace",
    "HybridStage",
    "InfeasibleLimitError",
    "Layer",
    "LayerTable",
    "Mask",
    "MetricDistribution",
    "NetworkBuilder",
    "Node",
    "Pruned",
    "RemovedValue",
    "Restricted",
    "SearchSpace",
    "Tabulation",
    "Tensor",
    "ViTSpace",
    "WithBlockPrecision",
    "WithPlatform",
    "WithPrecision",
    "WithRecipe",
    "block_of",
    "count_in_band",
    "distribution",
    "layer_values",
    "least",
    "peak_alive",
    "prune",
    "prune_by_search",
    "prune_layers",
    "sample_in_band",
    "search_in_band",
    "stage_of",
    "standard_space",
    "tabulate",
]
