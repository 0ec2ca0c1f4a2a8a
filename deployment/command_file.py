"""A device's commands as a YAML file, so that they are written once.

name: my Pi
ssh: pi@board            # or adb: SERIAL, or the three commands themselves:
# push: scp -r {local} pi@board:{remote}
# run: ssh pi@board python3 {remote}/measure.py
# pull: scp pi@board:{remote}/results.json {local}
python: ~/venv/bin/python  # beside ssh or adb
timeout_s: 300
retries: 2
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from deployment.command_runner import CommandRunner
from records import (
    BadInputError,
    CorruptFileError,
    MissingFileError,
    storage_error,
    unknown_name,
)

_COMMANDS = ("push", "run", "pull", "clean")
_TEXTS = (*_COMMANDS, "name", "folder", "ssh", "adb", "python", "options")
_NUMBERS = ("timeout_s", "retries", "pause_s")


def read_command_file(path: str | Path) -> CommandRunner:
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


def _runner(value: Any) -> CommandRunner:
    if not isinstance(value, dict):
        raise BadInputError(
            f"a mapping is needed with ssh, adb, or push, run and pull, got {type(value).__name__}"
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
    presets = [key for key in ("ssh", "adb") if key in value]
    written = [key for key in _COMMANDS if key in value]
    if len(presets) + bool(written) != 1:
        raise BadInputError(
            "either ssh, or adb, or push, run and pull must be given, got "
            + (", ".join(presets + written) or "none of them")
        )
    if written:
        return _written(value)
    own = ("python", "folder", "options") if presets == ["ssh"] else ("python", "folder")
    given = {key: value[key] for key in own if key in value}
    surplus = [key for key in ("python", "folder", "options") if key in value and key not in own]
    if surplus:
        raise BadInputError(f"{surplus[0]} means nothing beside {presets[0]}")
    make: Any = CommandRunner.ssh if presets == ["ssh"] else CommandRunner.adb
    runner: CommandRunner = make(value[presets[0]], **given)
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
