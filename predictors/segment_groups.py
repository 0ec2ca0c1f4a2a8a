"""Segments that are alike are described once: the cells of a network, or repeated blocks.

Segments belong together where they have the same layers up to sizes, choose by the same genes, and
so have the same live part and the same paths in every architecture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from predictors.live_layers import Hashes, LiveSegment, layer_hashes, live_segment, mix
from predictors.operator_kinds import Kinds
from predictors.segments import Segment, segments
from records import array_hash
from search_spaces import Genes, SearchSpace
from search_spaces.tabulate import all_genes

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

SIZES = ("macs", "parameters", "elements")
"""The columns of the layer table that are summed."""

MOST_KEPT = 1 << 14
"""A segment with more settings of genes is described anew for each population."""

_MOST_SETTINGS = 4096
"""A path whose operators depend on more settings of genes is not told by its sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """`n` settings of a segment: hashes of the networks, and by name vectors of length `n`.

    Sizes are by column of the layer table and level of resolution, over all copies.
    """

    network: Hashes
    paths: dict[str, Vector]
    counts: dict[str, Vector]
    shape: dict[str, Vector]
    sizes: dict[tuple[str, int], Vector]


@dataclass(slots=True, kw_only=True)
class SegmentGroup:
    """Segments that are alike but for their sizes.

    Attributes:
        space: Their space.
        kinds: The kinds of operators there.
        hashes: What each variant of each layer computes.
        copies: The segments, at least one.
        levels: The resolution of each: 0 for the largest, 1 for the next.
        sequences: The sequences of operators that a path can have, by their hash.
    """

    space: SearchSpace
    kinds: Kinds
    hashes: Hashes
    copies: list[Segment] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    sequences: dict[int, str] = field(default_factory=dict)
    _kept: Described | None = None

    def describe(self, rows: Genes) -> tuple[Described, Index]:
        """The distinct settings of the segment's genes described, and which one a row has.

        Where there are few, all are described once and kept.
        """
        genes = list(self.copies[0].genes)
        sizes = self.space.gene_space.sizes[genes].astype(np.int64)
        if math.prod(sizes.tolist()) > MOST_KEPT:
            first, inverse = np.unique(
                rows[:, genes], axis=0, return_index=True, return_inverse=True
            )[1:]
            return self._describe(rows[first]), inverse.reshape(-1)
        if self._kept is None:
            settings = np.zeros((math.prod(sizes.tolist()), len(self.space.choices)), np.int16)
            settings[:, genes] = all_genes(sizes.tolist())
            self._kept = self._describe(settings)
        places = np.cumprod(np.append(1, sizes[:0:-1]))[::-1][: len(genes)]
        return self._kept, rows[:, genes].astype(np.int64) @ places

    def _describe(self, settings: Genes) -> Described:
        segment = self.copies[0]
        codes = _codes(self.space, segment.layers, settings)
        live = live_segment(self.space, segment, codes, self.hashes)
        kind = self.kinds.of_variant[codes]
        counts = {
            self.kinds.names[k]: ((kind == k) & live.live).sum(axis=0).astype(np.float64)
            for k in self._possible_kinds()
        }
        shape = {"segments cut off": (~live.is_alive).astype(np.float64)}
        paths: dict[str, Vector] = {}
        if segment.paths:
            there, sequence, depth = self._follow(codes, live)
            for known, name in self.sequences.items():
                paths[name] = ((sequence == known) & there).sum(axis=0).astype(np.float64)
            number = there.sum(axis=0)
            any_path = number > 0
            shape["log paths"] = np.log(np.maximum(number, 1))
            shape["greatest depth"] = np.where(there, depth, 0).max(axis=0).astype(np.float64)
            least = np.where(there, depth, depth.max(initial=0) + 1).min(axis=0)
            shape["least depth"] = np.where(any_path, least, 0).astype(np.float64)
            mean = np.where(there, depth, 0).sum(axis=0) / np.maximum(number, 1)
            shape["mean depth"] = mean
        return Described(
            network=live.network,
            paths=paths,
            counts=counts,
            shape=shape,
            sizes=self._sizes(settings, live.live),
        )

    def _possible_kinds(self) -> list[int]:
        """The kinds that layers of the segment have in any architecture, but for no operator."""
        variants = [_variants(self.space, v) for v in self.copies[0].layers]
        kinds = np.unique(np.concatenate([self.kinds.of_variant[at] for at in variants]))
        return [int(k) for k in kinds if k]

    def _sizes(
        self, settings: Genes, live: npt.NDArray[np.bool_]
    ) -> dict[tuple[str, int], Vector]:
        """Sums over the live layers of all copies of a resolution."""
        total: dict[tuple[str, int], Vector] = {}
        codes = [_codes(self.space, segment.layers, settings) for segment in self.copies]
        for name in SIZES:
            column = self.space.layers.columns[name]
            for level, variants in zip(self.levels, codes, strict=True):
                values = (column[variants] * live).sum(axis=0).astype(np.float64)
                total[name, level] = total.get((name, level), 0.0) + values
        return total

    def learn_sequences(self) -> None:
        """Lists the sequences of operators that paths can have, over all settings of genes."""
        table = self.space.layers
        for path in self.copies[0].paths:
            genes = np.flatnonzero(table.strides[list(path)].any(axis=0))
            sizes = [int(s) for s in self.space.gene_space.sizes[genes]]
            if math.prod(sizes) > _MOST_SETTINGS:
                continue
            rows = np.zeros((math.prod(sizes), len(self.space.choices)), np.int16)
            rows[:, genes] = all_genes(sizes)
            codes = table.strides[list(path)] @ rows.T.astype(np.float32)
            kinds = self.kinds.of_variant[
                codes.astype(np.intp) + table.offsets[list(path)][:, None]
            ]
            for number, column in zip(_sequence(kinds), kinds.T, strict=True):
                names = [self.kinds.names[k] for k in column if k]
                self.sequences[int(number)] = " > ".join(names) or "shortcut"

    def _follow(
        self, codes: npt.NDArray[np.intp], live: LiveSegment
    ) -> tuple[npt.NDArray[np.bool_], Hashes, npt.NDArray[np.int64]]:
        """For each path and setting: whether it is live, its sequence, its depth."""
        segment = self.copies[0]
        place = {v: k for k, v in enumerate(segment.layers)}
        active = self.space.layers.columns["active"][codes] > 0
        there, sequence, depth = [], [], []
        for path in segment.paths:
            at = [place[v] for v in path]
            alive = live.reached[at].all(axis=0)
            for source, v in zip((segment.start, *path[:-1]), path, strict=True):
                if self.space.nodes[v].inputs[0] != source:
                    alive = alive & active[place[v]]
            kinds = self.kinds.of_variant[codes[at]]
            there.append(alive)
            sequence.append(_sequence(kinds))
            depth.append(self.kinds.is_deep[kinds].sum(axis=0))
        return np.stack(there), np.stack(sequence), np.stack(depth)


