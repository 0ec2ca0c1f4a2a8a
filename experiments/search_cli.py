"""The commands `hwnas quickstart` and `hwnas search`."""

from __future__ import annotations

from experiments.config import QuickstartConfig, SearchConfig
from experiments.config_command import command_of
from experiments.option_texts import QUICKSTART, SEARCH


def _quickstart(config: QuickstartConfig) -> None:
    from experiments.quickstart import quickstart

    quickstart(config)


def _search(config: SearchConfig) -> None:
    from experiments.search import run_search

    run_search(config)


quickstart_command = command_of(
    QuickstartConfig,
    _quickstart,
    QUICKSTART,
    "The main job: train, profile, search for all targets at once, export, measure, report.",
)
search_command = command_of(
    SearchConfig,
    _search,
    SEARCH,
    "The search alone, on any executor: leaves the ledger and the fronts, and no files.",
)
