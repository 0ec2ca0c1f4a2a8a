"""Operations on populations of genes: activity, canonical form, counting, sampling, variation.

A population is an `n x d` integer array, one row an architecture. All functions work on whole
populations. Inactive genes are 0 in the canonical form, so equal networks have equal rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.choice import Choice
from search_spaces.expression import Condition, both, choices_of
from search_spaces.tabulate import Tabulation, all_genes, tabulate

Genes: TypeAlias = npt.NDArray[np.int16]
Mask: TypeAlias = npt.NDArray[np.bool_]
Measure: TypeAlias = Literal["choices", "architectures"]


@dataclass(frozen=True)
class GeneSpace:
    """The genes of a space, without the networks: what may be chosen, and when it matters."""

    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for choice in self.choices:
            if choice.name in seen:
                raise BadInputError(f"two choices are named {choice.name!r}; names are unique")
            unknown = choices_of(choice.active_if) - seen
            if unknown:
                raise BadInputError(
                    f"choice {choice.name!r} depends on {sorted(unknown)}, which must be declared "
                    "before it"
                )
            seen.add(choice.name)
        if not self.choices:
            raise BadInputError("a space needs at least one choice; this network has none")

    @cached_property
    def sizes(self) -> npt.NDArray[np.int16]:
        """The number of values of each choice, an array of length `d`."""
        return np.array([len(c.values) for c in self.choices], np.int16)

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """When each choice is active: its own condition and those of the choices that it reads."""
        position = {c.name: j for j, c in enumerate(self.choices)}
        closed: list[Condition] = []
        for choice in self.choices:
            condition = choice.active_if
            for parent in sorted(choices_of(choice.active_if)):
                condition = both(closed[position[parent]], condition)
            closed.append(condition)
        return tuple(closed)

    @cached_property
    def activity(self) -> tuple[npt.NDArray[np.intp], Tabulation]:
        """The conditional genes, and a table with a row and the column `active` for each."""
        conditional = [j for j, c in enumerate(self.conditions) if c is not True]
        rows = [{"active": self.conditions[j]} for j in conditional]
        return np.array(conditional, np.intp), tabulate(self.choices, rows, np.bool_)

    def active(self, genes: Genes) -> Mask:
        """Which genes matter: an `n x d` mask, True where the choice is active."""
        conditional, table = self.activity
        mask = np.ones((genes.shape[1], genes.shape[0]), np.bool_)
        if len(conditional):
            mask[conditional] = table.columns["active"][table.codes(genes)]
        return mask.T

    def canonical(self, genes: Genes) -> Genes:
        """The same architectures with every inactive gene set to 0."""
        return genes * self.active(genes)

    @cached_property
    def _groups(self) -> list[_Group]:
        return _groups(self)

    @cached_property
    def cardinality(self) -> int:
        """The exact number of canonical architectures."""
        return math.prod(sum(group.counts) for group in self._groups)

    def rows_at(self, indices: npt.ArrayLike) -> Genes:
        """The canonical architectures at places of a fixed order, an `n x d` array.

        Args:
            indices: Places from 0 to `cardinality - 1`, an integer array of length `n`; all of
                them together give every architecture once.

        Raises:
            BadInputError: A place outside, or a space of 2^63 architectures and more, whose
                places are no 64-bit integers.
        """
        if self.cardinality >= 1 << 63:
            raise BadInputError(
                f"a space of {self.cardinality:.3g} architectures is too large to number them; "
                "sample it instead"
            )
        rest = np.array(indices, np.int64)
        if len(rest) and not 0 <= rest.min() <= rest.max() < self.cardinality:
            raise BadInputError(
                f"architectures are numbered 0 to {self.cardinality - 1}, got {rest.min()} to "
                f"{rest.max()}"
            )
        genes = np.zeros((len(self.sizes), len(rest)), np.int16).T
        for group in reversed(self._groups):
            counts = np.array(group.counts, np.int64)
            rest, place = np.divmod(rest, counts.sum())
            row = np.searchsorted(counts.cumsum(), place, side="right")
            place -= (counts.cumsum() - counts)[row]
            genes[:, group.parents] = group.assignments[row]
            for j, active in zip(group.leaves, group.leaf_active.T, strict=True):
                place, value = np.divmod(place, np.where(active[row], self.sizes[j], 1))
                genes[:, j] = value
        return genes

    def sample(self, n: int, rng: np.random.Generator, measure: Measure = "choices") -> Genes:
        """Draws `n` canonical architectures.

        Args:
            n: How many.
            rng: The source of randomness.
            measure: `choices` draws each choice uniformly (shallow networks come as often as deep
                ones); `architectures` draws uniformly from all canonical architectures (almost all
                of which are deep).
        """
        if measure == "choices":
            return self.canonical(self.uniform(n, rng))
        if measure != "architectures":
            raise BadInputError(f"measure is 'choices' or 'architectures', got {measure!r}")
        genes = self.uniform(n, rng)
        for group in self._groups:
            total = sum(group.counts)
            weights = np.array([count / total for count in group.counts])
            picked = rng.choice(len(weights), size=n, p=weights / weights.sum())
            genes[:, group.parents] = group.assignments[picked]
        return self.canonical(genes)

    def uniform(self, n: int, rng: np.random.Generator) -> Genes:
        """Uniform genes, active or not; stored gene by gene, which the tables read fastest."""
        u = rng.random((len(self.sizes), n), dtype=np.float32)
        # u < 1 - 2^-24 and rounding to nearest keep the product below the size
        return (u * self.sizes[:, None]).astype(np.int16).T

    def mutate(self, genes: Genes, rng: np.random.Generator, probability: float = 0.1) -> Genes:
        """Changes each active gene to another value with the given probability.

        A gene that becomes active is drawn uniformly. At least one active gene of each row
        changes.
        """
        if not 0 <= probability <= 1:
            raise BadInputError(f"probability must be within 0 and 1, got {probability}")
        n, d = genes.shape
        active = self.active(genes)
        u = rng.random((d, n), dtype=np.float32).T
        score = np.where(active, u, np.float32(2))
        change = score < probability
        change[np.arange(n), score.argmin(axis=1)] = True
        step = 1 + (rng.random((d, n), dtype=np.float32).T * (self.sizes - 1)).astype(np.int16)
        filled = np.where(active, genes, self.uniform(n, rng))
        changed = (filled + step) % self.sizes
        return self.canonical(np.where(change, changed, filled).astype(np.int16))

    def crossover(self, first: Genes, second: Genes, rng: np.random.Generator) -> Genes:
        """Uniform crossover of two `n x d` populations, row by row.

        Each gene comes from either parent with equal chance; from the parent in which it is active
        if it is active in one only; and is drawn uniformly where it is active in neither.
        """
        if first.shape != second.shape:
            raise BadInputError(f"parents differ in shape: {first.shape} and {second.shape}")
        n, d = first.shape
        in_first, in_second = self.active(first), self.active(second)
        coin = rng.random((d, n), dtype=np.float32).T < 0.5
        child = np.where((coin & in_first) | ~in_second, first, second)
        child = np.where(in_first | in_second, child, self.uniform(n, rng))
        return self.canonical(child.astype(np.int16))

    def check(self, genes: npt.ArrayLike) -> Genes:
        """The genes as a checked `n x d` array in canonical form.

        Raises:
            BadInputError: The wrong number of genes, or a value out of range, named.
        """
        array = np.atleast_2d(np.asarray(genes))
        if array.ndim != 2 or array.shape[1] != len(self.choices):
            raise BadInputError(
                f"genes must be n x {len(self.choices)}, got an array of shape {array.shape}"
            )
        if array.dtype.kind not in "iu":
            raise BadInputError(f"genes must be integers, got {array.dtype}")
        wrong = (array < 0) | (array >= self.sizes)
        if wrong.any():
            i, j = np.argwhere(wrong)[0]
            raise BadInputError(
                f"gene {self.choices[j].name!r} of row {i} is {array[i, j]}; "
                f"allowed: 0 to {self.sizes[j] - 1}"
            )
        return self.canonical(array.astype(np.int16))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Choices whose conditions hang together; groups are independent of each other.

    Attributes:
        parents: The genes that some condition of the group reads (or a single free gene).
        assignments: Their distinct canonical values, one row each.
        counts: For each row the number of ways to set the group's other active genes.
        leaves: The group's other genes.
        leaf_active: For each row, which of these are active.
    """

    parents: list[int]
    assignments: Genes
    counts: list[int]
    leaves: list[int]
    leaf_active: Mask


