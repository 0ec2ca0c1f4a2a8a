"""Regression trees as plain arrays, and the traversal of all of them for all rows at once.

A tree of depth `D` is stored as a complete binary tree: node `k` sends a row to node `2k + 1` if
`row[feature] <= threshold` and to `2k + 2` otherwise; its `2^D` leaves hold the values. A leaf
further up is padded with splits that send everything to the left (threshold infinity).

The traversal follows no pointers. Every distinct split of the whole ensemble is evaluated once, to
one byte a row (small data and discrete choices give few distinct splits). Which leaf a row falls
into is then selected bottom-up, `leaf = right if bit else left`, as byte operations that run over
all trees and rows. This is the idea of QuickScorer (Lucchese et al., SIGIR 2015), which also
replaces pointers by bit operations on sorted splits; there by masks of leaves, one row at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from records import BadInputError

MAX_DEPTH = 6
_CHUNK = 256  # rows at once: the bytes of a few hundred trees then stay in a second-level cache


@dataclass(frozen=True, kw_only=True)
class Trees:
    """An ensemble of `t` trees of one depth.

    Attributes:
        feature: A `t x (2^D - 1)` array, the column that each node reads.
        threshold: A `t x (2^D - 1)` array; infinity where a node is padding.
        value: A `t x 2^D` array, the leaves from left to right.

    Raises:
        BadInputError: Shapes that belong to no complete trees.
    """

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    value: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = (len(self.value), self.value.shape[-1] - 1)
        leaves = [2**depth for depth in range(1, MAX_DEPTH + 1)]
        if (
            self.value.ndim != 2
            or self.value.shape[1] not in leaves
            or self.feature.shape != shape
            or self.threshold.shape != shape
        ):
            raise BadInputError(
                f"trees of depth 1 to {MAX_DEPTH} need t x (2^D - 1) splits and t x 2^D values; "
                f"got {self.feature.shape}, {self.threshold.shape} and {self.value.shape}"
            )

    def predict(self, rows: npt.NDArray[np.floating], groups: int = 1) -> npt.NDArray[np.float64]:
        """Sums the trees' values for every row, apart for each of `groups` equal runs of trees.

        Args:
            rows: An `n x f` array; read as float32, as scikit-learn does.
            groups: Into how many ensembles of `t / groups` consecutive trees the trees divide.

        Returns:
            A `groups x n` array.
        """
        columns = np.ascontiguousarray(rows.T, np.float32)
        total = np.empty((groups, len(rows)))
        for start in range(0, len(rows), _CHUNK):
            stop = start + _CHUNK
            leaf = self._leaves(columns[:, start:stop])
            values = self.value.ravel()[leaf + self._first_leaf]
            total[:, start:stop] = values.reshape(groups, -1, leaf.shape[1]).sum(axis=1)
        return total

    @cached_property
    def _first_leaf(self) -> npt.NDArray[np.intp]:
        trees, leaves = self.value.shape
        return np.arange(0, trees * leaves, leaves)[:, None]

    @cached_property
    def _splits(
        self,
    ) -> tuple[list[tuple[int, npt.NDArray[np.float32]]], npt.NDArray[np.intp]]:
        """The distinct thresholds of each column, and for each node (`nodes x t`) its split."""
        pairs = np.stack([self.feature.ravel(), self.threshold.ravel()])
        unique, split = np.unique(pairs, axis=1, return_inverse=True)
        blocks = [
            (int(column), unique[1, unique[0] == column].astype(np.float32)[:, None])
            for column in np.unique(unique[0])
        ]
        nodes = split.reshape(self.feature.shape).T
        return blocks, np.ascontiguousarray(nodes)

    def _leaves(self, columns: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """The leaf of every tree for `n` rows, given as `f x n` columns: a `t x n` array."""
        blocks, nodes = self._splits
        splits = sum(len(thresholds) for _, thresholds in blocks)
        bits = np.empty((splits, columns.shape[1]), np.bool_)
        start = 0
        for column, thresholds in blocks:
            stop = start + len(thresholds)
            np.greater(columns[column], thresholds, out=bits[start:stop])
            start = stop
        right: npt.NDArray[np.uint8] = bits.view(np.uint8)  # 0 goes left, 1 goes right
        return _descend(right, nodes, 0, self.value.shape[1] // 2)


def _descend(
    right: npt.NDArray[np.uint8], nodes: npt.NDArray[np.intp], node: int, half: int
) -> npt.NDArray[np.uint8]:
    """The leaf reached below a node with `2 half` leaves, counted from its leftmost."""
    bit: npt.NDArray[np.uint8] = right[nodes[node]]  # t x n
    if half == 1:
        return bit
    below = _descend(right, nodes, 2 * node + 1, half // 2)
    above = _descend(right, nodes, 2 * node + 2, half // 2)
    above += np.uint8(half)
    # select without a branch: 0 - bit is 0 or 255
    above ^= below
    above &= np.negative(bit)
    below ^= above
    return below


def export_trees(trees: Sequence[Any], depth: int, scale: float = 1.0) -> Trees:
    """Copies fitted scikit-learn regression trees into arrays.

    Args:
        trees: Fitted `DecisionTreeRegressor`s of at most `depth` levels.
        depth: The depth `D` of the complete trees, 1 to `MAX_DEPTH`.
        scale: What the values are multiplied with (the learning rate of boosting).

    Raises:
        BadInputError: A depth out of range, or a tree that is deeper.
    """
    deepest = max((tree.get_depth() for tree in trees), default=0)
    if not deepest <= depth <= MAX_DEPTH or depth < 1:
        raise BadInputError(
            f"depth must be between the deepest tree's {max(deepest, 1)} and {MAX_DEPTH}, "
            f"got {depth}"
        )
    count = len(trees)
    inner = 2**depth - 1
    nodes = max((tree.tree_.node_count for tree in trees), default=1)
    left = np.full((count, nodes), -1, np.intp)
    right, split_column = left.copy(), left.copy()
    threshold = np.zeros((count, nodes))
    value = np.zeros((count, nodes))
    for i, tree in enumerate(trees):
        raw = tree.tree_
        used = raw.node_count
        left[i, :used] = raw.children_left
        right[i, :used] = raw.children_right
        split_column[i, :used] = raw.feature
        threshold[i, :used] = raw.threshold
        value[i, :used] = raw.value[:, 0, 0]

    each = np.arange(count)[:, None]
    here = np.zeros((count, 1), np.intp)  # the source's node at each node of the current level
    features = np.zeros((count, inner), np.int32)
    thresholds = np.full((count, inner), np.inf)
    for level in range(depth):
        first, width = 2**level - 1, 2**level
        splits = left[each, here] >= 0
        features[:, first : first + width] = np.where(splits, split_column[each, here], 0)
        thresholds[:, first : first + width] = np.where(splits, threshold[each, here], np.inf)
        children = [np.where(splits, side[each, here], here) for side in (left, right)]
        here = np.stack(children, axis=2).reshape(count, 2 * width)
    return Trees(
        feature=features,
        threshold=_round_down(thresholds),
        value=np.ascontiguousarray(value[each, here] * scale),
    )


def _round_down(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 not above each number: a float32 compares with both alike."""
    rounded = numbers.astype(np.float32)
    over = rounded > numbers
    rounded[over] = np.nextafter(rounded[over], np.float32(-np.inf))
    return rounded
