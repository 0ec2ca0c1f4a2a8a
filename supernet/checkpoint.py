"""Checkpoints: one safetensors file whose header carries the JSON, written whole or not at all.

A run keeps the checkpoint before the last as well. Should the last one be damaged, it continues
from the one before, and says so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from records import BadInputError, CorruptFileError, MissingFileError, versions
from records.stored_file import StoredFile, stored_file
from search_spaces import SearchSpace
from supernet.hashed_tensors import notes_of, tensors_of, to_bytes
from supernet.network import ElasticNetwork
from supernet.supernet import Supernet
from supernet.training_rules import RULES, changed_rules, changed_versions

logger = logging.getLogger(__name__)

FORMAT = "hwnas-supernet-2"


@dataclass(frozen=True, slots=True, eq=False)
class _Content:
    """What was read: from where, the header, the tensors."""

    where: str
    header: dict[str, str]
    tensors: dict[str, torch.Tensor]


class Checkpoint:
    """Where a run's checkpoints lie: the last one, and beside it the one before.

    Args:
        where: A path, or a URL that fsspec knows.

    Raises:
        BadInputError: A URL of an unknown kind, or of one that needs a package which is missing.
    """

    def __init__(self, where: str | Path) -> None:
        self.last = stored_file(where)
        name = PurePosixPath(self.last.name)
        self.previous = self.last.beside(f"{name.stem}.previous{name.suffix}")
        self._last_is_whole = False

    def exists(self) -> bool:
        """Whether there is one to continue from."""
        return self.last.exists() or self.previous.exists()

    def read(self) -> _Content:
        """The last one, or the one before where the last cannot be read.

        Raises:
            CorruptFileError: Neither can be read.
        """
        try:
            content = _read(self.last)
        except CorruptFileError as error:
            if not self.previous.exists():
                raise
            try:
                content = _read(self.previous)
            except CorruptFileError as second:
                raise CorruptFileError(f"{error}; and the one before it: {second}") from error
            logger.warning("%s; continuing from the one before it, %s", error, self.previous)
            return content
        self._last_is_whole = True
        return content

    def write(self, data: bytes) -> None:
        """Replaces the last one, which becomes the one before if it is known to be whole."""
        if self._last_is_whole:
            self.last.copy_to(self.previous)
        self.last.write(data)
        self._last_is_whole = True


def save_checkpoint(
    checkpoint: Checkpoint,
    network: ElasticNetwork,
    optimiser: torch.optim.Optimizer | None,
    step: int,
    facts: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    average: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Writes weights, the optimiser's state and the run's facts; replaces the file at once.

    Args:
        checkpoint: Where.
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
        "rules": json.dumps(dict(RULES)),
        "versions": json.dumps(versions()),
    }
    checkpoint.write(to_bytes(tensors, header))


def load_checkpoint(
    checkpoint: Checkpoint,
    network: ElasticNetwork,
    optimiser: torch.optim.Optimizer,
    facts: Mapping[str, Any],
    total: int,
    average: Mapping[str, torch.Tensor] | None = None,
) -> tuple[int, dict[str, Any]]:
    """Continues from a checkpoint: restores weights, optimiser and average.

    Args:
        checkpoint: Where it lies; where the last one is damaged, the one before is taken.
        network: Gets the weights.
        optimiser: Gets its state.
        facts: What the run must agree in.
        total: The steps of the whole run. A run that did not reach them must go on by the rules
            that it was begun by; other versions of torch or numpy are warned of.
        average: Gets the moving average of the weights.

    Returns:
        The steps done and the state that was saved with them.

    Raises:
        CorruptFileError: Not a checkpoint of this version, or a damaged one without another.
        BadInputError: A checkpoint of another run or of other rules; says what differs.
    """
    content = checkpoint.read()
    where, header, tensors = content.where, content.header, content.tensors
    saved = json.loads(header["facts"])
    mine = json.loads(json.dumps(facts))
    changes = "; ".join(_changes(saved, mine))
    if changes:
        raise BadInputError(f"{where} was written by another run ({changes}); choose another file")
    if int(header["step"]) < total:
        _check_rules(where, header)
    _load_weights(where, network, tensors)
    for name, value in (average or {}).items():
        if f"average/{name}" not in tensors:
            raise CorruptFileError(f"{where} lacks the average of {name!r}")
        value.copy_(tensors[f"average/{name}"])
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimiser":
            index, _, name = rest.partition("/")
            if not index.isdecimal():
                raise CorruptFileError(f"{where} holds an unknown tensor {key!r}")
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


def _check_rules(where: str, header: Mapping[str, str]) -> None:
    """Refuses an unfinished run of other rules, and says which versions are not those it had."""
    begun = json.loads(header.get("versions", "{}"))
    if "rules" not in header:
        logger.warning("%s was begun before its rules were noted: they may be others now", where)
    else:
        changes = "; ".join(changed_rules(json.loads(header["rules"])))
        if changes:
            raise BadInputError(
                f"{where} is a run that was begun under other rules of training ({changes}): "
                f"finish it with the hwnas that began it (version {begun.get('hwnas')}), or "
                "choose another file"
            )
    changes = "; ".join(changed_versions(begun, versions()))
    if changes:
        logger.warning("%s was begun with other versions (%s): its weights may end "
                       "differently in the last digits", where, changes)  # fmt: skip


def save_supernet(supernet: Supernet, path: str | Path) -> None:
    """Writes a trained supernet to a path or URL; `load_supernet` reads it back by itself."""
    facts = {"space": supernet.space.to_json(), "space_hash": supernet.space.hash}
    save_checkpoint(Checkpoint(path), supernet, None, 0, facts)


def load_supernet(path: str | Path, spaces: tuple[type[SearchSpace], ...] = ()) -> Supernet:
    """The supernet of a checkpoint or of `save_supernet`, with its space, in eval mode.

    What `train(..., checkpoint=...)` and `train_on_ray` write is read as it is; where it holds a
    moving average of the weights, that is what is loaded.

    Args:
        path: A path, or a URL that fsspec knows, such as `s3://bucket/supernet.safetensors`.
        spaces: A user's own space classes, to find the space's name in.

    Raises:
        CorruptFileError: Not a checkpoint of this version, or a damaged one. The one before it is
            not taken instead: it holds other weights.
        StorageError: It cannot be reached.
        BadInputError: A URL of an unknown kind, or of one that needs a package which is missing.
    """
    content = _read(stored_file(path))
    where = content.where
    try:
        space = SearchSpace.from_json(json.loads(content.header["facts"])["space"], spaces)
    except (BadInputError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{where} holds a space that cannot be made: {error}") from error
    supernet = Supernet(space)
    _load_trained(content, supernet)
    return supernet.eval()


def load_trained(path: str | Path, network: ElasticNetwork) -> int:
    """Puts the weights of a checkpoint into a network, the average where there is one.

    Returns:
        The steps done.

    Raises:
        CorruptFileError: A damaged checkpoint, or one of another network.
    """
    content = _read(stored_file(path))
    _load_trained(content, network)
    return int(content.header["step"])


def _load_trained(content: _Content, network: ElasticNetwork) -> None:
    averaged = {
        key.replace("average/", "weights/", 1): value
        for key, value in content.tensors.items()
        if key.startswith("average/")
    }
    _load_weights(content.where, network, content.tensors | averaged)


def _read(file: StoredFile) -> _Content:
    where = file.where
    try:
        data = file.read()
    except MissingFileError:
        raise
    except CorruptFileError as error:
        raise CorruptFileError(f"{where} is not a readable checkpoint: {error}") from error
    header = notes_of(data, where)
    if header.get("format") != FORMAT:
        raise CorruptFileError(
            f"{where} is not a checkpoint of this version: its format is "
            f"{header.get('format')!r}, expected {FORMAT!r}"
        )
    try:
        int(header["step"])
        for name in ("facts", "state", "rules", "versions"):
            json.loads(header[name] if name in ("facts", "state") else header.get(name, "{}"))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{where} has a damaged header: {error!r}") from error
    return _Content(where, header, tensors_of(data, where))


def _load_weights(
    where: str, network: ElasticNetwork, tensors: Mapping[str, torch.Tensor]
) -> None:
    weights = {
        key.removeprefix("weights/"): value
        for key, value in tensors.items()
        if key.startswith("weights/")
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CorruptFileError(f"{where} holds weights of another network: {error}") from error
