"""A choice of numerics: in which precision a network runs.

Precision changes accuracy and cost, not the layers or the weights that are shared. So the choice
has the scope `numerics`: layers may not read it, it may not switch on a choice of the
architecture, and accuracy belongs to a row of genes with its precision. The same network in int8
and in fp32 is two rows, and is measured twice.

One precision holds for the whole network; `search_spaces.block_precision` is the same by stage or
block. A space may also declare such a choice itself, `net.choice("precision", ("int8", "fp32"),
scope="numerics")`; it is searched like any other, and evaluator and costs are then yours to bring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from records import BadInputError, unknown_name
from search_spaces.choice import Scope
from search_spaces.extended import Added, Extended
from search_spaces.genes import Genes
from search_spaces.space import SearchSpace

PRECISION = "precision"
"""The name of the choice."""


@dataclass(frozen=True, kw_only=True)
class WithPrecision(Extended):
    """A space and, behind its own genes, the precision that a network runs in.

    Attributes:
        base: The space of networks.
        precisions: Two names at least, such as `("int8", "fp32")`.

    Raises:
        BadInputError: Fewer than two names, one twice, or a base with a choice `precision`.

    >>> from search_spaces.cnn import CNNSpace
    >>> space = WithPrecision(base=CNNSpace(image_size=16), precisions=("int8", "fp32"))
    >>> rows = space.in_precision(space.base.extremes("smallest"), "fp32")
    >>> space.precision_of(rows).tolist()
    ['fp32']
    """

    scope: ClassVar[Scope] = "numerics"

    precisions: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "precisions", tuple(self.precisions))
        if len(self.precisions) < 2 or not all(isinstance(p, str) for p in self.precisions):
            raise BadInputError(
                f"a choice of precision needs two names or more, got {self.precisions!r}; with "
                "one precision search the base"
            )
        super().__post_init__()

    @property
    def added(self) -> Added:
        """The choice of precision."""
        return ((PRECISION, self.precisions),)

    def precision_of(self, genes: npt.ArrayLike) -> npt.NDArray[np.str_]:
        """The precisions of an `n x d` array of genes, an array of `n` names.

        Raises:
            BadInputError: Genes of another space.
        """
        return np.array(self.precisions)[self.gene_space.check(genes)[:, -1]]

    def in_precision(self, base_genes: npt.ArrayLike, precision: str) -> Genes:
        """Networks of the base in one precision, as genes of this space.

        Raises:
            BadInputError: Genes that are not the base's.
            UnknownNameError: A precision that is not among the choices.
        """
        if precision not in self.precisions:
            raise unknown_name(PRECISION, precision, self.precisions)
        rows = self.base.gene_space.check(base_genes)
        column = np.full((len(rows), 1), self.precisions.index(precision), np.int16)
        return np.hstack([rows, column])

    def to_json(self) -> dict[str, Any]:
        """Name, version, the base's JSON and the precisions."""
        parameters = {"base": self.base.to_json(), "precisions": list(self.precisions)}
        return {"space": self.name, "version": self.version, "parameters": parameters}

    @classmethod
    def _parameters(
        cls, values: Mapping[str, Any], spaces: Sequence[type[SearchSpace]]
    ) -> dict[str, Any]:
        try:
            base, precisions = values["base"], tuple(values["precisions"])
        except (KeyError, TypeError) as error:
            raise BadInputError(
                f"a space with precision has 'base' and 'precisions'; got {dict(values)!r}"
            ) from error
        return {"base": SearchSpace.from_json(base, spaces), "precisions": precisions}
