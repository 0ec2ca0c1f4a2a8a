"""An accuracy that misbehaves as often as files in a folder say, so that all processes see it."""

import os
import signal
import time

from records import Measured
from tests.strategies.doubles import FormulaAccuracy


class Misbehaving(FormulaAccuracy):
    """Raises, hangs, dies or returns what is no share, for rows of which it is said.

    Args:
        space: The space.
        folder: Where each try of a row leaves a file.
        faults: By row what it does: a kind, and in how many tries.
        seconds: How long a row takes.
    """

    def __init__(self, space, folder, faults, seconds=0.0):
        super().__init__(space)
        self.folder = folder
        self.faults = faults
        self.seconds = seconds

    def evaluate(self, genes):
        return [self._evaluate(row) for row in genes]

    def tries(self, row):
        name = "-".join(map(str, row))
        return sum(file.name.startswith(name + ".") for file in self.folder.iterdir())

    def _evaluate(self, row):
        key = tuple(row.tolist())
        tries = self.tries(key)
        (self.folder / f"{'-'.join(map(str, key))}.{tries}.{os.getpid()}").touch()
        time.sleep(self.seconds)
        kind, times = self.faults.get(key, ("", 0))
        if tries < times:
            if kind == "raises":
                raise MemoryError("no room")
            if kind == "hangs":
                time.sleep(600)
            if kind == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "is NaN":
                return Measured(value=float("nan"))
        return super().evaluate(row[None])[0]
