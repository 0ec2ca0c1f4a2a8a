"""A sampler that notes who trains and waits a little, so that a worker can be killed meanwhile."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from supernet.training import MemberSampler, Sandwich


@dataclass(frozen=True)
class Witnessed(MemberSampler):
    """The sandwich rule, with a file for each step that a worker begins."""

    folder: str
    seconds: float = 0.0

    def members(self, draw):
        node = os.environ.get("RAY_NODE_ID", "") or _node()
        rank = os.environ.get("RANK", "0")
        name = f"{draw.step:04}-rank{rank}-{os.getpid()}-{node}"
        (Path(self.folder) / name).touch()
        time.sleep(self.seconds)
        return Sandwich().members(draw)


def _node():
    try:
        import ray

        return ray.get_runtime_context().get_node_id()
    except Exception:
        return "none"


@dataclass(frozen=True)
class Seen:
    """What a file says."""

    step: int
    rank: int
    pid: int
    node: str


def seen(folder):
    """Who trained, in the order of steps."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        step, rank, pid, node = path.name.split("-")
        found.append(Seen(int(step), int(rank.removeprefix("rank")), int(pid), node))
    return found
