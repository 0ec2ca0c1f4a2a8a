"""An allocation of a population of networks, and the list of them that is being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NOBODY = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An allocation, for each of `n` networks.

    Attributes:
        name: The layer, and what of it.
        on: Which networks have it.
        size: Bytes that it writes, before rounding.
        shape: A number that is equal for equal shapes.
        scratch: Bytes that it needs while it runs, one array for each piece of memory.
        reads: For each input the step that wrote it, `NOBODY` for none.
        over: The step whose tensor may be written over, one of `reads`; `NOBODY` for none.
        summand: The summand of a sum that was folded in; `NOBODY` for none.
        place: The number of the layer; of the sum where one was folded in.
        late: 1 for what onnxruntime adds to the graph when it goes over to blocks of channels, 2
            for what it adds after that; 0 for what was there before.
    """

    name: str
    on: Mask
    size: Counts
    shape: Counts
    scratch: tuple[Counts, ...]
    reads: tuple[Counts, ...]
    over: Counts
    summand: Counts
    place: Counts
    late: Counts


@dataclass(slots=True)
class Writing:
    """The steps so far, and where values are."""

    n: int
    batch: int
    block: int
    layer: int = 0
    steps: list[Step] = field(default_factory=list)
    writer: dict[int, Counts] = field(default_factory=dict)
    is_map: dict[int, Mask] = field(default_factory=dict)
    copies: dict[bool, dict[int, Counts]] = field(default_factory=lambda: {True: {}, False: {}})

    def add(
        self,
        name: str,
        on: Mask,
        dims: Sequence[Counts],
        form: int,
        reads: Sequence[Counts],
        *,
        over: Counts | None = None,
        scratch: Sequence[Counts] = (),
        late: Mask | int = 0,
    ) -> int:
        """Adds a step that writes a tensor of these dimensions; returns its number."""
        size = 4 * np.prod(np.stack([np.broadcast_to(d, (self.n,)) for d in dims]), axis=0)
        shape = np.full(self.n, form, np.int64)
        for d in dims:
            shape = shape * 1_000_003 + d  # wraps around, which a hash may
        self.steps.append(
            Step(
                name=name,
                on=on,
                size=np.where(on, size, 0),
                shape=shape,
                scratch=tuple(np.where(on, part, 0) for part in scratch),
                reads=tuple(np.where(on, r, NOBODY) for r in reads),
                over=np.full(self.n, NOBODY) if over is None else np.where(on, over, NOBODY),
                summand=np.full(self.n, NOBODY),
                place=np.full(self.n, self.layer),
                late=np.broadcast_to(np.asarray(late, np.int64), (self.n,)),
            )
        )
        return len(self.steps) - 1

    def filled(self, channels: Counts, blocked: Mask) -> Counts:
        """Channels as they are stored."""
        return np.where(blocked, -(-channels // self.block) * self.block, channels)
