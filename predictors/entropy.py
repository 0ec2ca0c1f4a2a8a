"""Entropy of a network from its layer table alone: no weights, no data, no forward pass.

Along the path from the input, layer i with `c_i` input channels, kernel `k_i` and `g_i` groups has
the width `w_i = c_i k_i^2 / g_i`. The entropy of stage s, all layers at one size of the map, is

    H_s = log(r_s^2 C_s) * sum over layers i from the input to the end of s of (1/2) log w_i

with `r_s^2` positions and `C_s` channels at its end. The score is

    sum_s beta_s H_s - 10 exp(std of the stages' depths in blocks),   beta = 1, ..., 1, 8

and the effectiveness `rho = L / (w_1 ... w_L)^(1/L)` of the L layers says how chaotic the network
is: the paper limits it (0.3 to 0.5 in its released searches), for a deep and narrow network
scores well and cannot be trained.

Where paths join, the one with the most entropy counts; what only `zeros` reaches is no path, and a
gate (the second input of `multiply`) is none. Layers are convolutions, linear maps and attention
(width: its input channels) before the last pooling over all positions.

Deviations: the paper has networks without branches, made of blocks of a 1x1, a k x k and a 1x1
convolution. A layer table does not know blocks, so they are counted by the layers that mix
positions: convolutions of a kernel above 1, and attention. A first stage of one such layer is a
stem, and does not count. (Counted in all layers with weights, depths of inverted
bottlenecks vary three times as much, and the exponential outweighs the entropy: stages of 2 and
of 6 blocks would cost 10 e^6 = 4,000 instead of 10 e^2 = 74.)

Reference:
    Shen et al., DeepMAD: Mathematical Architecture Design for Deep Convolutional Neural Network,
    CVPR 2023, arXiv 2303.02165; the multi-stage weights and the penalty as in its released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from search_spaces import LayerTable
from search_spaces.primitives import PRIMITIVES

Vector: TypeAlias = npt.NDArray[np.float64]

LAST_STAGE = 8.0
"""What the last stage counts for; the others count once."""
PENALTY = 10.0

_WEIGHTED = ("conv2d", "linear", "attention")
_POOLING = ("global_pool", "squeeze")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entropy:
    """Arrays of length `n`; NaN where no path leads from the input to the output.

    Attributes:
        score: The entropy less the penalty, larger is better.
        entropy: The weighted sum of the stages' entropies.
        effectiveness: `rho`, the depth by the mean width.
        depth: Layers with weights on the path.
        depth_spread: The standard deviation of the stages' depths, in blocks.
    """

    score: Vector
    entropy: Vector
    effectiveness: Vector
    depth: Vector
    depth_spread: Vector


def entropy(
    table: LayerTable, *, last_stage: float = LAST_STAGE, penalty: float = PENALTY
) -> Entropy:
    """The entropy of `n` architectures.

    >>> import numpy as np
    >>> from search_spaces import CNNSpace
    >>> space = CNNSpace()
    >>> ends = [space.extremes(which) for which in ("smallest", "largest")]
    >>> small, large = entropy(space.layer_table(np.concatenate(ends))).score
    >>> bool(small < large)
    True

    Args:
        table: Their layers.
        last_stage: What the entropy of the last stage is multiplied with.
        penalty: What `exp(std of depths)` is multiplied with; 0 for the entropy alone.
    """
    path = _last_path(table)
    path.finish_stage(np.ones(len(path.alive), np.bool_), last_stage)
    mean = path.blocks / np.maximum(path.stages, 1)
    spread = np.sqrt(np.maximum(path.squares / np.maximum(path.stages, 1) - mean**2, 0))
    total = 2 * path.half_log_width
    depth = np.maximum(path.layers, 1)
    rho = np.where(path.layers > 0, path.layers / np.exp(total / depth), 0)
    with np.errstate(over="ignore"):
        score = path.entropy - penalty * np.exp(spread) if penalty else path.entropy
    found = (score, path.entropy, rho, path.layers, spread)
    shown = [np.where(path.alive, value, np.nan) for value in found]
    names = ("score", "entropy", "effectiveness", "depth", "depth_spread")
    return Entropy(**dict(zip(names, shown, strict=True)))


_FIELDS = (
    "alive", "half_log_width", "entropy", "layers", "stage_layers", "stage_blocks", "blocks",
    "squares", "stages", "positions", "channels", "pooled",
)  # fmt: skip


@dataclass(slots=True)
class _Path:
    """The best path from the input to one layer, for `n` architectures.

    Attributes:
        alive: Whether there is a path.
        half_log_width: The sum of `log(w) / 2` along it.
        entropy: Of the stages that are finished.
        layers: Layers with weights along it.
        stage_layers: Those of the stage that is not finished.
        stage_blocks: Those of them that mix positions.
        blocks: The sum of the finished stages' blocks.
        squares: The sum of their squares.
        stages: Finished stages that have layers, without the stem.
        positions: Of the map at its end.
        channels: Likewise.
        pooled: Whether all positions were pooled: nothing counts any more.
    """

    alive: npt.NDArray[np.bool_]
    half_log_width: Vector
    entropy: Vector
    layers: Vector
    stage_layers: Vector
    stage_blocks: Vector
    blocks: Vector
    squares: Vector
    stages: Vector
    positions: Vector
    channels: Vector
    pooled: npt.NDArray[np.bool_]

    def finish_stage(self, where: npt.NDArray[np.bool_], weight: float) -> None:
        """Adds the stage's entropy, in place, for some of the architectures."""
        size = np.log(np.maximum(self.positions * self.channels, 1))
        self.entropy = self.entropy + where * weight * size * self.half_log_width
        is_stem = (self.layers == self.stage_layers) & (self.stage_blocks < 2)
        counts = where & (self.stage_layers > 0) & ~is_stem
        self.blocks = self.blocks + counts * self.stage_blocks
        self.squares = self.squares + counts * self.stage_blocks**2
        self.stages = self.stages + counts
        self.stage_layers = np.where(where, 0, self.stage_layers)
        self.stage_blocks = np.where(where, 0, self.stage_blocks)


