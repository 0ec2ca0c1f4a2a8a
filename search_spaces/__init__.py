"""What can be built: choices, genes, architectures, blocks and the layer table."""

from search_spaces.additive import least
from search_spaces.architecture import Architecture
from search_spaces.choice import Choice
from search_spaces.cnn import CNNSpace, ConvStage
from search_spaces.expression import Dim, Expression
from search_spaces.genes import Genes, GeneSpace, Mask
from search_spaces.graph import Graph, Layer
from search_spaces.hybrid import HybridSpace, HybridStage
from search_spaces.layer_table import LayerTable, peak_alive
from search_spaces.network import NetworkBuilder, Node, Tensor
from search_spaces.space import SearchSpace
from search_spaces.standard import STANDARD, standard_space
from search_spaces.tabulate import Tabulation, tabulate
from search_spaces.vit import ViTSpace

__all__ = [
    "STANDARD",
    "Architecture",
    "CNNSpace",
    "Choice",
    "ConvStage",
    "Dim",
    "Expression",
    "GeneSpace",
    "Genes",
    "Graph",
    "HybridSpace",
    "HybridStage",
    "Layer",
    "LayerTable",
    "Mask",
    "NetworkBuilder",
    "Node",
    "SearchSpace",
    "Tabulation",
    "Tensor",
    "ViTSpace",
    "least",
    "peak_alive",
    "standard_space",
    "tabulate",
]
