"""Keeps training alive: a member that goes wrong is dropped, a lost run returns to a good state.

A loss or gradient that is not finite, or a loss far above its usual value, spoils one member of a
step, not the step; the other members count. After several steps in a row without any good member
the weights return to a copy made when all was well; when that does not help, training ends with an
error that says what to do.
"""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import torch
from torch import nn

from records import HwnasError
from supernet.training.recipe import Recipe

logger = logging.getLogger(__name__)

MOST_SKIPPED = 20
"""Steps in a row without a good member; after so many the last good state is restored."""
MOST_RESTORED = 2
"""How often it is restored before training gives up."""
COPY_EVERY = 100
"""Good steps between two copies of the state."""
USUAL = 0.95
"""Decay of the running mean of the losses."""


class TrainingError(HwnasError, RuntimeError):
    """Training that cannot go on."""


class Guard:
    """Judges losses and keeps a good state to return to.

    Args:
        recipe: Its `spike_factor` and `learning_rate`.
        module: The network.
        optimiser: Its optimiser.
        total: The number of steps of the run.
    """

    def __init__(
        self, recipe: Recipe, module: nn.Module, optimiser: torch.optim.Optimizer, total: int
    ) -> None:
        self.recipe = recipe
        self.module = module
        self.optimiser = optimiser
        self.most_skipped = min(MOST_SKIPPED, total)
        self.usual: dict[str, float] = {}
        self.dropped = 0
        self.skipped = 0
        self.restored = 0
        self._good_steps = 0
        self._copy: tuple[Any, Any] | None = None

    def is_good(self, role: str, loss: float) -> bool:
        """Whether a member's loss is finite and no spike."""
        if not math.isfinite(loss):
            return False
        usual = self.usual.get(role)
        return usual is None or abs(loss) <= self.recipe.spike_factor * (usual + 0.1)

    def record(self, role: str, loss: float) -> None:
        """Takes a good member's loss into what is usual for its role."""
        usual = self.usual.get(role, abs(loss))
        self.usual[role] = USUAL * usual + (1 - USUAL) * abs(loss)

    def good_step(self) -> None:
        """A step was made."""
        self.skipped = 0
        if self._good_steps % COPY_EVERY == 0:
            state = self.module.state_dict(), self.optimiser.state_dict()
            self._copy = copy.deepcopy(state)
        self._good_steps += 1

    def bad_step(self, step: int) -> None:
        """A step was skipped; returns to the last good state after too many of them.

        Raises:
            TrainingError: There is none, or it was returned to before.
        """
        self.skipped += 1
        if self.skipped < self.most_skipped:
            return
        if self._copy is None or self.restored >= MOST_RESTORED:
            raise TrainingError(
                f"the loss of {self.skipped} steps in a row is not finite (step {step}); lower "
                f"learning_rate (now {self.recipe.learning_rate:g}) or check the images for NaN"
            )
        logger.warning("step %d: back to the last good weights", step)
        weights, optimiser = copy.deepcopy(self._copy)
        self.module.load_state_dict(weights)
        self.optimiser.load_state_dict(optimiser)
        self.restored += 1
        self.skipped = 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, values as in JSON."""
        return {
            "usual": dict(self.usual),
            "dropped": self.dropped,
            "skipped": self.skipped,
            "restored": self.restored,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from what `state` gave."""
        self.usual = {role: float(loss) for role, loss in state["usual"].items()}
        self.dropped, self.skipped = int(state["dropped"]), int(state["skipped"])
        self.restored = int(state["restored"])
