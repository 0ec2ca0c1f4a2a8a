"""Search spaces of the literature: exact sizes and costs, by name with `standard_space`."""

from search_spaces.standard.ascan import AsCANSpace
from search_spaces.standard.autoformer import AutoFormerSpace
from search_spaces.standard.efficientformer import EfficientFormerSpace
from search_spaces.standard.fbnet import FBNetSpace
from search_spaces.standard.mnasnet import MnasNetSpace
from search_spaces.standard.nas_bench_201 import NASBench201
from search_spaces.standard.nas_bench_macro import NASBenchMacro
from search_spaces.standard.nasvit import AttentiveNASSpace, NASViTSpace
from search_spaces.standard.once_for_all import OFAMobileNetV3, OFASettings
from search_spaces.standard.registry import STANDARD, standard_space
from search_spaces.standard.vit_resnas import ViTResNASSpace

__all__ = [
    "STANDARD",
    "AsCANSpace",
    "AttentiveNASSpace",
    "AutoFormerSpace",
    "EfficientFormerSpace",
    "FBNetSpace",
    "MnasNetSpace",
    "NASBench201",
    "NASBenchMacro",
    "NASViTSpace",
    "OFAMobileNetV3",
    "OFASettings",
    "ViTResNASSpace",
    "standard_space",
]
