"""What the runners that measure kits share: the way by command, the way by Ray.

Such a runner carries a kit (`deployment.kit`) to a device, runs its script there and brings
`results.json` back. Timing files is then measuring a kit that holds them.
"""

from __future__ import annotations

import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deployment.kit import Kit, KitModel, Results, TimingProtocol, read_results
from deployment.kit.measure import BAD, ROUNDS, RUNS
from deployment.runners.runner import settings_of_each
from deployment.runners.timing import Timing
from deployment.session_settings import SessionSettings
from records import HwnasError

Line = Callable[[str], None]

NOT_MENDED = (BAD, 126, 127)
"""Exit codes that another try does not change: a refusal, a command that is none."""

_ROUND = re.compile(r"round (\d+) of (\d+)")


class DeviceError(HwnasError, RuntimeError):
    """A device cannot be reached, or what runs there failed; the message shows what it said."""


class KitRunner(ABC):
    """Times files by measuring a kit of them.

    Attributes:
        name: How reports call the device.
    """

    name: str

    @abstractmethod
    def measure(self, kit: Kit, results: str | Path, on_line: Line | None = None) -> Results:
        """Measures a kit on the device.

        Args:
            kit: What to measure.
            results: The file that the device's results are written to. It is left also where they
                are refused, and holds the whole rounds of a run that broke off for good. Where it
                is there already with some rounds of the same kit, measuring goes on after them.
            on_line: Called with every line that the script prints.

        Raises:
            DeviceError: The device cannot be reached, the run failed (after the tries that it is
                worth), or the results are not those of the kit.
        """

    def time(
        self,
        models: Sequence[bytes],
        *,
        threads: int,
        settings: Sequence[SessionSettings] | None = None,
        rounds: int = ROUNDS,
        runs: int = RUNS,
        min_seconds: float = 0.0,
        seed: int = 0,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        """See `Runner.time`.

        Raises:
            BadInputError: Another number of settings than of models.
            DeviceError: See `measure`.
        """
        if not models:
            return []
        protocol = TimingProtocol(
            rounds=rounds, runs=runs, min_seconds=min_seconds, sustained_s=0.0, seed=seed
        )
        kit = Kit(
            models=[
                KitModel(data=model, settings=None if settings is None else how)
                for model, how in zip(models, settings_of_each(models, settings), strict=True)
            ],
            threads=threads,
            protocol=protocol,
            probes=False,
        )

        def follow(line: str) -> None:
            found = _ROUND.search(line)
            if found and on_round is not None:
                on_round(int(found[1]), int(found[2]))

        with tempfile.TemporaryDirectory(prefix="hwnas-") as place:
            return self.measure(kit, Path(place) / "results.json", follow).timings


def earlier_rounds(path: str | Path, manifest: Mapping[str, Any]) -> bytes | None:
    """What an earlier run left of a kit's results: the file, if there is something to continue."""
    try:
        earlier = read_results(path)
        data = Path(path).read_bytes()
    except (HwnasError, OSError):
        return None
    is_same = earlier.manifest["id"] == manifest["id"]
    return data if is_same and not earlier.is_complete else None


def results_of(path: str | Path, manifest: Mapping[str, Any], device: str) -> Results:
    """Reads what a device gave back for a kit.

    Args:
        path: The file of results.
        manifest: The kit's manifest.
        device: How the message calls the device.

    Raises:
        DeviceError: The results cannot be used, or are those of another kit.
    """
    try:
        measured = read_results(path)
    except HwnasError as error:
        raise DeviceError(f"{device} gave back results that cannot be used: {error}") from error
    if measured.manifest["id"] != manifest["id"]:
        raise DeviceError(f"{device} gave back the results of another kit")
    return measured
