"""A search space of Optuna's parameters: their ranges, divided into parts that genes choose from.

A categorical parameter is a choice of names. A numeric one is a choice of parts of its range, in
logarithms where it says so: of all its values where these are few, otherwise of `parts` parts of
equal length, in which a value is drawn evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)

from search_spaces import Choice, Genes, NetworkBuilder, SearchSpace, Tensor


@dataclass(frozen=True)
class ParameterSpace(SearchSpace):
    """A space of parameters without networks: its only network is an input that is handed on.

    Attributes:
        parameters: Name and Optuna's JSON of the distribution of each parameter, which has two
            values at least.
        parts: Into how many parts a long range is divided.
    """

    parameters: tuple[tuple[str, str], ...] = ()
    parts: int = 64
    image_size: int = 1
    channels: int = 2
    num_classes: int = 2

    def __post_init__(self) -> None:
        _ = self.gene_space

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        """Declares no layers: parameters change nothing in a network."""
        return images

    @cached_property
    def ranges(self) -> tuple[BaseDistribution, ...]:
        """The distributions of the parameters."""
        return tuple(json_to_distribution(text) for _, text in self.parameters)

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """A choice for each parameter: of names, or of the numbers of its parts."""
        found = []
        for (name, _), range_ in zip(self.parameters, self.ranges, strict=True):
            count = count_of_parts(range_, self.parts)
            is_named = isinstance(range_, CategoricalDistribution)
            values = tuple(str(i) if is_named else i for i in range(count))
            found.append(Choice(name=name, values=values))
        return tuple(found)

    def values(self, row: Genes, rng: np.random.Generator) -> dict[str, Any]:
        """The parameters that a row of genes means, drawn evenly within their parts."""
        return {
            name: value_in_part(range_, int(gene), self.parts, rng)
            for (name, _), range_, gene in zip(self.parameters, self.ranges, row, strict=True)
        }

    def row(self, params: dict[str, Any]) -> list[int] | None:
        """The genes of parameters, 0 for what is missing; None where one is out of its range."""
        genes = []
        for (name, _), range_ in zip(self.parameters, self.ranges, strict=True):
            gene = part_of(range_, params[name], self.parts) if name in params else 0
            if gene is None:
                return None
            genes.append(gene)
        return genes


def count_of_parts(range_: BaseDistribution, parts: int) -> int:
    """Into how many parts a range is divided: one for each value where these are few."""
    if isinstance(range_, CategoricalDistribution):
        return len(range_.choices)
    count = _count_of_values(range_)
    return parts if count is None else min(count, parts)


def value_in_part(
    range_: BaseDistribution, part: int, parts: int, rng: np.random.Generator
) -> Any:
    """A value of a part of a range, drawn evenly among those of the part."""
    if isinstance(range_, CategoricalDistribution):
        return range_.choices[part]
    assert isinstance(range_, IntDistribution | FloatDistribution)
    count, values = count_of_parts(range_, parts), _count_of_values(range_)
    if values is not None and values <= parts:
        return _at(range_, part)
    low, high = _ends(range_)
    if range_.log:
        low, high = np.log(low), np.log(high)
    x = low + (high - low) * (part + rng.random()) / count
    x = float(np.exp(x)) if range_.log else float(x)
    if values is not None:
        step = range_.step if range_.step is not None else 1
        return _at(range_, min(max(round((x - range_.low) / step), 0), values - 1))
    return min(max(x, range_.low), range_.high)


def part_of(range_: BaseDistribution, value: Any, parts: int) -> int | None:
    """The part of a range that a value lies in; None where it is out of range."""
    inner = range_.to_internal_repr(value) if _holds(range_, value) else None
    if inner is None:
        return None
    if isinstance(range_, CategoricalDistribution):
        return int(inner)
    assert isinstance(range_, IntDistribution | FloatDistribution)
    count, values = count_of_parts(range_, parts), _count_of_values(range_)
    if values is not None and values <= parts:
        step = range_.step if range_.step is not None else 1
        return round((inner - range_.low) / step)
    low, high = _ends(range_)
    if range_.log:
        low, high, inner = np.log(low), np.log(high), np.log(inner)
    return min(int(count * (inner - low) / (high - low)), count - 1)


def _holds(range_: BaseDistribution, value: Any) -> bool:
    try:
        return bool(range_._contains(range_.to_internal_repr(value)))
    except ValueError:  # no choice of a categorical parameter
        return False


def _count_of_values(range_: BaseDistribution) -> int | None:
    """How many values a numeric range has; None for a continuous one."""
    assert isinstance(range_, IntDistribution | FloatDistribution)
    if range_.step is None:
        return None
    return round((range_.high - range_.low) / range_.step) + 1


def _at(range_: IntDistribution | FloatDistribution, i: int) -> int | float:
    """The value number `i` of a range with steps."""
    if isinstance(range_, IntDistribution):
        return int(range_.low + i * range_.step)
    assert range_.step is not None
    return float(min(range_.low + i * range_.step, range_.high))


def _ends(range_: IntDistribution | FloatDistribution) -> tuple[float, float]:
    """The ends of a range as real numbers; those of numbers with steps reach half a step out."""
    if range_.step is None:
        return float(range_.low), float(range_.high)
    half = range_.step / 2
    return float(range_.low - half), float(range_.high + half)
