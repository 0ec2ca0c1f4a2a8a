"""How the tests are shared out among processes (`pytest -n 2`)."""

from typing import Any

import pytest

SHARE_RUNS = ("test_cli.py", "test_measuring.py", "test_quickstart.py", "test_resume.py")
"""Files of `tests/experiments` that look at the same complete runs, which take long to make."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests go to one process, so that what they share is made once.

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
