"""The way to a device as a YAML file, so that it is written once.

name: my Pi
ssh: pi@board            # or adb: SERIAL, or ray: RESOURCE, or the three commands themselves:
# push: scp -r {local} pi@board:{remote}
# run: ssh pi@board python3 {remote}/measure.py
# pull: scp pi@board:{remote}/results.json {local}
python: ~/venv/bin/python  # beside ssh, adb or ray
timeout_s: 300
retries: 2

Beside `ray` there are `address`, `limit_s` and `wait_s` too (`RayRunner`).
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from deployment.runners.command_runner import CommandRunner
from deployment.runners.kit_runner import KitRunner
from deployment.runners.ray_runner import RayRunner
from records import (
    BadInputError,
    CorruptFileError,
    MissingFileError,
    storage_error,
    unknown_name,
)

_COMMANDS = ("push", "run", "pull", "clean")
_BESIDE = {
    "ssh": ("python", "folder", "options"),
    "adb": ("python", "folder"),
    "ray": ("python", "address", "limit_s", "wait_s"),
}
"""The ways that are known by a word, and what may be said beside each, and not beside others."""

_TEXTS = (*_COMMANDS, "name", *_BESIDE, "python", "folder", "options", "address")
_NUMBERS = ("timeout_s", "retries", "pause_s", "limit_s", "wait_s")


def read_command_file(path: str | Path) -> KitRunner:
    """The runner that a YAML file describes.

    Raises:
        MissingFileError: There is no such file.
        CorruptFileError: It is no YAML, or lacks or has something; names the key.
        StorageError: It cannot be read.
    """
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"cannot read the commands {path}: there is no such file") from None
    except OSError as error:
        raise storage_error(path, error, doing="read the commands") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} is not valid YAML: {error}") from error
    try:
        return _runner(value)
    except BadInputError as error:
        raise CorruptFileError(f"{path}: {error}") from error


def _runner(value: Any) -> KitRunner:
    if not isinstance(value, dict):
        raise BadInputError(
            "a mapping is needed with ssh, adb, ray, or push, run and pull, got "
            f"{type(value).__name__}"
        )
    for key, item in value.items():
        if key not in (*_TEXTS, *_NUMBERS):
            raise unknown_name("key", str(key), (*_TEXTS, *_NUMBERS))
        wanted = int | float if key in _NUMBERS else str
        if isinstance(item, bool) or not isinstance(item, wanted):
            what = "a number" if key in _NUMBERS else "text"
            raise BadInputError(f"{key} must be {what}, got {item!r}")
    if isinstance(value.get("retries", 0), float):
        raise BadInputError(f"retries must be a whole number, got {value['retries']!r}")
    ways = [key for key in _BESIDE if key in value]
    written = [key for key in _COMMANDS if key in value]
    if len(ways) + bool(written) != 1:
        raise BadInputError(
            "either ssh, or adb, or ray, or push, run and pull must be given, got "
            + (", ".join(ways + written) or "none of them")
        )
    if written:
        return _written(value)
    (way,) = ways
    special = {key for keys in _BESIDE.values() for key in keys}
    for key in value:
        if key in special and key not in _BESIDE[way]:
            raise BadInputError(f"{key} means nothing beside {way}")
    if way == "ray":
        return RayRunner(
            resource=value["ray"], **{key: value[key] for key in value if key != "ray"}
        )
    make: Any = CommandRunner.ssh if way == "ssh" else CommandRunner.adb
    given = {key: value[key] for key in _BESIDE[way] if key in value}
    runner: CommandRunner = make(value[way], **given)
    return replace(runner, **{k: value[k] for k in ("name", *_NUMBERS) if k in value})


def _written(value: dict[str, Any]) -> CommandRunner:
    allowed = [field.name for field in fields(CommandRunner)]
    for key in value:
        if key not in allowed:
            raise BadInputError(f"{key} means nothing beside push, run and pull")
    lacking = [key for key in ("push", "run", "pull") if key not in value]
    if lacking:
        raise BadInputError(f"{lacking[0]} is missing: push, run and pull are all needed")
    return CommandRunner(**value)
