"""Checkpoints: one safetensors file whose header carries the JSON, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from records import BadInputError, CorruptFileError, versions, write_bytes
from search_spaces import SearchSpace
from supernet.supernet import Supernet

FORMAT = "hwnas-supernet-1"


def save_checkpoint(
    path: str | Path,
    supernet: Supernet,
    optimiser: torch.optim.Optimizer | None,
    step: int,
    facts: Mapping[str, Any],
) -> None:
    """Writes weights, the optimiser's state and the run's facts; replaces the file at once."""
    tensors = {f"weights/{k}": v.contiguous() for k, v in supernet.state_dict().items()}
    if optimiser is not None:
        for index, state in optimiser.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimiser/{index}/{name}"] = torch.as_tensor(value).contiguous()
    facts = {**facts, "space": supernet.space.to_json(), "space_hash": supernet.space.hash}
    header = {
        "format": FORMAT,
        "step": str(step),
        "facts": json.dumps(facts, sort_keys=True),
        "versions": json.dumps(versions()),
    }
    write_bytes(path, save(tensors, header))


def load_checkpoint(
    path: str | Path,
    supernet: Supernet,
    optimiser: torch.optim.Optimizer,
    facts: Mapping[str, Any],
) -> int:
    """Continues from a checkpoint: restores weights and optimiser, returns the steps done.

    Raises:
        CorruptFileError: Not a checkpoint of this version.
        BadInputError: A checkpoint of another run; says what differs.
    """
    header, tensors = _read(path)
    saved = json.loads(header["facts"])
    mine = json.loads(json.dumps(facts))
    differ = [key for key in mine if saved.get(key) != mine[key] and key != "space"]
    if differ:
        changes = "; ".join(
            f"{key}: {saved.get(key)!r} there, {mine[key]!r} here" for key in differ
        )
        raise BadInputError(f"{path} was written by another run ({changes}); choose another file")
    _load_weights(path, supernet, tensors)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimiser":
            index, _, name = rest.partition("/")
            if not index.isdecimal():
                raise CorruptFileError(f"{path} holds an unknown tensor {key!r}")
            state.setdefault(int(index), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    return int(header["step"])


def save_supernet(supernet: Supernet, path: str | Path) -> None:
    """Writes a trained supernet; `load_supernet` reads it without anything else."""
    save_checkpoint(path, supernet, None, 0, {})


def load_supernet(path: str | Path, spaces: tuple[type[SearchSpace], ...] = ()) -> Supernet:
    """The supernet of a checkpoint or of `save_supernet`, with its space, in eval mode.

    Args:
        path: The file.
        spaces: A user's own space classes, to find the space's name in.

    Raises:
        CorruptFileError: Not a checkpoint of this version.
    """
    header, tensors = _read(path)
    try:
        space = SearchSpace.from_json(json.loads(header["facts"])["space"], spaces)
    except (BadInputError, KeyError) as error:
        raise CorruptFileError(f"{path} holds a space that cannot be made: {error}") from error
    supernet = Supernet(space)
    _load_weights(path, supernet, tensors)
    return supernet.eval()


def _read(path: str | Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{path} is not a readable checkpoint: {error}") from error
    if header.get("format") != FORMAT:
        raise CorruptFileError(
            f"{path} is not a checkpoint of this version: its format is "
            f"{header.get('format')!r}, expected {FORMAT!r}"
        )
    try:
        int(header["step"])
        json.loads(header["facts"])["space"]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{path} has a damaged header: {error!r}") from error
    return header, tensors


def _load_weights(
    path: str | Path, supernet: Supernet, tensors: Mapping[str, torch.Tensor]
) -> None:
    weights = {
        key.removeprefix("weights/"): value
        for key, value in tensors.items()
        if key.startswith("weights/")
    }
    try:
        supernet.load_state_dict(weights)
    except RuntimeError as error:
        raise CorruptFileError(f"{path} holds weights of another network: {error}") from error
