"""How long the steps of a run took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds by step, and since it was made under `total`, once that is asked for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Notes how long what is done within took; nothing where it fails."""
        start = time.monotonic()
        yield
        self.seconds[what] = time.monotonic() - start

    def total(self) -> dict[str, float]:
        """All that was noted, and what went by since the beginning."""
        return {**self.seconds, "total": time.monotonic() - self._began}