def _groups(space: GeneSpace) -> list[_Group]:
    position = {c.name: j for j, c in enumerate(space.choices)}
    label = list(range(len(space.choices)))

    def root(j: int) -> int:
        while label[j] != j:
            j = label[j]
        return j

    parents: set[int] = set()
    for j, choice in enumerate(space.choices):
        for name in choices_of(choice.active_if):
            parents.add(position[name])
            label[root(j)] = root(position[name])
    members: dict[int, list[int]] = {}
    for j in range(len(space.choices)):
        members.setdefault(root(j), []).append(j)
    return [_group(space, genes, parents) for genes in members.values()]


def _group(space: GeneSpace, genes: Sequence[int], parents: set[int]) -> _Group:
    heads = [j for j in genes if j in parents] or [genes[0]]
    leaves = [j for j in genes if j not in heads]
    sizes = [int(space.sizes[j]) for j in heads]
    if math.prod(sizes) > 1_000_000:
        names = [space.choices[j].name for j in heads]
        raise BadInputError(f"conditions on {names} hang together in too many ways to count")
    full = np.zeros((math.prod(sizes), len(space.choices)), np.int16)
    full[:, heads] = all_genes(sizes)
    full = np.unique(space.canonical(full), axis=0)
    active = space.active(full)
    counts = [math.prod(int(space.sizes[j]) for j in leaves if row[j]) for row in active]
    return _Group(
        parents=heads,
        assignments=full[:, heads],
        counts=counts,
        leaves=leaves,
        leaf_active=active[:, leaves],
    )
