"""The standard spaces by name, for files and command lines."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from records import unknown_name
from search_spaces.space import SearchSpace
from search_spaces.standard.ascan import AsCANSpace
from search_spaces.standard.autoformer import AutoFormerSpace
from search_spaces.standard.efficientformer import EfficientFormerSpace
from search_spaces.standard.fbnet import FBNetSpace
from search_spaces.standard.mnasnet import MnasNetSpace
from search_spaces.standard.nas_bench_201 import NASBench201
from search_spaces.standard.nas_bench_macro import NASBenchMacro
from search_spaces.standard.nasvit import AttentiveNASSpace, NASViTSpace
from search_spaces.standard.once_for_all import OFAMobileNetV3
from search_spaces.standard.vit_resnas import ViTResNASSpace

STANDARD: dict[str, Callable[..., SearchSpace]] = {
    "ascan": AsCANSpace,
    "attentive-nas": AttentiveNASSpace,
    "autoformer-base": AutoFormerSpace.base,
    "autoformer-small": AutoFormerSpace.small,
    "autoformer-tiny": AutoFormerSpace.tiny,
    "efficientformer": EfficientFormerSpace,
    "fbnet": FBNetSpace,
    "fbnet-cifar100": FBNetSpace.cifar100,
    "mnasnet": MnasNetSpace,
    "nas-bench-201": NASBench201,
    "nas-bench-macro": NASBenchMacro,
    "nasvit": NASViTSpace,
    "ofa-mobilenetv3": OFAMobileNetV3,
    "vit-resnas-small": ViTResNASSpace.small,
    "vit-resnas-tiny": ViTResNASSpace.tiny,
}
"""What makes each space; called without arguments it makes the published one."""


def standard_space(name: str, **parameters: Any) -> SearchSpace:
    """A space of the literature by its name.

    >>> standard_space("nas-bench-macro").cardinality
    6561

    Args:
        name: One of `STANDARD`.
        parameters: What shall differ from the publication, e.g. `image_size` or `num_classes`.

    Raises:
        UnknownNameError: No space of that name, or a parameter that it does not have.
        BadInputError: Parameters that no network can have.
    """
    if name not in STANDARD:
        raise unknown_name("standard space", name, STANDARD)
    make = STANDARD[name]
    known = inspect.signature(make).parameters
    for parameter in parameters:
        if parameter not in known:
            raise unknown_name(f"parameter of {name}", parameter, known)
    return make(**parameters)
