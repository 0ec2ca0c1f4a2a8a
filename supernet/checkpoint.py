"""Checkpoints: one safetensors file whose header carries the JSON, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from records import BadInputError, CorruptFileError, versions, write_bytes
from search_spaces import SearchSpace
from supernet.network import ElasticNetwork
from supernet.supernet import Supernet

FORMAT = "hwnas-supernet-2"


def save_checkpoint(
    path: str | Path,
    network: ElasticNetwork,
    optimiser: torch.optim.Optimizer | None,
    step: int,
    facts: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    average: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Writes weights, the optimiser's state and the run's facts; replaces the file at once.

    Args:
        path: The file.
        network: Its weights are written.
        optimiser: Its state is written.
        step: The steps done.
        facts: What a run that continues must agree in.
        state: What else the run needs to continue, values as in JSON.
        average: The moving average of the weights.
    """
    tensors = {f"weights/{k}": v.contiguous() for k, v in network.state_dict().items()}
    tensors.update({f"average/{k}": v.contiguous() for k, v in (average or {}).items()})
    if optimiser is not None:
        for index, values in optimiser.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"optimiser/{index}/{name}"] = torch.as_tensor(value).contiguous()
    header = {
        "format": FORMAT,
        "step": str(step),
        "facts": json.dumps(dict(facts), sort_keys=True),
        "state": json.dumps(dict(state or {})),
        "versions": json.dumps(versions()),
    }
    write_bytes(path, save(tensors, header))


def load_checkpoint(
    path: str | Path,
    network: ElasticNetwork,
    optimiser: torch.optim.Optimizer,
    facts: Mapping[str, Any],
    average: Mapping[str, torch.Tensor] | None = None,
) -> tuple[int, dict[str, Any]]:
    """Continues from a checkpoint: restores weights, optimiser and average.

    Returns:
        The steps done and the state that was saved with them.

    Raises:
        CorruptFileError: Not a checkpoint of this version.
        BadInputError: A checkpoint of another run; says what differs.
    """
    header, tensors = _read(path)
    saved = json.loads(header["facts"])
    mine = json.loads(json.dumps(facts))
    changes = "; ".join(_changes(saved, mine))
    if changes:
        raise BadInputError(f"{path} was written by another run ({changes}); choose another file")
    _load_weights(path, network, tensors)
    for name, value in (average or {}).items():
        if f"average/{name}" not in tensors:
            raise CorruptFileError(f"{path} lacks the average of {name!r}")
        value.copy_(tensors[f"average/{name}"])
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
    return int(header["step"]), json.loads(header["state"])


def _changes(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two runs' facts, part by part where a fact has parts."""
    for key, value in mine.items():
        other = saved.get(key)
        if other == value or (key == "space_hash" and saved.get("space") != mine.get("space")):
            continue
        if isinstance(value, dict) and isinstance(other, dict) and set(value) == set(other):
            yield from (f"{key} {change}" for change in _changes(other, value))
        else:
            yield f"{key}: {other!r} there, {value!r} here"


def save_supernet(supernet: Supernet, path: str | Path) -> None:
    """Writes a trained supernet; `load_supernet` reads it without anything else."""
    facts = {"space": supernet.space.to_json(), "space_hash": supernet.space.hash}
    save_checkpoint(path, supernet, None, 0, facts)


def load_supernet(path: str | Path, spaces: tuple[type[SearchSpace], ...] = ()) -> Supernet:
    """The supernet of a checkpoint or of `save_supernet`, with its space, in eval mode.

    Where a checkpoint holds a moving average of the weights, that is what is loaded.

    Args:
        path: The file.
        spaces: A user's own space classes, to find the space's name in.

    Raises:
        CorruptFileError: Not a checkpoint of this version.
    """
    header, tensors = _read(path)
    try:
        space = SearchSpace.from_json(json.loads(header["facts"])["space"], spaces)
    except (BadInputError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{path} holds a space that cannot be made: {error}") from error
    supernet = Supernet(space)
    averaged = {
        key.replace("average/", "weights/", 1): value
        for key, value in tensors.items()
        if key.startswith("average/")
    }
    _load_weights(path, supernet, tensors | averaged)
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
        json.loads(header["facts"]), json.loads(header["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{path} has a damaged header: {error!r}") from error
    return header, tensors


def _load_weights(
    path: str | Path, network: ElasticNetwork, tensors: Mapping[str, torch.Tensor]
) -> None:
    weights = {
        key.removeprefix("weights/"): value
        for key, value in tensors.items()
        if key.startswith("weights/")
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CorruptFileError(f"{path} holds weights of another network: {error}") from error
