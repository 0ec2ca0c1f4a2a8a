"""Which layers of an architecture matter to its output, and which architectures are one network.

A layer is *live* where data reaches it from the input of its segment and its output is used at the
end. What only `zeros` reaches, or nothing reads, is dead. A sum of one live tensor is that tensor,
a skipped layer passes on its first input, and the terms of a sum have no order. Two architectures
with the same live layers joined in the same way are one network, whatever their genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictors.segments import Segment
from search_spaces import SearchSpace
from search_spaces.primitives import ATTRIBUTES

Hashes = npt.NDArray[np.uint64]

_JOINS = ("add", "concat")  # they yield something as soon as one of their inputs does
_IDENTITY = ("operator", *ATTRIBUTES)
_DEAD = np.uint64(0x6A09E667F3BCC909)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSegment:
    """A segment of `n` architectures.

    Attributes:
        live: A `layers x n` mask of the layers that run and matter.
        reached: A `layers x n` mask of the layers (run or passed over) that data reaches.
        is_alive: Whether anything reaches the segment's output, an array of length `n`.
        network: A hash of its live part, an array of length `n`.
    """

    live: npt.NDArray[np.bool_]
    reached: npt.NDArray[np.bool_]
    network: Hashes

    @property
    def is_alive(self) -> npt.NDArray[np.bool_]:
        alive: npt.NDArray[np.bool_] = self.reached[-1]
        return alive


def layer_hashes(space: SearchSpace) -> Hashes:
    """A hash of what each variant of each layer computes, over the flat table of the space."""
    flat = space.layers.columns
    hashes = np.zeros(space.layers.variants, np.uint64)
    for name in _IDENTITY:
        hashes = mix(hashes + flat[name].astype(np.int64).view(np.uint64))
    return hashes


def live_segment(
    space: SearchSpace, segment: Segment, codes: npt.NDArray[np.intp], hashes: Hashes
) -> LiveSegment:
    """Follows the data through one segment, forwards and back.

    Args:
        space: The space.
        segment: One of its segments.
        codes: A `layers x n` array: the variants of the segment's layers (`Tabulation.codes`).
        hashes: The hashes of all variants.
    """
    flat = space.layers.columns
    active = flat["active"][codes] > 0
    operator = [space.nodes[v].operator for v in segment.layers]
    place = {v: k for k, v in enumerate(segment.layers)}
    inputs = [[place.get(s, -1) for s in space.nodes[v].inputs] for v in segment.layers]
    m, n = codes.shape
    # one more row, the last: what the segment reads
    reached, value = np.ones((m + 1, n), np.bool_), np.zeros((m + 1, n), np.uint64)
    value[-1] = 1
    for k, sources in enumerate(inputs):
        first = sources[0] if sources else -1
        there = np.stack([reached[s] for s in sources]) if sources else np.ones((1, n), np.bool_)
        runs = there.any(axis=0) if operator[k] in _JOINS else there.all(axis=0)
        reached[k] = np.where(active[k], runs & (operator[k] != "zeros"), reached[first])
        terms = [np.where(reached[s], value[s], np.uint64(0)) for s in sources]
        if operator[k] == "add":
            result = np.sum(terms, axis=0, dtype=np.uint64)
        else:
            result = hashes[codes[k]]
            for term in terms:
                result = mix(result + term)
        value[k] = np.where(active[k], result, value[first])
    used, after = np.zeros((m + 1, n), np.bool_), np.zeros((m + 1, n), np.uint64)
    used[m - 1], after[m - 1] = reached[m - 1], 1
    live = np.zeros((m, n), np.bool_)
    for k in range(m - 1, -1, -1):
        live[k] = used[k] & active[k]
        if operator[k] == "add":  # of one term it is that term
            live[k] &= np.sum([reached[s] for s in inputs[k]], axis=0) > 1
        for j, s in enumerate(inputs[k]):
            passes = used[k] & reached[s] & (active[k] | (j == 0))
            used[s] |= passes
            through = mix(after[k] + mix(hashes[codes[k]] + np.uint64(j)))
            is_joint = ~active[k] | (operator[k] == "add")
            after[s] += np.where(passes, np.where(is_joint, after[k], through), np.uint64(0))
    network = np.where(reached[m - 1], value[m - 1], _DEAD)
    for k in range(m):
        if operator[k] != "add":
            network = network + np.where(live[k], mix(value[k] + mix(after[k])), np.uint64(0))
    return LiveSegment(live=live, reached=reached[:m], network=network)


def mix(x: Hashes) -> Hashes:
    """Scatters 64 bits (splitmix64)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
