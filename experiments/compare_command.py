"""`hwnas compare`: bundles side by side; those of this machine timed in one round-robin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment import Bundle, LocalRunner, Timing
from experiments.console import console, say, show_table
from experiments.reproduce_command import is_of_here, settings_of
from records import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """A bundle among others.

    Attributes:
        bundle: The bundle.
        name: What tells its folder from the others'.
        timing: Taken among the others; None where its target is not this machine.
    """

    bundle: Bundle
    name: str
    timing: Timing | None

    @property
    def image_ms(self) -> float | None:
        """The latency of one image of the batch: now, or as recorded where it is not timed."""
        latency = self.bundle.latency_ms if self.timing is None else self.timing.latency_ms
        batch = int(self.bundle.record["target"]["batch_size"])
        return None if latency is None else latency / batch


HEAD = (
    "bundle", "target", "numbers", "test accuracy % [95 %]", "KiB", "recorded ms", "now ms",
    "change", "ms/image", "x fastest",
)  # fmt: skip


def compare(folders: Sequence[Path]) -> list[Compared]:
    """Opens bundles, times those of this machine together, and prints the table.

    Raises:
        BadInputError: Fewer than two folders.
        CorruptFileError: One of them is no whole bundle.
    """
    if len(folders) < 2:
        raise BadInputError(f"at least two bundles are compared, got {len(folders)}")
    bundles = [Bundle.open(folder) for folder in folders]
    here = [bundle for bundle in bundles if is_of_here(bundle)]
    with console.status(f"timing {len(here)} files together"):
        timings = dict(zip(map(id, here), time_all(here) if here else [], strict=True))
    names = _short_names(folders)
    found = [
        Compared(bundle=bundle, name=name, timing=timings.get(id(bundle)))
        for bundle, name in zip(bundles, names, strict=True)
    ]
    show_table("Bundles", list(HEAD), rows(found), left=3, wrapped="bundle")
    if len(here) < len(bundles):
        say("those whose target is not this machine are shown as recorded, not timed")
    return found


def time_all(bundles: Sequence[Bundle], *, seed: int = 0) -> list[Timing]:
    """Times the files of bundles of this machine in one shuffled round-robin."""
    return LocalRunner().time(
        [bundle.timed_file() for bundle in bundles],
        threads=1,
        settings=[settings_of(bundle) for bundle in bundles],
        rounds=25,
        min_seconds=2.5,
        seed=seed,
    )


def rows(found: Sequence[Compared]) -> list[list[str]]:
    """A row for each bundle, under `HEAD`."""
    known = [one.image_ms for one in found if one.image_ms is not None]
    fastest = min(known, default=None)
    table = []
    for one in found:
        record = one.bundle.record
        tested, recorded = record["tested"], one.bundle.latency_ms
        now = None if one.timing is None else one.timing.latency_ms
        each = one.image_ms
        accuracy = "-"
        if tested is not None:
            low, high = tested["interval_95"]
            accuracy = f"{100 * tested['accuracy']:.2f} [{100 * low:.1f}, {100 * high:.1f}]"
        table.append(
            [
                one.name,
                record["target"]["name"],
                record["numerics"],
                accuracy,
                f"{record['file_bytes'] / 1024:.0f}",
                "not timed" if recorded is None else f"{recorded:.4g}",
                "-" if now is None else f"{now:.4g}",
                "" if now is None or recorded is None else f"{now / recorded - 1:+.1%}",
                "-" if each is None else f"{each:.4g}",
                "-" if each is None or fastest is None else f"{each / fastest:.2f}",
            ]
        )
    return table


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-length:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
