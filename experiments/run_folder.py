"""The folder of a run: never overwritten, continued only on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hardware_profiles import machine_fingerprint
from records import (
    BadInputError,
    ExistingRunError,
    Ledger,
    storage_error,
    versions,
)

LEDGER = "evaluations.db"
IGNORED = ("out", "resume", "executor", "workers", "address")
"""Options that say where and how a run is started, not what it does."""


def claim_folder(out: Path) -> None:
    """Makes the folder of a new run, empty; `release_folder` takes it back.

    Raises:
        ExistingRunError: It holds something, or the path is no folder.
        StorageError: The disk refuses.
    """
    if _looked_at(out, lambda: out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ExistingRunError(
            f"{out} holds something already and is never overwritten: continue that run with "
            "--resume, or choose another folder with --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(out, error, doing="create") from error


def release_folder(out: Path) -> None:
    """Removes the folder if nothing was written into it."""
    with suppress(OSError):
        out.rmdir()


def begin_run(out: Path, config: Mapping[str, Any]) -> Ledger:
    """Makes the ledger of a new run in its claimed folder.

    Args:
        out: The run's folder.
        config: The options, JSON-ready; the ledger keeps them.

    Raises:
        ExistingRunError: There is a ledger already.
        StorageError: The disk refuses.
    """
    run = {"config": _kept(config), "versions": versions(), "machine": machine_fingerprint()}
    return Ledger.create(out / LEDGER, run)


def continue_run(out: Path, config: Mapping[str, Any]) -> Ledger:
    """Opens the ledger of a run that was begun with the same options.

    Raises:
        BadInputError: Nothing to continue, or options that differ from the run's.
        CorruptFileError: A ledger that is none.
        StorageError: The disk refuses, or another process is writing to the run.
    """
    path = out / LEDGER
    if not _looked_at(path, path.exists):
        raise BadInputError(f"nothing to continue: {path} does not exist; start without --resume")
    ledger = Ledger.open(path)
    _check_same(ledger, _kept(config))
    if ledger.run.get("machine") != machine_fingerprint():
        ledger.close()
        raise BadInputError(
            f"{out} was begun on another machine, or with other library versions: its "
            "latencies do not hold here; start another run in another folder"
        )
    return ledger


def _looked_at(path: Path, look: Callable[[], bool]) -> bool:
    """What a look at the disk says; a name that is too long or a folder not to be listed raises.

    Raises:
        StorageError: The disk refuses.
    """
    try:
        return look()
    except OSError as error:
        raise storage_error(path, error, doing="look at") from error


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in IGNORED}


def _check_same(ledger: Ledger, config: Mapping[str, Any]) -> None:
    saved = ledger.run.get("config", {})
    differ = [
        f"{key} was {saved.get(key)!r}, is {config.get(key)!r}"
        for key in sorted({*saved, *config})
        if saved.get(key) != config.get(key)
    ]
    if differ:
        ledger.close()
        raise BadInputError(
            f"the run to continue had other options ({'; '.join(differ)}): give the same, or "
            "start another run in another folder"
        )
