import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from supernet.freed_memory import keep_freed_memory

def faults(count=20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.ones(4 * 2**20)  # 16 MiB, 4,096 pages
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / count

torch.set_num_threads(1)
kept = keep_freed_memory()
faults()
print(kept, keep_freed_memory(), round(faults()))
"""


def told(**environment):
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**clean, **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    kept, again, faults = run.stdout.split()
    assert kept == again
    return kept == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_of_freed_tensors_are_used_again():
    kept, faults = told()
    assert kept
    assert faults < 100
    kept, _ = told(MALLOC_TRIM_THRESHOLD_="131072")  # the user's word counts
    assert not kept
