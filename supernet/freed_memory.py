"""Freed memory is kept by the process for the next tensors.

A forward pass on the processor allocates and frees some megabytes at every layer. glibc gives what
is freed at the top of the heap back to the system and takes large blocks from there one by one, so
the next layer has every page of its tensors made anew: for small networks a quarter of all time
and more. Told to keep some hundred megabytes, a process makes its pages once.

See mallopt(3) for the parameters.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

KEPT_BYTES = 512 * 2**20
"""Freed memory at the top of the heap is given back beyond this."""

PADDING_BYTES = 16 * 2**20
"""The heap grows by this more than is asked for."""

LARGEST_BYTES = 32 * 2**20
"""Blocks beyond this are taken from the system one by one; glibc allows no more."""

_PARAMETERS = {-1: KEPT_BYTES, -2: PADDING_BYTES, -3: LARGEST_BYTES}
"""By glibc's numbers: `M_TRIM_THRESHOLD`, `M_TOP_PAD`, `M_MMAP_THRESHOLD`."""


@functools.cache
def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory, once a process; whether it was told.

    It is not where the C library is another one, or where the environment says how it is to
    allocate (`MALLOC_...`, `GLIBC_TUNABLES`, a preloaded allocator).
    """
    is_set = any(
        name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD")
        for name in os.environ
    )
    if sys.platform != "linux" or is_set:
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all(libc.mallopt(name, value) == 1 for name, value in _PARAMETERS.items())
