"""A space with choices behind its own that no layer reads: of the platform, or of numerics.

The networks are those of the base, so a supernet that was trained on the base serves. What the
added choices mean is for subclasses to say.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.choice import Choice, Scope, Value
from search_spaces.genes import Genes
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace

Added: TypeAlias = tuple[tuple[str, Sequence[Value]], ...]


@dataclass(frozen=True, kw_only=True)
class Extended(SearchSpace):
    """A space and, behind its own genes, further choices of one scope.

    Image size, channels and classes are those of the base.

    Attributes:
        base: The space of networks.

    Raises:
        BadInputError: Values that are no choice, a name that the base has.
    """

    scope: ClassVar[Scope]

    base: SearchSpace
    image_size: int = field(init=False)
    channels: int = field(init=False)
    num_classes: int = field(init=False)

    @property
    @abstractmethod
    def added(self) -> Added:
        """Names of the added choices and for each its values; a single value is no gene."""

    def __post_init__(self) -> None:
        for name in ("image_size", "channels", "num_classes"):
            object.__setattr__(self, name, getattr(self.base, name))
        taken = {choice.name for choice in self.base.choices}
        for name, values in self.added:
            if name in taken:
                raise BadInputError(f"choice {name!r} is declared twice; choose another name")
            if not values:
                raise BadInputError(f"choice {name!r} has no values")
            taken.add(name)
        super().__post_init__()

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        logits = self.base.build(net, images)
        for name, values in self.added:
            net.choice(name, cast(Sequence[int], values), scope=self.scope)
        return logits

    def _builder(self) -> NetworkBuilder:
        return self.base._builder()  # a restricted base declares with what it allows

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The choices of the base, then the added ones."""
        own = {name for name, _ in self.added}
        return (*self.base.choices, *(c for c in self._declared.choices if c.name in own))

    def to_base(self, genes: npt.ArrayLike) -> Genes:
        """The same architectures as genes of the base, without the added choices.

        Args:
            genes: An `n x d` array of genes of this space, or one row.

        Raises:
            BadInputError: Genes of another space.
        """
        return np.asarray(self.gene_space.check(genes)[:, : len(self.base.choices)])