def _either(take: npt.NDArray[np.bool_], first: _Path, second: _Path) -> _Path:
    """The first path where `take` holds, the second elsewhere."""
    return _Path(*(np.where(take, getattr(first, f), getattr(second, f)) for f in _FIELDS))


def _last_path(table: LayerTable) -> _Path:
    """The path to what the last pooling reads, or to the output where nothing is pooled."""
    n = table.codes.shape[1]
    readers = _last_readers(table)
    paths: dict[int, _Path] = {}
    for v, sources in enumerate(table.edges):
        if not sources:
            paths[v] = _start(n, _row(table, v, "channels"), _row(table, v, "elements"))
            continue
        active = _row(table, v, "active") > 0
        passed = paths[sources[0]]
        if active.any():
            operator = _operator(table, v)
            joined = passed
            if operator != "multiply":
                for source in sources[1:]:
                    joined = _join(joined, paths[source])
            stepped = _step(joined, table, v, operator)
            passed = stepped if active.all() else _either(active, stepped, passed)
        paths[v] = passed
        for source in {s for s in sources if readers[s] == v}:
            del paths[source]
    return paths[len(table.edges) - 1]


def _start(n: int, channels: Vector, elements: Vector) -> _Path:
    zero = np.zeros(n)
    return _Path(
        alive=np.ones(n, np.bool_),
        half_log_width=zero,
        entropy=zero,
        layers=zero,
        stage_layers=zero,
        stage_blocks=zero,
        blocks=zero,
        squares=zero,
        stages=zero,
        positions=elements / np.maximum(channels, 1),
        channels=channels,
        pooled=np.zeros(n, np.bool_),
    )


def _join(first: _Path, second: _Path) -> _Path:
    """The path of more entropy; of equal ones the first."""
    better = second.alive & (~first.alive | (second.half_log_width > first.half_log_width))
    return _either(~better, first, second)


def _step(path: _Path, table: LayerTable, v: int, operator: str) -> _Path:
    """The path prolonged by one layer, as if it ran everywhere."""
    channels = _row(table, v, "channels")
    positions = _row(table, v, "elements") / np.maximum(channels, 1)
    longer = _Path(*(getattr(path, f) for f in _FIELDS))
    if operator == "zeros":
        longer.alive = np.zeros_like(path.alive)
        return longer
    if operator in _POOLING:
        longer.pooled = np.ones_like(path.pooled)
        return longer
    goes_on = ~path.pooled
    ends = goes_on & (positions < path.positions) & (path.stage_layers > 0)
    longer.finish_stage(ends, 1.0)
    if operator in _WEIGHTED:
        kernel = np.maximum(_row(table, v, "kernel"), 1)
        groups = np.maximum(_row(table, v, "groups"), 1)
        width = np.maximum(_row(table, v, "in_channels") * kernel**2 / groups, 1)
        longer.half_log_width = path.half_log_width + goes_on * 0.5 * np.log(width)
        longer.layers = path.layers + goes_on
        longer.stage_layers = longer.stage_layers + goes_on
        mixes = (kernel > 1) | (operator == "attention")
        longer.stage_blocks = longer.stage_blocks + (goes_on & mixes)
    longer.positions = np.where(goes_on, positions, path.positions)
    longer.channels = np.where(goes_on, channels, path.channels)
    return longer


def _row(table: LayerTable, v: int, name: str) -> Vector:
    """A column of the table for one layer, an array of length `n`."""
    return np.asarray(table.flat[name][table.codes[v]], np.float64)


def _operator(table: LayerTable, v: int) -> str:
    """The primitive of a layer, which is one wherever the layer runs."""
    numbers = table.flat["operator"][table.codes[v]]
    return list(PRIMITIVES)[int(numbers.max())]


def _last_readers(table: LayerTable) -> dict[int, int]:
    """For each layer the last that reads it."""
    return {source: v for v, sources in enumerate(table.edges) for source in sources}
