"""What workers tell the process that started a training on Ray: an actor that keeps it.

Ray Train starts the workers anew when one is lost, so they cannot talk to the driver directly. The
actor outlives them. It lies on the driver's node and takes no processor.
"""

from __future__ import annotations

from collections.abc import Sequence

from records import HwnasError
from supernet.training.run import Step


class RayTrainingError(HwnasError, RuntimeError):
    """Training on Ray that lost its workers too often; its checkpoint is kept."""


class StoppedError(Exception):
    """Told to workers: whoever started the training has stopped it."""


class Notes:
    """The actor's class; its methods are called from afar."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._refusal: HwnasError | None = None
        self._stopped = False

    def goes_on(self) -> bool:
        """Whether a worker that has just started should train."""
        return self._refusal is None and not self._stopped

    def tell(self, steps: Sequence[Step]) -> bool:
        """Keeps finished steps; whether to go on."""
        self._steps.extend(steps)
        return not self._stopped

    def refuse(self, error: HwnasError) -> None:
        """Keeps an error that no other try would mend; the first one counts."""
        self._refusal = self._refusal or error

    def refusal(self) -> HwnasError | None:
        """That error."""
        return self._refusal

    def take(self) -> list[Step]:
        """The steps that were told since this was last asked."""
        steps, self._steps = self._steps, []
        return steps

    def stop(self) -> None:
        """Ends the training at the next step that is told."""
        self._stopped = True
