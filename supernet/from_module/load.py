"""From a user's module to a search space and a supernet that holds its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.elastic import BATCH_NORM_EPSILON
from supernet.from_module.calls import lower
from supernet.from_module.module_space import ModuleSpace
from supernet.from_module.options import Options, apply_options
from supernet.from_module.tracing import trace
from supernet.pretrained import LoadReport, load_pretrained
from supernet.supernet import Supernet


def elastic_space(
    module: nn.Module, choices: Options, *, image_size: int, channels: int, num_classes: int
) -> ModuleSpace:
    """The search space whose largest network is a given module.

    Understood are convolutional networks and MLPs of torch's plain layers, in chains and with
    sums, such as ResNets and MobileNets; anything else is refused by name.

    Args:
        module: The network, from images to logits; it stays as it is.
        choices: For names of layers, or patterns such as `layer1.*.conv1`, what may vary:
            `out_channels` of a `Conv2d` or `Linear` (widths that sums tie together become one
            choice, named after the first layer), `kernel` of a `Conv2d`, `depth` of a `Sequential`
            or `ModuleList`, whose first blocks are kept. The greatest value is the module's own.
            The name of a container means all layers in it.
        image_size: Height and width of the images, in pixels.
        channels: Channels of the images.
        num_classes: Classes to tell apart.

    Raises:
        BadInputError: A module that is not understood, or choices that do not fit it.

    Example::

        space = elastic_space(
            resnet,
            {"layer*.*.conv1": {"out_channels": (32, 64)}, "layer2": {"depth": (1, 2)}},
            image_size=32, channels=3, num_classes=10,
        )
    """
    lowered = lower(trace(module, image_size=image_size, channels=channels), num_classes)
    layers, offered = apply_options(lowered, choices)
    return ModuleSpace(
        image_size=image_size,
        channels=channels,
        num_classes=num_classes,
        traced=layers,
        offered=offered,
    )


def elastic_supernet(
    module: nn.Module,
    choices: Options,
    *,
    image_size: int,
    channels: int,
    num_classes: int,
    sort: bool = False,
) -> Supernet:
    """A supernet whose largest subnet is a given module, with its weights.

    Batch-norm statistics are recalibrated for every subnet; `load_module` reports the module's
    own, with which the largest subnet computes what the module does in eval mode.

    Args:
        module: As in `elastic_space`.
        choices: As in `elastic_space`.
        image_size: As in `elastic_space`.
        channels: As in `elastic_space`.
        num_classes: As in `elastic_space`.
        sort: Whether the channels are sorted by importance (`sort_channels`).

    Raises:
        BadInputError: As in `elastic_space`.
    """
    space = elastic_space(
        module, choices, image_size=image_size, channels=channels, num_classes=num_classes
    )
    supernet = Supernet(space)
    load_module(supernet, module, sort=sort)
    return supernet


def load_module(supernet: Supernet, module: nn.Module, *, sort: bool = False) -> LoadReport:
    """Loads a module's weights into the supernet of its `elastic_space`.

    Batch norms that add another constant to the variance than 1e-5 have the difference added to
    the variance in the report.

    Raises:
        BadInputError: The module is not the one that the space was made of.
    """
    return load_pretrained(supernet, _state_dict(module), lambda layer: layer, sort=sort)


@torch.no_grad()
def _state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The module's tensors, with batch norms as they are here."""
    state = {name: value.detach().cpu().float() for name, value in module.state_dict().items()}
    for name, norm in module.named_modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
            variance = state[f"{name}.running_var"]
            state[f"{name}.running_var"] = variance + (norm.eps - BATCH_NORM_EPSILON)
            if not norm.affine:
                state[f"{name}.weight"] = torch.ones_like(variance)
                state[f"{name}.bias"] = torch.zeros_like(variance)
    return state