def segment_groups(space: SearchSpace) -> list[SegmentGroup]:
    """The segments of a space in groups, in the order of their first."""
    kinds, hashes = Kinds.of(space.layers.columns), layer_hashes(space)
    found: dict[str, SegmentGroup] = {}
    heights: list[int] = []
    every = segments(space)
    for segment in every:
        size = int(space.layers.columns["height"][_variants(space, segment.layers[-1])].max())
        heights.append(size)
    order = sorted(set(heights), reverse=True)
    for segment, height in zip(every, heights, strict=True):
        key = _signature(space, segment, kinds, hashes)
        group = found.setdefault(key, SegmentGroup(space=space, kinds=kinds, hashes=hashes))
        group.copies.append(segment)
        group.levels.append(order.index(height))
    for group in found.values():
        group.learn_sequences()
    return list(found.values())


def _codes(space: SearchSpace, layers: tuple[int, ...], rows: Genes) -> npt.NDArray[np.intp]:
    """The variants of some layers, a `layers x n` array."""
    at = list(layers)
    codes = space.layers.strides[at] @ rows.T.astype(np.float32)
    return codes.astype(np.intp) + space.layers.offsets[at][:, None]


def _variants(space: SearchSpace, layer: int) -> slice:
    ends = np.append(space.layers.offsets, space.layers.variants)
    return slice(int(ends[layer]), int(ends[layer + 1]))


def _signature(space: SearchSpace, segment: Segment, kinds: Kinds, hashes: Hashes) -> str:
    """Equal for segments that are alike: how layers are joined, genes, kinds, what differs."""
    place = {v: k for k, v in enumerate(segment.layers)}
    parts: dict[str, npt.NDArray[np.generic]] = {}
    for k, v in enumerate(segment.layers):
        inputs = space.nodes[v].inputs
        at = _variants(space, v)
        alike = np.unique(hashes[at], return_inverse=True)[1].reshape(-1)
        first = np.full(alike.max() + 1, len(alike))
        np.minimum.at(first, alike, np.arange(len(alike)))  # numbers do not depend on sizes
        parts[f"{k}"] = np.concatenate(
            [
                [place.get(s, -1) for s in inputs],
                [-2],
                space.layers.strides[v],
                [-2],
                kinds.of_variant[at],
                space.layers.columns["active"][at],
                first[alike],
            ]
        ).astype(np.int64)
    return array_hash(parts)


def _sequence(kinds: npt.NDArray[np.intp]) -> Hashes:
    """A hash of the kinds along a path, a `layers x n` array; kind 0 does not count."""
    total = np.zeros(kinds.shape[1], np.uint64)
    for row in kinds:
        total = np.where(row > 0, mix(total + row.astype(np.uint64)), total)
    return total
