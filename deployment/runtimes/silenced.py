"""Converters that print their progress, made to keep quiet."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def silenced() -> Iterator[None]:
    """Nothing that Python prints is shown; errors are raised as ever."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
