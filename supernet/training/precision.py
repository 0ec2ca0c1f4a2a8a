"""Half precision in forward and backward passes: autocast, and the scale of the loss.

Micikevicius et al., Mixed Precision Training, ICLR 2018, arXiv 1710.03740. In fp16 small gradients
vanish, so the loss is multiplied by a factor that grows while all goes well and halves when a
gradient overflows. bf16 has the range of fp32 and needs no factor.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from supernet.training.recipe import Precision

GROW_EVERY = 1000


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Runs matrix products and convolutions in the given precision."""
    if precision == "fp32":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


class LossScale:
    """The factor on the loss; 1 unless the precision is fp16."""

    def __init__(self, precision: Precision) -> None:
        self.is_used = precision == "fp16"
        self.value = 65536.0 if self.is_used else 1.0
        self._good = 0

    def update(self, is_finite: bool) -> None:
        """Halves the factor after a step that overflowed, doubles it after many that did not."""
        if not self.is_used:
            return
        self._good = self._good + 1 if is_finite else 0
        if not is_finite:
            self.value = max(1.0, self.value / 2)
        elif self._good % GROW_EVERY == 0:
            self.value *= 2

    def state(self) -> list[float]:
        """What a checkpoint keeps."""
        return [self.value, float(self._good)]

    def restore(self, state: list[float]) -> None:
        """Continues from what `state` gave."""
        self.value, self._good = state[0], int(state[1])
