"""Sorting channels by importance, so that narrower networks keep those that matter.

A subnet takes the first channels, heads and hidden units of the shared weights. Sorted by
importance in descending order, the first are the best to keep (Cai et al., Once-for-All, ICLR
2020, arXiv 1908.09791, sec. 3.3). The function of the largest networks stays the same, because
every tensor that holds a channel is permuted alike (`supernet.channel_groups`).

The importance of a channel is the sum of |W| over the weights by which all layers behind it read
it; of a head likewise, over the columns of the linear map behind attention that read it. A
dimension of queries and keys is read by no weights: it adds `q_d k_d` to the attention's logits,
so its importance is the product of the sums of |W| of its query and its key row. Deviation: where
several layers read a channel (squeeze-and-excitation beside the projection) all of them count; the
original counts the projection.

Residual streams are left in their order unless asked for: every block of a stage reads them, and
blocks may disagree about them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from records import BadInputError, unknown_name
from search_spaces import SearchSpace
from search_spaces.restricted import Restricted
from supernet.channel_groups import ChannelGroup, Place, channel_groups
from supernet.network import Statistics, module_name
from supernet.supernet import Supernet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SortedGroup:
    """What sorting did to a group of channels.

    Attributes:
        group: The group.
        order: A `blocks x size` tensor: for each new place the old one.
        importance: A `blocks x size` tensor in the new order.
        bands: The sizes whose first channels stayed the first.
    """

    group: ChannelGroup
    order: Tensor
    importance: Tensor
    bands: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SortReport:
    """What `sort_channels` did.

    Attributes:
        groups: The groups that were sorted.
        left: For each other group by name why it was left in its order.
    """

    groups: tuple[SortedGroup, ...]
    left: Mapping[str, str]

    @property
    def orders(self) -> dict[str, Tensor]:
        """The new order of each sorted group by name, as `permute_channels` takes them."""
        return {entry.group.name: entry.order for entry in self.groups}

    @torch.no_grad()
    def in_order(self, statistics: Statistics) -> Statistics:
        """A largest subnet's statistics of before sorting, in the new order."""
        state = {
            f"primitives.{module_name(layer)}.{key}": value.clone()
            for layer, values in statistics.items()
            for key, value in values.items()
        }
        for entry in self.groups:
            _permute([state], entry.group, entry.order)
        return {
            layer: {key: state[f"primitives.{module_name(layer)}.{key}"] for key in values}
            for layer, values in statistics.items()
        }


@torch.no_grad()
def sort_channels(
    supernet: Supernet,
    *,
    optimiser: torch.optim.Optimizer | None = None,
    average: Mapping[str, Tensor] | None = None,
    keep: SearchSpace | Mapping[str, Collection[int]] | None = None,
    residual: bool = False,
) -> SortReport:
    """Sorts the channels of a supernet by importance, in place.

    Equal importance keeps the order. Statistics of batch norm that were computed before belong to
    the old order; see `SortReport.in_order`.

    Args:
        supernet: The weights.
        optimiser: An optimiser of the supernet's parameters; what it remembers in the shape of a
            parameter (momentum, AdamW's averages) is permuted alike.
        average: Further tensors by the names of the supernet's parameters, such as an average of
            the weights, permuted in place.
        keep: Sizes that are trained already: their first channels stay the first, sorted among
            themselves. Either the part of the space (`space.restrict`) that is trained, or sizes
            by the names of the groups.
        residual: Sort residual streams too, each by one permutation for all its layers.

    Raises:
        BadInputError: Weights that are no numbers; an unknown group or impossible size in `keep`.
    """
    groups = channel_groups(supernet.space)
    kept = _kept(supernet.space, groups, keep)
    states = _states(supernet, optimiser, average)
    done: list[SortedGroup] = []
    left: dict[str, str] = {}
    for group in groups:
        reason = _reason_to_leave(group, residual)
        if reason:
            left[group.name] = reason
            continue
        bands = tuple(sorted({*group.bands, *kept.get(group.name, ())} - {group.size}))
        importance = channel_importance(supernet, group)
        order = _order(importance, bands)
        _permute(states, group, order)
        done.append(
            SortedGroup(group=group, order=order, importance=importance.gather(1, order),
                        bands=bands)
        )  # fmt: skip
    return SortReport(groups=tuple(done), left=left)


