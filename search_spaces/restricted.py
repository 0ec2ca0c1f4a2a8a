"""A space with some choices limited to subsets of their values, or frozen to one.

The networks of a restricted space are networks of its base, so a supernet that was trained on the
base, and predictors and cost models made for it, serve a search of the restricted space:
`to_base` gives the rows that they read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from records import BadInputError, unknown_name
from search_spaces.based_json import based_json, based_parameters
from search_spaces.choice import Choice, Value
from search_spaces.expression import Condition, Expression
from search_spaces.genes import Genes
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace
from search_spaces.tabulate import simplify


@dataclass(frozen=True, kw_only=True)
class Restricted(SearchSpace):
    """A part of a space; made by `SearchSpace.restrict` and `SearchSpace.freeze`.

    A choice that keeps one value is no gene any more. Nor is one that no other choice makes
    active any more: with depths up to 2, the kernel of layer 3.

    Image size, channels and classes are those of the base. Restricting a restricted space gives
    one restriction of the base.

    Attributes:
        base: The whole space.
        allowed: Names of choices, or patterns of names (`*.kernel`), and for each the values to
            keep. A choice that several of them name keeps what all of them allow. A pattern's
            value need not be offered by every choice that it matches. Kept in the order of the
            space: one entry for each choice that is limited, without patterns.

    Raises:
        BadInputError: An unknown choice, values that it does not offer, a choice left without a
            value, nothing left to choose.
    """

    base: SearchSpace
    allowed: tuple[tuple[str, Sequence[Value]], ...] = ()
    image_size: int = field(init=False)
    channels: int = field(init=False)
    num_classes: int = field(init=False)

    def __post_init__(self) -> None:
        base = self.base
        before = dict(base.allowed) if isinstance(base, Restricted) else {}
        if isinstance(base, Restricted):
            base = base.base
        declared = base._declared.declared
        kept = _keep({**declared, **before}, self.allowed)
        limited = ((n, values) for n, values in kept.items() if values != declared[n])
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "allowed", tuple(limited))
        for name in ("image_size", "channels", "num_classes"):
            object.__setattr__(self, name, getattr(base, name))
        foreign = {c.name for c in self._declared.choices} - {c.name for c in base.choices}
        if foreign:
            raise BadInputError(
                f"{base.name}.build declares the choices {sorted(foreign)} only where others are "
                "restricted; it must declare the same choices always"
            )
        if all(c.active_if is False for c in self.choices):
            raise BadInputError(
                f"nothing is left to choose in this restriction of {base.name}: keep two values "
                "of some choice; a single network is `space.graph(genes)`"
            )
        super().__post_init__()

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        try:
            return self.base.build(net, images)
        except (AttributeError, TypeError) as error:
            raise BadInputError(
                f"{self.base.name}.build does not take the restriction to {dict(self.allowed)} "
                f"({error}); where one value is left, the choice is that plain value: write "
                "`is_equal(a, b)` and `negate(a)` for `a.equals(b)` and `~a`"
            ) from error

    def _builder(self) -> NetworkBuilder:
        return NetworkBuilder(dict(self.allowed))

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The choices that are left, active wherever they are active in the base.

        A base's choice is active only where the choices that its condition reads are; that holds
        for the ones, too, that are frozen here and have vanished from the condition.
        """
        left = tuple(self._declared.choices)
        names = {c.name for c in left}
        frozen = {c.name: self._values(c)[0] for c in self.base.choices if c.name not in names}
        conditions: dict[str, Condition] = {}
        for choice, condition in zip(
            self.base.choices, self.base.gene_space.conditions, strict=True
        ):
            fixed = condition
            if isinstance(condition, Expression):
                simple = simplify(left, condition.substitute(frozen))
                fixed = simple if isinstance(simple, Expression) else bool(simple)
            conditions[choice.name] = fixed
        return tuple(replace(c, active_if=conditions[c.name]) for c in left)

    def _values(self, choice: Choice) -> Sequence[Value]:
        """What is allowed of a choice of the base."""
        return dict(self.allowed).get(choice.name, choice.values)

    # ---- between the restricted space and its base ---------------------------------------------

    @cached_property
    def _places(self) -> list[tuple[int | None, npt.NDArray[np.int16]]]:
        """For each gene of the base, the gene here (None where frozen) and the base's values."""
        position = {c.name: k for k, c in enumerate(self.choices)}
        return [
            (
                position.get(c.name),
                np.array([c.values.index(v) for v in self._values(c)], np.int16),
            )
            for c in self.base.choices
        ]

    def to_base(self, genes: npt.ArrayLike) -> Genes:
        """The same architectures as genes of the base, canonical.

        Args:
            genes: An `n x d` array of genes of this space, or one row.

        Raises:
            BadInputError: Genes of another space.
        """
        checked = self.gene_space.check(genes)
        rows = np.empty((len(self._places), len(checked)), np.int16).T
        for j, (k, values) in enumerate(self._places):
            rows[:, j] = values[0] if k is None else values[checked[:, k]]
        return self.base.canonical(rows)

    def contains(self, base_genes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which rows of genes of the base are architectures of this space, a mask of length `n`.

        Raises:
            BadInputError: Genes that are not the base's.
        """
        return np.asarray(~self._outside(self.base.gene_space.check(base_genes)).any(axis=1))

    def from_base(self, base_genes: npt.ArrayLike) -> Genes:
        """The same architectures as genes of this space, canonical.

        Args:
            base_genes: An `n x d` array of genes of the base, or one row.

        Raises:
            BadInputError: A row outside this space; the choice is named.
        """
        checked = self.base.gene_space.check(base_genes)
        wrong = np.argwhere(self._outside(checked))
        if len(wrong):
            i, j = wrong[0]
            choice = self.base.choices[j]
            raise BadInputError(
                f"row {i} is outside the restricted space: choice {choice.name!r} is "
                f"{choice.values[checked[i, j]]!r}; allowed: {tuple(self._values(choice))}"
            )
        genes = np.zeros((len(self.choices), len(checked)), np.int16).T
        for j, (k, values) in enumerate(self._places):
            if k is not None:
                place = np.zeros(len(self.base.choices[j].values), np.int16)
                place[values] = np.arange(len(values))
                genes[:, k] = place[checked[:, j]]
        return self.canonical(genes)

    def _outside(self, base_genes: Genes) -> npt.NDArray[np.bool_]:
        """Which active genes of the base have a value that is not allowed, an `n x d` mask."""
        outside = self.base.active(base_genes).copy()
        for j, (_, values) in enumerate(self._places):
            inside = np.zeros(len(self.base.choices[j].values), np.bool_)
            inside[values] = True
            outside[:, j] &= ~inside[base_genes[:, j]]
        return outside

    # ---- files -------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Name, version, the base's JSON and the allowed values."""
        return based_json(self, self.base, "allowed", self.allowed)

    @classmethod
    def _parameters(
        cls, values: Mapping[str, Any], spaces: Sequence[type[SearchSpace]]
    ) -> dict[str, Any]:
        return based_parameters("a restricted space", "allowed", values, spaces)


def _keep(
    offered: Mapping[str, Sequence[Value]], wanted: Sequence[tuple[str, Sequence[Value]]]
) -> dict[str, tuple[Value, ...]]:
    """Of each choice's values those that are wanted, in the choice's order."""
    kept = {name: tuple(values) for name, values in offered.items()}
    for pattern, values in wanted:
        if isinstance(values, str | int | float):
            raise BadInputError(
                f"choice {pattern!r} needs values to keep, e.g. ({values!r},), got {values!r}; "
                "`freeze` takes a single value"
            )
        names = [pattern] if pattern in offered else [n for n in kept if fnmatchcase(n, pattern)]
        if not names:
            raise unknown_name("choice", pattern, offered)
        known = tuple(dict.fromkeys(v for name in names for v in offered[name]))
        if len(values) == 0 or any(v not in known for v in values):
            raise BadInputError(
                f"choice {pattern!r} cannot be restricted to {tuple(values)}; allowed: one or "
                f"more of {known}"
            )
        for name in names:
            left = tuple(v for v in kept[name] if v in values)
            if not left:
                raise BadInputError(
                    f"choice {name!r} is left without a value by {pattern!r}: {tuple(values)}; "
                    f"it offers {kept[name]}"
                )
            kept[name] = left
    return kept
