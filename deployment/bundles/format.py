"""Reading a bundle's record, and telling whether its files are those that were written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from records import CorruptFileError, MissingFileError, content_hash, file_hash, read_json

FORMAT = "hwnas-bundle-2"
RECORD = "bundle.json"

_FORMAT = re.compile(r"hwnas-bundle-(\d+)")


def read_record(folder: str | Path) -> dict[str, Any]:
    """What the `bundle.json` of a folder holds.

    Raises:
        MissingFileError: There is no bundle.
        CorruptFileError: Damaged, altered, of something else, or of another version.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        raise MissingFileError(
            f"{folder} is no bundle: it has no {RECORD}; name the folder that `hwnas export` or "
            "a run's models/ made"
        )
    record = read_json(path, kind="bundle")
    name = record.get("format") if isinstance(record, dict) else None
    match = _FORMAT.fullmatch(str(name))
    if not isinstance(record, dict) or match is None:
        raise CorruptFileError(f"{path} is no bundle: its format is {name!r}")
    number, known = int(match[1]), int(FORMAT.rpartition("-")[2])
    if number > known:
        raise CorruptFileError(
            f"{path} was made by a newer version of hwnas: its format is {name!r}, this version "
            f"reads {FORMAT!r}; install the version that made it "
            f"({_version(record)}) or a later one"
        )
    if number < known:
        raise CorruptFileError(
            f"{path} was made by an older version of hwnas: its format is {name!r}, this version "
            f"reads {FORMAT!r}; export the network again"
        )
    return record


def check_bundle(folder: str | Path, record: Mapping[str, Any]) -> None:
    """Compares every file with its recorded hash.

    Raises:
        MissingFileError: A file is not there; all that are missing are named.
        CorruptFileError: Files were altered; all are named.
    """
    folder = Path(folder)
    try:
        files: Mapping[str, str] = dict(record["files"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{folder / RECORD} names no files") from error
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise MissingFileError(
            f"{folder} lacks {', '.join(missing)}: copy the bundle again, or export again"
        )
    altered = [name for name, known in files.items() if file_hash(folder / name) != known]
    if record.get("seal") != sealed(record):
        altered.insert(0, RECORD)
    if altered:
        raise CorruptFileError(
            f"{folder}: {', '.join(altered)} {'was' if len(altered) == 1 else 'were'} altered "
            "since the bundle was made (the hash is another one): copy it again, or export again"
        )


def sealed(record: Mapping[str, Any]) -> str:
    """The hash of a record without its own hash."""
    return content_hash({key: value for key, value in record.items() if key != "seal"})


def hashes_of(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder but the record, by its path with slashes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: file_hash(path) for name, path in names.items() if name != RECORD}


def _version(record: Mapping[str, Any]) -> str:
    versions = record.get("versions")
    own = versions.get("hwnas") if isinstance(versions, Mapping) else None
    return f"hwnas {own}" if own else "which it does not say"
