"""Loading a trained network into the largest subnets of a supernet.

A supernet that starts from a trained network needs a fraction of the training: the largest subnet
is good at once, and after the channels are sorted by importance the smaller ones keep what matters
(Cai et al., Once-for-All, ICLR 2020, arXiv 1908.09791, sec. 3.3).

Running statistics of batch norm are no part of a supernet, so none are loaded: every subnet's are
recalibrated. Those in the state dict belong to the largest subnets and are handed back in the
report, in the order of the sorted channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import torch
from torch import Tensor

from records import BadInputError, unknown_name
from search_spaces import Layer
from supernet.channel_sorting import SortReport, sort_channels
from supernet.elastic import Weights
from supernet.foreign_weights import fit
from supernet.network import Statistics, module_name
from supernet.supernet import Supernet

Source: TypeAlias = str | tuple[str, ...]
"""The prefix of a layer's tensors in a state dict; several are joined along their rows."""

Names: TypeAlias = Callable[[str], Source | None] | Mapping[str, Source]
"""Where the tensors of a layer, given by its name, stand in a state dict."""

STATISTICS = ("running_mean", "running_var")
BESIDE = ("bias", *STATISTICS, "num_batches_tracked")
"""Tensors that may belong to a layer beside those that it has."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadReport:
    """What `load_pretrained` did.

    Attributes:
        loaded: For each layer that was loaded the names of the tensors that it took.
        adapted: For some of them how the tensors were made to fit.
        skipped: For each layer that was not loaded though it has tensors, why not.
        missing: Layers of the largest subnets without tensors; they stay as they were.
        unused: Names of the tensors that belong to no layer.
        statistics: Batch-norm statistics of the largest subnets, where there were any.
        sorting: What sorting did, None where it was not asked for.
    """

    loaded: Mapping[str, tuple[str, ...]]
    adapted: Mapping[str, str]
    skipped: Mapping[str, str]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    statistics: Statistics
    sorting: SortReport | None


@torch.no_grad()
def load_pretrained(
    supernet: Supernet,
    state_dict: Mapping[str, Tensor],
    names: Names | None = None,
    *,
    sort: bool = True,
) -> LoadReport:
    """Loads a state dict into the largest subnets, then sorts the channels.

    A space may have several largest subnets (one of convolutions, one of attention); every layer
    that occurs in one of them is loaded. Either everything fits and is loaded, or nothing is
    changed; what is made to fit, and how, stands in `supernet.foreign_weights`. The classifier is
    skipped where the number of classes differs.

    Args:
        supernet: Receives the weights.
        state_dict: Tensors by name: of a `Subnet`, or of any other module.
        names: For a layer's name the prefix of its tensors (`blocks.0.attn.qkv` for
            `blocks.0.attn.qkv.weight` and `.bias`), a tuple of prefixes whose rows are joined, or
            None: a function or a mapping. None for the state dict of a `Subnet`.
        sort: Whether the channels are sorted by importance (`sort_channels`).

    Raises:
        BadInputError: A tensor that does not fit, no tensor that any layer takes, or a mapping
            with names that do not exist.
    """
    layers = _largest_layers(supernet)
    own = {name: supernet.primitive(layer).weights(layer) for name, layer in layers.items()}
    tensors, taken = _tensors(state_dict, own, names)
    if not tensors:
        raise BadInputError(
            f"no tensor belongs to a layer of {supernet.space.name}: the state dict has "
            f"{_some(state_dict)}, the layers with weights are {_some(layers)}; give `names`"
        )
    skipped = _other_classes(supernet, layers, tensors)
    plan: dict[str, Weights] = {}
    adapted: dict[str, str] = {}
    for place, name in enumerate(layers):
        if name in tensors and name not in skipped:
            weights, note = _fitted(layers[name], own[name], tensors[name], first=place == 0)
            plan[name] = weights
            if note:
                adapted[name] = note
    for name, weights in plan.items():
        supernet.primitive(layers[name]).set_weights(layers[name], weights)
    statistics: Statistics = {
        name: {key: tensors[name][key].detach().clone() for key in STATISTICS}
        for name in plan
        if set(STATISTICS) <= set(tensors[name])
    }
    sorting = sort_channels(supernet) if sort else None
    if sorting is not None:
        statistics = sorting.in_order(statistics)
    used = {key for keys in taken.values() for key in keys}
    return LoadReport(
        loaded={name: taken[name] for name in plan},
        adapted=adapted,
        skipped=skipped,
        missing=tuple(name for name in layers if name not in tensors),
        unused=tuple(key for key in state_dict if key not in used),
        statistics=statistics,
        sorting=sorting,
    )


def _largest_layers(supernet: Supernet) -> dict[str, Layer]:
    """The layers with weights of the largest subnets, the largest variant of each."""
    layers: dict[str, Layer] = {}
    for row in supernet.space.extremes("largest"):
        for layer in supernet.space.graph(row).layers[1:]:
            if supernet.primitive(layer).weights(layer):
                known = layers.setdefault(layer.name, layer)
                if layer.parameters > known.parameters:
                    layers[layer.name] = layer
    return layers


def _tensors(
    state_dict: Mapping[str, Tensor], own: Mapping[str, Weights], names: Names | None
) -> tuple[dict[str, dict[str, Tensor]], dict[str, tuple[str, ...]]]:
    """For each layer that has some its tensors, and their names in the state dict."""
    if isinstance(names, Mapping):
        for name in names:
            if name not in own:
                raise unknown_name("layer with weights", name, own)
    tensors: dict[str, dict[str, Tensor]] = {}
    taken: dict[str, tuple[str, ...]] = {}
    for name, weights in own.items():
        prefixes = _prefixes(names, name)
        found: dict[str, Tensor] = {}
        keys: list[str] = []
        for parameter in (*weights, *(p for p in BESIDE if p not in weights)):
            mine = _keys(state_dict, prefixes, parameter, alone=len(weights) == 1)
            if mine:
                parts = [state_dict[key] for key in mine]
                found[parameter] = torch.cat(parts) if len(parts) > 1 else parts[0]
                keys += mine
        if found:
            tensors[name], taken[name] = found, tuple(keys)
        elif isinstance(names, Mapping) and name in names:
            raise BadInputError(
                f"no tensor of the state dict belongs to {' or '.join(prefixes)}, which is given "
                f"for layer {name!r}; it has {_some(state_dict)}"
            )
    return tensors, taken


def _prefixes(names: Names | None, layer: str) -> tuple[str, ...]:
    if names is None:
        return (f"layers.{module_name(layer)}",)
    source = names.get(layer) if isinstance(names, Mapping) else names(layer)
    if source is None:
        return ()
    return (source,) if isinstance(source, str) else source


def _keys(
    state_dict: Mapping[str, Tensor], prefixes: Iterable[str], parameter: str, *, alone: bool
) -> list[str]:
    """The name of a parameter's tensor for every prefix; none where no prefix has one.

    `torch.nn.MultiheadAttention` writes `in_proj_weight`, and a lone tensor has the prefix itself
    as its name (`pos_embed`).
    """
    found, lacking = [], []
    for prefix in prefixes:
        known = [f"{prefix}.{parameter}", f"{prefix}_{parameter}", *([prefix] if alone else [])]
        key = next((key for key in known if key in state_dict), None)
        if key is None or (key == prefix and parameter in BESIDE):
            lacking.append(prefix)
        else:
            found.append(key)
    if found and lacking:
        raise BadInputError(
            f"the state dict has {', '.join(found)} but no {parameter} of {', '.join(lacking)}, "
            "which it should be joined with"
        )
    return found


def _other_classes(
    supernet: Supernet, layers: Mapping[str, Layer], tensors: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, str]:
    """The classifier, where it tells another number of classes apart."""
    name = supernet.space.nodes[-1].name
    weight = tensors.get(name, {}).get("weight")
    if weight is None or len(weight) == layers[name].channels:
        return {}
    return {name: f"it has {len(weight)} classes, this space {layers[name].channels}"}


def _fitted(
    layer: Layer, own: Weights, tensors: Mapping[str, Tensor], *, first: bool
) -> tuple[Weights, str]:
    """The weights of a layer in its shapes, and what was done to make them so."""
    if "bias" in tensors and "bias" not in own:
        raise BadInputError(
            f"layer {layer.name!r} has no bias but the state dict has one for it; declare the "
            "layer with a bias"
        )
    weights: dict[str, Tensor] = {}
    notes: list[str] = []
    for parameter, value in own.items():
        if parameter in tensors:
            fitted, note = fit(
                layer, parameter, tensors[parameter], value.shape, reads_images=first
            )
        elif parameter == "bias":
            fitted, note = torch.zeros_like(value), "no bias there: 0"
        else:
            raise BadInputError(
                f"the state dict has {', '.join(tensors)} for layer {layer.name!r} but no "
                f"{parameter}"
            )
        weights[parameter] = fitted
        notes += [note] if note else []
    return weights, "; ".join(notes)


def _some(names: Iterable[str]) -> str:
    first = list(islice(names, 4))
    return ", ".join([*first[:3], "..."] if len(first) > 3 else first) or "nothing"
