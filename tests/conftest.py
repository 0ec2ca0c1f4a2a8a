"""What all tests have in common: how they are shared out, their random state, no hurry."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# Examples of hypothesis may take their time: a machine that stops for a moment is no fault.
settings.register_profile("no hurry", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no hurry")

SHARE_RUNS = ("test_cli.py", "test_measuring.py", "test_quickstart.py", "test_resume.py")
"""Files of `tests/experiments` that look at the same complete runs, which take long to make."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test, and what it is the first to ask for, never begins where another left the state."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `pytest -n 2` a file's tests go to one process: what they share is made once.

    Files that share what is made once a session stay together, too.
    """
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            folder, _, name = file.rpartition("/")
            shares = folder == "tests/experiments" and name in SHARE_RUNS
            return "runs of the command line" if shares else file

    return ByFile(config, log)
