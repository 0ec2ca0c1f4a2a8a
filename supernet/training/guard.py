"""Keeps training alive: a member that goes wrong is dropped, a lost run returns to a good state.

A loss or gradient that is not finite, or a loss far above its usual value, spoils one member of a
step, not the step; the other members count. After several steps in a row without any good member
the weights return to a copy made when all was well; when that does not help, training ends with an
error that says what to do.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import nn

from records import HwnasError
from supernet.training.optimisation import MovingAverage
from supernet.training.recipe import Recipe

logger = logging.getLogger(__name__)

MOST_SKIPPED = 20
"""Steps in a row without a good member; after so many the last good state is restored."""
MOST_RESTORED = 2
"""How often it is restored before training gives up."""
COPY_EVERY = 100
"""Good steps between two copies of the state; fewer in short runs, which lose 5 % at most."""
USUAL = 0.95
"""Decay of the running mean of the losses."""
MARGIN = 0.1
"""Added to what is usual, since losses near 0 vary by large factors."""


class TrainingError(HwnasError, RuntimeError):
    """Training that cannot go on."""


class Guard:
    """Judges losses and keeps a good state to return to.

    A resumed run returns to the state that it was resumed from until it has made a copy of its
    own.

    Args:
        recipe: Its `spike_factor` and `learning_rate`.
        module: The network.
        optimiser: Its optimiser.
        total: The number of steps of the run.
        average: The moving average of its weights, where there is one.
    """

    def __init__(
        self,
        recipe: Recipe,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        total: int,
        average: MovingAverage | None = None,
    ) -> None:
        self.recipe = recipe
        self.module = module
        self.optimiser = optimiser
        self.average = average
        self.most_skipped = min(MOST_SKIPPED, total)
        self.copy_every = max(1, min(COPY_EVERY, total // 20))
        self.usual: dict[str, float] = {}
        self.dropped = 0
        self.skipped = 0
        self.restored = 0
        self._good_steps = 0
        self._copy: Any = None

    def accepts(self, role: str, loss: float) -> bool:
        """Whether a finite loss is no spike; takes it into what is usual for the member's role.

        A spike counts as the greatest loss that is none. So a level that lasts is usual after a
        few steps, such as that of networks whose widths were opened just now.
        """
        usual = self.usual.get(role, abs(loss))
        most = self.recipe.spike_factor * (usual + MARGIN)
        self.usual[role] = USUAL * usual + (1 - USUAL) * min(abs(loss), most)
        return abs(loss) <= most

    def good_step(self) -> None:
        """A step was made."""
        self.skipped = 0
        if self._good_steps % self.copy_every == 0:
            self.keep()
        self._good_steps += 1

    def keep(self) -> None:
        """Copies the present state as one to return to."""
        average = None if self.average is None else self.average.weights
        state = self.module.state_dict(), self.optimiser.state_dict(), average
        self._copy = copy.deepcopy(state)

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
                f"the losses or gradients of {self.skipped} steps in a row are not finite, or far "
                f"above what was usual (step {step}); lower learning_rate (now "
                f"{self.recipe.learning_rate:g}) or check the images for NaN"
            )
        logger.warning("step %d: back to the last good weights", step)
        weights, optimiser, average = copy.deepcopy(self._copy)
        self.module.load_state_dict(weights)
        self.optimiser.load_state_dict(optimiser)
        if self.average is not None:
            self.average.weights = average
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
        """Continues from what `state` gave, with the present weights as a state to return to."""
        self.usual = {role: float(loss) for role, loss in state["usual"].items()}
        self.dropped, self.skipped = int(state["dropped"]), int(state["skipped"])
        self.restored = int(state["restored"])
        self.keep()