@torch.no_grad()
def permute_channels(
    supernet: Supernet,
    orders: Mapping[str, Tensor],
    *,
    optimiser: torch.optim.Optimizer | None = None,
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Puts groups of channels into given orders, in place.

    Args:
        supernet: The weights.
        orders: For groups by name a `blocks x size` tensor, for each new place the old one.
        optimiser: As in `sort_channels`.
        average: As in `sort_channels`.

    Raises:
        BadInputError: An unknown group, one whose order is fixed, or an order that is none.
    """
    groups = {group.name: group for group in channel_groups(supernet.space)}
    for name, order in orders.items():
        if name not in groups:
            raise unknown_name("group of channels", name, groups)
        group = groups[name]
        if group.fixed_by:
            raise BadInputError(f"channels of {name!r} have a fixed order: {group.fixed_by}")
        places = torch.arange(group.size, device=order.device).expand(group.blocks, -1)
        if order.shape != places.shape or not torch.equal(order.sort(dim=1).values, places):
            raise BadInputError(
                f"the order of {name!r} must hold 0 to {group.size - 1} once in each of "
                f"{group.blocks} rows"
            )
    states = _states(supernet, optimiser, average)
    for name, group in groups.items():  # heads before what is within them
        if name in orders:
            _permute(states, group, orders[name])


@torch.no_grad()
def channel_importance(supernet: Supernet, group: ChannelGroup) -> Tensor:
    """How much the weights make of each channel of a group, a `blocks x size` tensor.

    Raises:
        BadInputError: Weights that are no numbers.
    """
    weights = supernet.state_dict()

    def absolute_sum(place: Place) -> Tensor:
        blocks = _as_blocks(weights[_key(place)], place, group)
        sums = blocks.abs().double().sum(dim=(0, 3, 4))
        return F.pad(sums, (0, group.size - sums.shape[1]))  # it may read the first ones only

    if group.kind == "query_key":
        query, key = (
            next(p for p in group.places if p.parameter == name) for name in ("query", "key")
        )
        importance = absolute_sum(query) * absolute_sum(key)
    else:
        importance = torch.stack([absolute_sum(place) for place in group.readers]).sum(0)
    if not torch.isfinite(importance).all():
        layers = sorted({place.layer for place in group.readers or group.places})
        raise BadInputError(f"weights of {', '.join(layers)} are not finite: nothing to sort by")
    return importance


def _reason_to_leave(group: ChannelGroup, residual: bool) -> str:
    if group.fixed_by:
        return group.fixed_by
    if len(group.widths) == 1:
        return f"there is one size only, {group.size}"
    if group.is_residual and not residual:
        return "a residual stream"
    if not group.readers and group.kind != "query_key":
        return "no weights read them"
    return ""


def _order(importance: Tensor, bands: Sequence[int]) -> Tensor:
    """Descending within each band, stable."""
    edges = [0, *bands, importance.shape[1]]
    parts = [
        start + importance[:, start:stop].argsort(dim=1, descending=True, stable=True)
        for start, stop in pairwise(edges)
    ]
    return torch.cat(parts, dim=1)


def _kept(
    space: SearchSpace,
    groups: Sequence[ChannelGroup],
    keep: SearchSpace | Mapping[str, Collection[int]] | None,
) -> dict[str, set[int]]:
    """For groups by name the sizes whose first channels shall stay the first."""
    if keep is None:
        return {}
    if isinstance(keep, SearchSpace):
        if _whole(keep) != _whole(space):
            raise BadInputError(
                f"keep is a {keep.name} that is no part of the supernet's {space.name}: make it "
                "with space.restrict(...)"
            )
        return _offered_by(keep, groups)
    by_name = {group.name: group for group in groups}
    for name, sizes in keep.items():
        if name not in by_name:
            raise unknown_name("group of channels", name, by_name)
        wrong = [size for size in sizes if not 0 < size <= by_name[name].size]
        if wrong:
            raise BadInputError(
                f"{name!r} has {by_name[name].size} channels: sizes to keep are 1 to that, "
                f"got {wrong}"
            )
    return {name: set(sizes) for name, sizes in keep.items()}


def _offered_by(space: SearchSpace, groups: Sequence[ChannelGroup]) -> dict[str, set[int]]:
    """The sizes that a part of the space offers, for groups of the whole."""
    offered: dict[tuple[str, str, str, int], set[int]] = {}

    def names(group: ChannelGroup) -> list[tuple[str, str, str, int]]:
        return [(group.kind, p.layer, p.parameter, p.axis) for p in group.places]

    for part in channel_groups(space):
        for name in names(part):
            offered.setdefault(name, set()).update(part.widths)
    return {
        group.name: set[int]().union(*(offered.get(name, ()) for name in names(group)))
        for group in groups
    }


def _whole(space: SearchSpace) -> SearchSpace:
    return space.base if isinstance(space, Restricted) else space


def _states(
    supernet: Supernet,
    optimiser: torch.optim.Optimizer | None,
    average: Mapping[str, Tensor] | None,
) -> list[Mapping[str, Tensor]]:
    """All tensors that follow the channels, each by its name in the supernet's state dict."""
    states: list[Mapping[str, Tensor]] = [supernet.state_dict()]
    if average is not None:
        states.append(average)
    if optimiser is not None:
        entries: dict[str, dict[str, Tensor]] = {}
        for name, parameter in supernet.named_parameters():
            for entry, value in optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    entries.setdefault(entry, {})[name] = value
        states += entries.values()
    return states


def _permute(states: Iterable[Mapping[str, Tensor]], group: ChannelGroup, order: Tensor) -> None:
    for place in group.places:
        for state in states:
            tensor = state.get(_key(place))
            if tensor is not None:
                blocks = _as_blocks(tensor, place, group)
                index = order[:, : blocks.shape[2]].to(tensor.device)[None, :, :, None, None]
                tensor.copy_(blocks.gather(2, index.expand_as(blocks)).reshape(tensor.shape))


def _key(place: Place) -> str:
    return f"primitives.{module_name(place.layer)}.{place.parameter}"


def _as_blocks(tensor: Tensor, place: Place, group: ChannelGroup) -> Tensor:
    """A tensor as `before x blocks x size x inner x after`, the group's channels in the middle.

    A tensor may hold fewer channels than the group: its first ones.
    """
    before = tensor.shape[: place.axis]
    after = tensor.shape[place.axis + place.axes :]
    return tensor.reshape(before.numel(), group.blocks, -1, place.inner, after.numel())
