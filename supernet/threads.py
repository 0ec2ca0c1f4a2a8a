"""How many threads torch uses inside operators, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    """torch with `count` threads inside operators, in this thread and in those started meanwhile.

    Small networks gain nothing from more than one, and lose much where another process holds a
    core, because the threads of an operator wait for the slowest.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_each(workers: int) -> int:
    """Threads inside operators for each of `workers` that run side by side, at least one."""
    return max(1, torch.get_num_threads() // workers)
