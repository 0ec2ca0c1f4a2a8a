"""A target that was measured elsewhere, kept as a folder and loaded with one call.

The folder holds `profile.yaml`, `target.json` (how the device is used, which spaces were timed)
and for every space the timed networks with their latencies, from which the cost model is fitted
again:

    costs = load_target("pi-4-t1-b1").cost_model(space)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment import Runner
from hardware_profiles import Target, load_profile, own_devices_folder, save_profile
from latency_models.measured import MeasuredCostModel
from records import (
    BadInputError,
    CorruptFileError,
    MissingFileError,
    new_folder,
    read_json,
    unknown_name,
    write_bytes,
    write_json,
)
from search_spaces import SearchSpace

FORMAT = "hwnas-target-1"
TARGET = "target.json"
PROFILE = "profile.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedTarget:
    """A target with the latencies that were measured on it.

    Attributes:
        folder: Where it is kept.
        target: The device and how it was used.
        spaces: Of every space that was timed the `name`, `hash`, `definition` and `file`.
    """

    folder: Path
    target: Target
    spaces: tuple[Mapping[str, Any], ...]

    def cost_model(self, space: SearchSpace, runner: Runner | None = None) -> MeasuredCostModel:
        """The cost model fitted to what was measured for a space.

        Args:
            space: One whose networks were timed.
            runner: Times exported files on the device; None leaves them "costs only".

        Raises:
            BadInputError: No network of this very space was timed; says which spaces were.
            CorruptFileError: The measurements are damaged.
        """
        for entry in self.spaces:
            if entry["hash"] == space.hash:
                return MeasuredCostModel.load(
                    self.folder / entry["file"], space, self.target, runner
                )
        raise BadInputError(
            f"no network of {_described(space.to_json())} was timed on {self.target.name!r}; "
            f"timed were: {'; '.join(_described(e['definition']) for e in self.spaces)}. Use one "
            "of these (they have to agree in every parameter), or export a kit for this one"
        )


def save_target(
    folder: str | Path,
    models: Sequence[MeasuredCostModel],
    files: Mapping[str, bytes] | None = None,
) -> SavedTarget:
    """Keeps a target, whole or not at all.

    Args:
        folder: New, or an empty folder.
        models: The cost models of one target, one for each space.
        files: Further files by name, such as the raw measurements and the report.

    Raises:
        BadInputError: No cost model, models of different targets, two for one space.
        ExistingRunError: The folder holds something.
        StorageError: The disk refuses.
    """
    targets = {model.target.name for model in models}
    if len(targets) != 1 or len({model.space.hash for model in models}) != len(models):
        raise BadInputError(
            "cost models of one target are needed, one for each space, got "
            + (", ".join(f"{m.target.name}/{m.space.name}" for m in models) or "none")
        )
    folder = Path(folder)
    target = models[0].target
    spaces = tuple(
        {
            "name": model.space.name,
            "hash": model.space.hash,
            "definition": model.space.to_json(),
            "file": f"{model.space.name}-{model.space.hash}.latencies.json",
        }
        for model in models
    )
    with new_folder(folder) as new:
        save_profile(target.profile, new / PROFILE)
        for model, entry in zip(models, spaces, strict=True):
            model.save(new / str(entry["file"]))
        for name, data in (files or {}).items():
            write_bytes(new / name, data)
        use = {
            "runtime": target.runtime,
            "precision": target.precision,
            "batch_size": target.batch_size,
            "threads": target.threads,
        }
        write_json(new / TARGET, {"format": FORMAT, **use, "spaces": spaces})
    return load_target(folder)


def load_target(name: str | Path) -> SavedTarget:
    """A target that was measured elsewhere and saved.

    Args:
        name: Of a folder in `hardware_profiles.own_devices_folder()`, such as "pi-4-t1-b1", or
            the path of a folder: anything with a separator.

    Raises:
        UnknownNameError: No target of that name; the message lists the names.
        MissingFileError: There is no such folder.
        CorruptFileError: The folder is no saved target, or damaged.
    """
    text = str(name)
    if isinstance(name, Path) or "/" in text or os.sep in text:
        folder = Path(name)
        if not (folder / TARGET).is_file():
            raise MissingFileError(f"{folder} is no saved target: it has no {TARGET}")
    elif text in saved_targets():
        folder = own_devices_folder() / text
    else:
        raise unknown_name("measured target", text, saved_targets())
    value = read_json(folder / TARGET, kind="target")
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        got = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise CorruptFileError(f"{folder / TARGET} is not of this version: its format is {got!r}")
    profile = load_profile(folder / PROFILE)
    try:
        use = {key: value[key] for key in ("runtime", "precision", "batch_size", "threads")}
        spaces = tuple(dict(entry) for entry in value["spaces"])
        lacking = [key for key in ("hash", "definition", "file") for e in spaces if key not in e]
        if lacking:
            raise KeyError(lacking[0])
        return SavedTarget(folder=folder, target=Target(profile=profile, **use), spaces=spaces)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{folder / TARGET} is damaged: {error}") from error


def saved_targets() -> list[str]:
    """The names of the targets in the user's own folder, sorted."""
    return sorted(path.parent.name for path in own_devices_folder().glob(f"*/{TARGET}"))


def _described(definition: Mapping[str, Any]) -> str:
    """A space in a few words: its name and the plain ones among its parameters."""
    plain = {k: v for k, v in definition["parameters"].items() if isinstance(v, int | str | float)}
    return f"{definition['space']}({', '.join(f'{k}={v}' for k, v in plain.items())})"
