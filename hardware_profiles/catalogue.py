"""Profiles as YAML files: the shipped devices, the user's own folder, any path.

A file holds the fields of `Profile` under their own names. A number is a mapping of `value`,
`source` and either `source_read` or `measured`, so that none can be written without its source:

    name: raspberry-pi-4
    kind: board-cpu
    cores: {value: 4, source: "Raspberry Pi documentation, BCM2711", source_read: true}
    memory:
      - name: dram
        bandwidth_gbps: {value: 5.56, source: "STREAM, sci-pi.org.uk", source_read: true}

A profile in `${XDG_CONFIG_HOME:-~/.config}/hwnas/devices` is listed beside the shipped ones under
the name of its file.
"""

import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from hardware_profiles.profile import MemoryLevel, Profile, Quantity
from records import (
    BadInputError,
    CorruptFileError,
    MissingFileError,
    storage_error,
    unknown_name,
    write_text,
)

_SHIPPED = Path(__file__).parent / "devices"
_SUFFIXES = (".yaml", ".yml")


def device_names() -> list[str]:
    """Returns the names of the shipped devices and of those in the user's own folder, sorted.

    Raises:
        BadInputError: A file in the user's folder has the name of a shipped device.
    """
    return sorted(_device_paths())


def device(name: str | Path) -> Profile:
    """Returns a device by its name, or by the path of a YAML file.

    Args:
        name: One of `device_names()`, or a path: anything with a separator or ending in .yaml.

    Raises:
        UnknownNameError: No such device; the message lists the names.
        MissingFileError: There is no file at the path.
        CorruptFileError: The file is no valid profile; the message names the file and the key.
    """
    text = str(name)
    if isinstance(name, Path) or "/" in text or os.sep in text or text.endswith(_SUFFIXES):
        return load_profile(name)
    paths = _device_paths()
    if text not in paths:
        raise unknown_name("device", text, paths)
    return load_profile(paths[text])


def load_profile(path: str | Path) -> Profile:
    """Reads a profile; every key, type and number is checked.

    Raises:
        MissingFileError: There is no such file.
        CorruptFileError: It is no valid profile; the message names the file, the key and what is
            allowed.
        StorageError: It cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in _SHIPPED.glob("*.yaml")))
        raise MissingFileError(
            f"cannot read the profile {path}: there is no such file; shipped devices: {known}"
        ) from None
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is not a profile: not UTF-8 text, {error}") from error
    except OSError as error:
        raise storage_error(path, error, doing="read the profile") from error
    try:
        return _profile(_parsed(text))
    except yaml.YAMLError as error:
        raise CorruptFileError(f"{path} is not valid YAML: {error}") from error
    except BadInputError as error:
        raise CorruptFileError(f"{path} is not a valid profile: {error}") from error


def _parsed(text: str) -> Any:
    """The text's YAML; what trips the parser's own conversions counts as invalid YAML too."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except (ValueError, IndexError, AttributeError, RecursionError) as error:
        raise yaml.YAMLError(str(error)) from error


def save_profile(profile: Profile, path: str | Path) -> None:
    """Writes a profile atomically; `load_profile` gives an equal one back.

    Raises:
        StorageError: The folder cannot be written to, or the disk is full.
    """
    text = yaml.safe_dump(_document(profile), sort_keys=False, allow_unicode=True, width=100)
    write_text(path, text)


def own_devices_folder() -> Path:
    """Returns the folder of the user's own profiles, which need not exist."""
    root = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(root) / "hwnas" / "devices"


def _device_paths() -> dict[str, Path]:
    """Returns every named device's file; a name given twice raises."""
    paths: dict[str, Path] = {}
    for folder in (_SHIPPED, own_devices_folder()):
        for path in sorted(folder.glob("*.yaml")):
            if path.stem in paths:
                raise BadInputError(
                    f"two devices are named {path.stem!r}: {paths[path.stem]} and {path}; rename "
                    "the second"
                )
            paths[path.stem] = path
    return paths


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that also refuses a key given twice, which the plain loader overwrites."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Builds a mapping, refusing repeated keys."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, Hashable) else repr(key))
        return super().construct_mapping(node, deep=deep)


