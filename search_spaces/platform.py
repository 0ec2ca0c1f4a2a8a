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
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.choice import Choice, Value
from search_spaces.expression import Expression
from search_spaces.genes import Genes
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class WithPlatform(SearchSpace):
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

    base: SearchSpace
    platform: tuple[tuple[str, Sequence[Value]], ...]
    image_size: int = field(init=False)
    channels: int = field(init=False)
    num_classes: int = field(init=False)

    def __post_init__(self) -> None:
        for name in ("image_size", "channels", "num_classes"):
            object.__setattr__(self, name, getattr(self.base, name))
        given = tuple((name, tuple(values)) for name, values in self.platform)
        object.__setattr__(self, "platform", given)
        taken = {choice.name for choice in self.base.choices}
        for name, values in given:
            if name in taken:
                raise BadInputError(f"choice {name!r} is declared twice; choose another name")
            if not values:
                raise BadInputError(f"choice {name!r} has no values")
            taken.add(name)
        if all(len(values) < 2 for _, values in given):
            raise BadInputError(
                "the platform has nothing to choose; search the base with a fixed device"
            )
        super().__post_init__()

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        logits = self.base.build(net, images)
        for name, values in self.platform:
            net.choice(name, cast(Sequence[int], values), scope="platform")
        return logits

    def _builder(self) -> NetworkBuilder:
        return self.base._builder()  # a restricted base declares with what it allows

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The choices of the base, then those of the platform."""
        own = {name for name, _ in self.platform}
        return (*self.base.choices, *(c for c in self._declared.choices if c.name in own))

    def to_base(self, genes: npt.ArrayLike) -> Genes:
        """The same architectures as genes of the base, without the platform.

        Args:
            genes: An `n x d` array of genes of this space, or one row.

        Raises:
            BadInputError: Genes of another space.
        """
        return np.asarray(self.gene_space.check(genes)[:, : len(self.base.choices)])

    @cached_property
    def places(self) -> Mapping[str, Expression | Value]:
        """For each choice of the platform its value, an expression or the only value."""
        known = {choice.name: choice.value for choice in self.choices}
        return {name: known.get(name, values[0]) for name, values in self.platform}

    def to_json(self) -> dict[str, Any]:
        """Name, version, the base's JSON and the platform's values."""
        platform = {name: list(values) for name, values in self.platform}
        parameters = {"base": self.base.to_json(), "platform": platform}
        return {"space": self.name, "version": self.version, "parameters": parameters}

    @classmethod
    def _parameters(
        cls, values: Mapping[str, Any], spaces: Sequence[type[SearchSpace]]
    ) -> dict[str, Any]:
        try:
            base, platform = values["base"], dict(values["platform"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(
                f"a space with a platform has 'base' and 'platform' by choice; "
                f"got {dict(values)!r}"
            ) from error
        return {"base": SearchSpace.from_json(base, spaces), "platform": tuple(platform.items())}
