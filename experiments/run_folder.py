"""The folder of a run: never overwritten, continued only on request.

The ledger is in the folder, or in a database elsewhere (`--ledger`). `run.json` beside it repeats
the ledger's header for people, and says where the ledger is.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiments.run_identity import changed_hashes, changes, run_facts
from records import (
    BadInputError,
    ExistingRunError,
    Ledger,
    MissingFileError,
    read_json,
    storage_error,
    with_run,
    without_secrets,
    write_json,
)

LEDGER = "evaluations.db"
RUN = "run.json"
FORMAT = "hwnas-run-1"


def claim_folder(out: Path, option: str = "--out") -> None:
    """Makes the folder of a new run, empty; `release_folder` takes it back.

    Args:
        out: The folder.
        option: The option that names it: `--out`, or `--fork` where the run goes on from another.

    Raises:
        ExistingRunError: It holds something, or the path is no folder.
        StorageError: The disk refuses.
    """
    if _looked_at(out, lambda: out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ExistingRunError(
            f"{out} holds something already and is never overwritten: continue that run with "
            f"{'' if option == '--out' else f'--out {out} '}--resume, or choose another folder "
            f"with {option}"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(out, error, doing="create") from error
    check_writable(out)


def check_writable(out: Path) -> None:
    """Tries to write where a folder is or is to be made, before long work; leaves nothing there.

    Raises:
        StorageError: The disk refuses, or a file is where a folder has to be.
    """
    there = out
    while not _looked_at(there, there.exists) and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".hwnas-"):
            pass
    except OSError as error:
        raise storage_error(out, error, doing="create") from error


def check_ledger(out: Path, ledger: str | None) -> None:
    """Looks before the work whether the ledger of a new run can be made where it is to be.

    Args:
        out: The run's folder.
        ledger: As in `begin_run`.

    Raises:
        ExistingRunError: There is a ledger already.
        BadInputError: The URL cannot be used, or its driver is not installed.
        StorageError: The server refuses.
    """
    Ledger.check_free(_location(out, ledger))


def release_folder(out: Path) -> None:
    """Removes the folder if nothing was written into it."""
    with suppress(OSError):
        out.rmdir()


def begin_run(
    out: Path,
    config: Mapping[str, Any],
    *,
    ledger: str | None = None,
    hashes: Mapping[str, str] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Ledger:
    """Makes the ledger of a new run in its claimed folder.

    Args:
        out: The run's folder.
        config: The options, JSON-ready; the ledger keeps them.
        ledger: Where the ledger is to be, a file or a database URL; None is the folder. A
            PostgreSQL URL without `?run=` gets the folder's name as the name of the run.
        hashes: Of what else the run rests on, by name (`run_identity`).
        origin: The run that it goes on from, where it is a fork.

    Raises:
        ExistingRunError: There is a ledger already.
        BadInputError: The URL cannot be used, or its driver is not installed.
        StorageError: The disk or the server refuses.
    """
    header = {"run_id": secrets.token_hex(8), **run_facts(config, hashes or {})}
    if origin is not None:
        header["origin"] = dict(origin)
    opened = Ledger.create(_location(out, ledger), header)
    try:
        _describe(out, opened)
    except BaseException:
        opened.close()
        raise
    return opened


def continue_run(
    out: Path,
    config: Mapping[str, Any],
    *,
    ledger: str | None = None,
    hashes: Mapping[str, str] | None = None,
) -> Ledger:
    """Opens the ledger of a run that was begun with the same options, for writing.

    Args:
        out: The run's folder.
        config: The options, JSON-ready.
        ledger: Where the ledger is, as in `begin_run`; None is where the run has it.
        hashes: What the run rests on now, by name.

    Raises:
        BadInputError: Nothing to continue, the ledger of another run, or something has changed
            since it was begun; the message says what, and names `--fork`.
        CorruptFileError: A ledger that is none.
        StorageError: The disk or the server refuses, or another process is writing to the run.
    """
    opened = open_run(out, ledger=ledger, read_only=False)
    try:
        refuse(out, changes(opened.run, run_facts(config, hashes or {})))
        if not (out / RUN).exists():  # killed just after its ledger was made
            _describe(out, opened)
    except BaseException:
        opened.close()
        raise
    return opened


def check_hashes(out: Path, ledger: Ledger, hashes: Mapping[str, str]) -> None:
    """Refuses to continue where something has changed that is known only later.

    Raises:
        BadInputError: What has changed.
    """
    refuse(out, changed_hashes(ledger.run, hashes))


def open_run(out: Path, *, ledger: str | None = None, read_only: bool) -> Ledger:
    """Opens the ledger of a run, wherever it is.

    Raises:
        BadInputError: There is no run, or the ledger is another run's.
        CorruptFileError: A ledger that is none.
        StorageError: The disk or the server refuses, or another process is writing to the run.
    """
    described = read_json(out / RUN, kind="run") if _looked_at(out, (out / RUN).exists) else {}
    where = _location(out, ledger or described.get("ledger"))
    if isinstance(where, Path) and not _looked_at(where, where.exists):
        raise BadInputError(
            f"nothing to continue: {where} does not exist: name the folder of a run, or start one "
            "without --resume and --fork"
        )
    try:
        opened = Ledger.open(where, read_only=read_only)
    except MissingFileError as error:
        raise BadInputError(f"nothing to continue: {error}") from error
    try:
        _check_own(out, described, opened)
    except BaseException:
        opened.close()
        raise
    return opened


def refuse(out: Path, changed: list[str]) -> None:
    """Refuses to continue a run with something changed; says what, and what to do.

    Raises:
        BadInputError: Something has changed.
    """
    if changed:
        raise BadInputError(
            f"the run in {out} cannot be continued, for something is not as it was when it was "
            f"begun: {'; '.join(changed)}. Give what it was begun with; or add --fork NEWFOLDER, "
            "which begins another run with what still holds of this one"
        )


def _check_own(out: Path, described: Mapping[str, Any], ledger: Ledger) -> None:
    run = ledger.run
    if "config" not in run:
        raise BadInputError(
            f"{ledger.location} is the ledger of another kind of experiment: its header holds "
            f"{', '.join(run) or 'nothing'}, and no options of a run"
        )
    own = described.get("run_id")
    if own is not None and run.get("run_id") != own:
        raise BadInputError(
            f"{ledger.location} is the ledger of another run ({run.get('run_id', 'without id')}) "
            f"than the one in {out} ({own}): put the right one back, or name it with --ledger"
        )


def _describe(out: Path, ledger: Ledger) -> None:
    """Writes `run.json`."""
    where = ledger.location
    own = "://" not in where and Path(where).absolute() == (out / LEDGER).absolute()
    write_json(
        out / RUN,
        {"format": FORMAT, "ledger": None if own else without_secrets(where), **ledger.run},
    )


def _location(out: Path, ledger: str | None) -> str | Path:
    if ledger is None:
        return out / LEDGER
    if "://" not in ledger:
        return Path(ledger).absolute()
    return with_run(ledger, out.resolve().name)


def _looked_at(path: Path, look: Callable[[], bool]) -> bool:
    """What a look at the disk says; a name that is too long or a folder not to be listed raises.

    Raises:
        StorageError: The disk refuses.
    """
    try:
        return look()
    except OSError as error:
        raise storage_error(path, error, doing="look at") from error