def _profile(document: object) -> Profile:
    readers: dict[str, Callable[[object, str], object]] = {
        "name": _text,
        "kind": _text,
        "vendor": _text,
        "year": _integer,
        "description": _text,
        "cores": _quantity,
        "clock_ghz": _quantity,
        "max_clock_ghz": _quantity,
        "technology_nm": _quantity,
        "array_rows": _quantity,
        "array_columns": _quantity,
        "peak_gflops": _quantities,
        "peak_gflops_per_thread": _quantities,
        "memory": _levels,
        "idle_power_w": _quantity,
        "peak_power_w": _quantity,
        "pj_per_op": _quantities,
        "pj_per_byte": _quantities,
        "kernel_launch_us": _quantity,
        "flash_bytes": _quantity,
        "ram_bytes": _quantity,
        "instruction_sets": _texts,
        "runtimes": _runtimes,
        "machine": _text,
        "notes": _text,
    }
    required = ("name", "kind", "vendor", "year", "description")
    return Profile(**_fields(document, "the profile", readers, required))


def _fields(
    document: object,
    place: str,
    readers: Mapping[str, Callable[[object, str], object]],
    required: Iterable[str],
) -> dict[str, Any]:
    """Reads a mapping whose keys are known; each value is read by its own reader."""
    mapping = _mapping(document, place)
    for key in mapping:
        if key not in readers:
            raise BadInputError(f"unknown key {key!r} in {place}; allowed: {', '.join(readers)}")
    missing = [key for key in required if key not in mapping]
    if missing:
        raise BadInputError(f"{place} lacks {', '.join(missing)}")
    top = place == "the profile"
    return {
        key: readers[key](value, key if top else f"{place}.{key}")
        for key, value in mapping.items()
    }


def _mapping(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _wrong_type(place, "a mapping", value)
    for key in value:
        if not isinstance(key, str):
            raise BadInputError(f"{place} has the key {key!r}; keys must be text")
    return value


def _quantity(value: object, place: str) -> Quantity:
    readers = {
        "value": _number,
        "source": _text,
        "source_read": _boolean,
        "measured": _boolean,
    }
    fields = _fields(value, place, readers, ("value", "source"))
    if "source_read" not in fields and "measured" not in fields:
        raise BadInputError(f"{place} lacks source_read: say true or false")
    try:
        return Quantity(**fields)
    except BadInputError as error:
        raise BadInputError(f"{place}: {error}") from None


def _quantities(value: object, place: str) -> dict[str, Quantity]:
    return {key: _quantity(item, f"{place}.{key}") for key, item in _mapping(value, place).items()}


def _levels(value: object, place: str) -> tuple[MemoryLevel, ...]:
    readers = {
        "name": _text,
        "size_bytes": _quantity,
        "bandwidth_gbps": _quantity,
        "bandwidth_gbps_per_thread": _quantity,
    }
    return tuple(
        MemoryLevel(**_fields(item, f"{place}[{i}]", readers, ("name",)))
        for i, item in enumerate(_list(value, place))
    )


def _runtimes(value: object, place: str) -> dict[str, str]:
    return {key: _text(item, f"{place}.{key}") for key, item in _mapping(value, place).items()}


def _texts(value: object, place: str) -> tuple[str, ...]:
    return tuple(_text(item, f"{place}[{i}]") for i, item in enumerate(_list(value, place)))


def _list(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise _wrong_type(place, "a list", value)
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(place, "text", value)
    return value


def _boolean(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(place, "true or false", value)
    return value


def _integer(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(place, "a whole number", value)
    return value


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(place, "a number", value)
    return float(value)


def _wrong_type(place: str, wanted: str, value: object) -> BadInputError:
    return BadInputError(f"{place} must be {wanted}, got {value!r} ({type(value).__name__})")


def _document(value: object) -> Any:
    """Turns a profile into plain data, leaving out what is unknown or empty."""
    if isinstance(value, Quantity):
        whole = value.value == int(value.value)
        known = {"value": int(value.value) if whole else value.value, "source": value.source}
        if value.measured:
            return known | {"measured": True}
        return known | {"source_read": value.source_read}
    if isinstance(value, Profile | MemoryLevel):
        fields = {key: getattr(value, key) for key in value.__dataclass_fields__}
        required = ("name", "kind", "vendor", "year", "description")
        return {
            key: _document(item)
            for key, item in fields.items()
            if key in required or item not in (None, "", (), {})
        }
    if isinstance(value, Mapping):
        return {key: _document(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_document(item) for item in value]
    return value
