"""Search spaces of the literature: exact sizes and costs, by name with `standard_space`."""

from search_spaces.standard.fbnet import FBNetSpace
from search_spaces.standard.mnasnet import MnasNetSpace
from search_spaces.standard.nas_bench_201 import NASBench201
from search_spaces.standard.nas_bench_macro import NASBenchMacro
from search_spaces.standard.once_for_all import OFAMobileNetV3, OFASettings
from search_spaces.standard.registry import STANDARD, standard_space

__all__ = [
    "STANDARD",
    "FBNetSpace",
    "MnasNetSpace",
    "NASBench201",
    "NASBenchMacro",
    "OFAMobileNetV3",
    "OFASettings",
    "standard_space",
]
