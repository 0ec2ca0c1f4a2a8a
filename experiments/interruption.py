"""How a command ends that was interrupted: one line, and the exit code that shells give it.

Python raises `KeyboardInterrupt` wherever it is. While a command is at work that is caught where
the command was called. While modules are still being imported, which takes a second or more, it
comes up anywhere within them, in places that turn it into other errors too; nothing has begun
then, and the process just ends.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
"""128 and the number of SIGINT."""


def end_interrupted(what_now: str) -> NoReturn:
    """Ends an interrupted command.

    Args:
        what_now: What is kept, and how to go on.
    """
    _say(what_now)
    sys.exit(INTERRUPTED)


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Within it, Ctrl-C ends the process there and then; for the time before anything has begun.

    Where Ctrl-C is ignored, as behind `nohup`, it stays so.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _end_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    _say("nothing had begun")
    os._exit(INTERRUPTED)


def _say(what_now: str) -> None:
    print(f"interrupted; {what_now}", file=sys.stderr, flush=True)
