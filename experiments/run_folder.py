"""The folder of a run: never overwritten, continued only on request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from records import (
    BadInputError,
    ExistingRunError,
    Ledger,
    storage_error,
    versions,
)

LEDGER = "evaluations.db"
IGNORED = ("out", "resume")
"""Options that say where and how a run is started, not what it does."""


def open_run(out: Path, config: Mapping[str, Any], *, resume: bool) -> Ledger:
    """Opens the ledger of a new run, or of the run to continue.

    Args:
        out: The run's folder.
        config: The options, JSON-ready; the ledger keeps them.
        resume: Whether to continue the run that is there.

    Raises:
        ExistingRunError: The folder holds something and `resume` is not set.
        BadInputError: Nothing to continue, or options that differ from the run's.
        CorruptFileError: A ledger that is none.
        StorageError: The disk refuses.
    """
    path = out / LEDGER
    kept = {key: value for key, value in config.items() if key not in IGNORED}
    if resume:
        if not path.exists():
            raise BadInputError(
                f"nothing to continue: {path} does not exist; start without --resume"
            )
        ledger = Ledger.open(path)
        _check_same(ledger, kept)
        return ledger
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExistingRunError(
            f"{out} holds something already and is never overwritten: continue that run with "
            "--resume, or choose another folder with --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(out, error, doing="create") from error
    return Ledger.create(path, {"config": kept, "versions": versions()})


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
