"""Choices of the platform: what changes the cost of a network and nothing else.

A device can itself be genes: the sides of an array of multipliers, buffers, a clock. Such a
choice has the scope `platform`. A space declares it like any other,

    rows = net.choice("rows", (8, 16, 32), scope="platform")

or takes it on from outside with `WithPlatform`, which leaves the space's own file alone. Networks
may not read such a choice, and it may not switch on a choice of the network. So the accuracy of a
row of genes is that of the same row with other genes of the platform, and is measured once:
`SearchSpace.without_platform` sets them to 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from records import BadInputError
from search_spaces.based_json import based_json, based_parameters
from search_spaces.choice import Scope, Value
from search_spaces.expression import Expression
from search_spaces.extended import Added, Extended
from search_spaces.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class WithPlatform(Extended):
    """A space and, behind its own genes, choices of the platform.

    Image size, channels and classes are those of the base. The networks are those of the base,
    so a supernet trained on the base serves; `to_base` gives the rows that it reads.

    Attributes:
        base: The space of networks.
        platform: Names of choices and for each its values; a single value is no gene.

    Raises:
        BadInputError: No choice with two values, values that are no choice, a name that the base
            has.

    >>> from search_spaces.cnn import CNNSpace
    >>> space = WithPlatform(base=CNNSpace(image_size=16), platform=(("device.rows", (8, 16)),))
    >>> space.cardinality == 2 * space.base.cardinality
    True
    """

    scope: ClassVar[Scope] = "platform"

    platform: tuple[tuple[str, Sequence[Value]], ...]

    def __post_init__(self) -> None:
        given = tuple((name, tuple(values)) for name, values in self.platform)
        object.__setattr__(self, "platform", given)
        if all(len(values) == 1 for _, values in given):
            raise BadInputError(
                "the platform has nothing to choose; search the base with a fixed device"
            )
        super().__post_init__()

    @property
    def added(self) -> Added:
        """The choices of the platform."""
        return self.platform

    @cached_property
    def places(self) -> Mapping[str, Expression | Value]:
        """For each choice of the platform its value, an expression or the only value."""
        known = {choice.name: choice.value for choice in self.choices}
        return {name: known.get(name, values[0]) for name, values in self.platform}

    def to_json(self) -> dict[str, Any]:
        """Name, version, the base's JSON and the platform's values."""
        return based_json(self, self.base, "platform", self.platform)

    @classmethod
    def _parameters(
        cls, values: Mapping[str, Any], spaces: Sequence[type[SearchSpace]]
    ) -> dict[str, Any]:
        return based_parameters("a space with a platform", "platform", values, spaces)
