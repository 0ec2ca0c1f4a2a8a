"""Which size of each hand-made network takes as long as a given network, on this machine.

Sizes are looked at from the smallest up, each timed in turns with the given network, until one is
far slower. Those in its neighbourhood are then timed again in one round-robin, all networks
together, and of each network the size nearest in latency is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deployment import Runner
from experiments.baselines import Scaled, hand_made, nearest_size
from experiments.measuring import time_together
from hardware_profiles import Target
from latency_models import random_weights_model
from search_spaces import Graph
from supernet import ImageData

MULTIPLIERS = (
    *(i / 16 for i in range(2, 16)),
    *(i / 8 for i in range(8, 16)),
    *(i / 4 for i in range(8, 17)),
)
"""Factors of all widths, in steps of 3 to 50 %: rounding to 8 makes small widths coarse anyway."""

MOST = 1.1
"""How many times as slow a hand-made network may be and still be compared."""

WIDE = 1.6
"""Latency ratio within which sizes are timed again; rough timings are much nearer than that."""

ROUGH_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One size of a hand-made network beside the network that it was matched to.

    Attributes:
        name: As in `experiments.baselines.HAND_MADE`.
        reduction: As in `hand_made`.
        index: Of the factor among `MULTIPLIERS`.
        ratio: Its latency divided by the one to match, when sizes were chosen.
    """

    name: str
    reduction: int
    index: int
    ratio: float

    @property
    def is_comparable(self) -> bool:
        """Whether it is at most `MOST` times as slow; if not, no size of the network is."""
        return self.ratio <= MOST

    def space(self, data: ImageData) -> Scaled:
        """The network in all its sizes."""
        return hand_made(self.name, data, reduction=self.reduction, multipliers=MULTIPLIERS)

    def graph(self, data: ImageData) -> Graph:
        """The layers of this size."""
        return self.space(data).graph([self.index])

    def title(self, data: ImageData) -> str:
        """Its name with the factor, e.g. `ResNet-8 x0.5, maps halved`."""
        title = self.space(data).title(np.array([self.index], np.int16))
        return title if self.reduction == 1 else f"{title}, maps halved"

    def to_json(self) -> dict[str, Any]:
        """What `Size(**value)` takes."""
        return asdict(self)


def matched_sizes(
    model: bytes,
    networks: Sequence[tuple[str, int]],
    data: ImageData,
    target: Target,
    runner: Runner,
    *,
    seed: int,
) -> list[Size]:
    """For each hand-made network the size whose latency is nearest to that of a file.

    Args:
        model: The exported network to match.
        networks: Names and reductions.
        data: The dataset.
        target: Where both run.
        runner: Times files.
        seed: Derives the order of timing.

    Returns:
        One size a network, in their order. Where no size is at most `MOST` times as slow, the
        nearest of the slower ones, which is not comparable.
    """
    near = [
        sizes_near(
            hand_made(name, data, reduction=reduction, multipliers=MULTIPLIERS),
            model, target, runner, seed=seed,
        )
        for name, reduction in networks
    ]  # fmt: skip
    together = [model, *(own for sizes in near for own in sizes.values())]
    latencies = [t.latency_ms for t in time_together(together, target, runner, seed=seed)]
    found, start = [], 1
    for (name, reduction), sizes in zip(networks, near, strict=True):
        own = np.array(latencies[start : start + len(sizes)]) / latencies[0]
        start += len(sizes)
        place = nearest_size(own, 1.0, MOST)
        if place is None:
            place = int(own.argmin())
        index, ratio = list(sizes)[place], float(own[place])
        found.append(Size(name=name, reduction=reduction, index=index, ratio=ratio))
    return found


def sizes_near(
    space: Scaled, model: bytes, target: Target, runner: Runner, *, seed: int
) -> dict[int, bytes]:
    """The exported sizes of about the file's latency, by the index of their factor.

    Returns:
        Those within `WIDE` of it; where there is none, the last faster and the first slower one.
        Of factors that round to the same network there is the last.
    """
    looked: list[tuple[int, bytes, float]] = []
    last_of = {space.graph([index]): index for index in range(len(space.multipliers))}
    for index in sorted(last_of.values()):
        own = random_weights_model(space, np.array([index], np.int16), target.batch_size)
        theirs, ours = runner.time(
            [model, own], threads=target.threads, rounds=ROUGH_ROUNDS, seed=seed
        )
        looked.append((index, own, ours.latency_ms / theirs.latency_ms))
        if looked[-1][2] > WIDE:
            break
    near = {index: own for index, own, ratio in looked if 1 / WIDE <= ratio <= WIDE}
    return near or {index: own for index, own, _ in looked[-2:]}
