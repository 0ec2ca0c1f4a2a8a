"""The main job: from a dataset to exported, verified and measured networks for your devices.

    python -m experiments.quickstart --dataset digits --space hybrid --out runs/quickstart

In order: the data; a cost model for each target, calibrated on timed networks of this machine (one
thread, batch 1 and batch 16, where nothing else is named), measured before, or modelled; whether
the limits can be kept at all; the supernet; the search, for all targets at once (all this is
`experiments.search`); the chosen networks, exported, verified and timed where a runner reaches the
target, beside a hand-made baseline of the same latency; the report. Everything that is measured
goes to the ledger first, so a run that was interrupted continues with `--resume`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.config import QuickstartConfig
from experiments.console import say
from experiments.delivery import Delivery
from experiments.front_file import FORMAT
from experiments.mirror import Mirror
from experiments.quickstart_files import write_files
from experiments.search import SearchRun
from latency_models import CostModel
from records import Ledger
from strategies import Front
from supernet import ImageData, Supernet


class Quickstart(SearchRun):
    """One run of the main job.

    Args:
        config: The options.
    """

    config: QuickstartConfig
    front_format = FORMAT

    def __init__(self, config: QuickstartConfig) -> None:
        super().__init__(config)

    def finish(
        self,
        data: ImageData,
        supernet: Supernet,
        costs: Sequence[CostModel],
        front: Front,
        ledger: Ledger,
    ) -> dict[str, Any]:
        """Exports, verifies and times the chosen networks; see `SearchRun.finish`."""
        delivered = Delivery(self.config, data, ledger, self.watch).deliver(front, costs)
        Mirror(self.config.out, front.problem.space, ledger, delivered.costs).write()
        return write_files(self.config, data, supernet, delivered, self.watch)

    def say_complete(self) -> None:
        """Says that there is nothing left to do."""
        say(f"{self.config.out} is complete: see {self.config.out / 'report.html'}")


def quickstart(config: QuickstartConfig) -> dict[str, Any]:
    """Runs the main job; returns what `front.json` holds."""
    return Quickstart(config).run()


if __name__ == "__main__":
    from experiments.cli import quickstart_main

    quickstart_main()
