"""Whether the nodes of a cluster run the same hwnas as the search.

A worker that evaluates by other code than the search believes gives wrong numbers without a word.
Another version is refused. Version numbers do not tell two working copies apart, so the sources
are compared, too; where these differ alone, that is said and the worker is used.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

ROOMS = ("records", "search_spaces", "supernet", "deployment", "strategies")
"""Where the code is that takes part in an evaluation."""

logger = logging.getLogger(__name__)

_MISSING = re.compile(r"No module named '(?P<module>[\w.]+)'")


@functools.cache
def own_code() -> Mapping[str, str]:
    """What this process runs: the version of hwnas, a hash of its sources, and the node's name."""
    try:
        version = metadata.version("hwnas")
    except metadata.PackageNotFoundError:  # used from its folder
        version = "not installed"
    sources = sources_hash(Path(__file__).parents[1])
    return {"version": version, "sources": sources, "node": platform.node()}


def sources_hash(folder: Path) -> str:
    """A hash of all modules of the rooms in a folder, by name and content."""
    found = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((folder / room).rglob("*.py")):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return found.hexdigest()[:12]


def difference(worker: Mapping[str, str]) -> str:
    """Why a worker's code cannot be used, or "" where it can; other sources are logged.

    Args:
        worker: What the worker's `own_code` gave.
    """
    mine = own_code()
    if worker["sources"] == mine["sources"]:
        return ""
    said = (
        f"node {worker['node']} runs another hwnas (version {worker['version']}, sources "
        f"{worker['sources']}) than the search ({mine['version']}, {mine['sources']}): install "
        "the same on every node, or send yours along by `ray job submit --working-dir .`"
    )
    if worker["version"] != mine["version"]:
        return said
    logger.warning("%s", said)
    return ""


def missing_module(said: str) -> str:
    """What to do where a worker's error says that a module is missing; "" where it does not."""
    found = _MISSING.search(said)
    if found is None:
        return ""
    module = found["module"]
    what = f"hwnas ({module})" if module.partition(".")[0] in ROOMS else module
    return (
        f"its node has no {what}: install on every node what the search has here, or send it "
        "along by `ray job submit --working-dir .`"
    )
