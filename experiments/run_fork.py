"""Forks: a new run that begins with what still holds of an older one.

What is copied is decided by what it rests on, and not by the user. Timings of this machine hold
for the same space on the same machine with the same runtime; a supernet, trained or half trained,
for the same data, space and training; an accuracy for the same space and the same weights,
whatever is searched for with it. The old run is only read.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.console import say
from experiments.measuring import CALIBRATION
from experiments.run_folder import open_run
from experiments.run_identity import changes, is_same, run_facts
from records import BadInputError, HwnasError, Ledger, replace_file, storage_error
from strategies import Problem

logger = logging.getLogger(__name__)

COPIED = "copied from the origin"
"""The ledger's note of how many accuracies were copied; with it nothing is left to copy."""

_TRAINING = (
    "dataset", "space", "image_size", "train_images", "data_folder", "epochs", "seed", "supernet",
)  # fmt: skip
"""The options that a trained supernet follows from."""

_TIMING = ("calibration_networks", "precision")
_RUNTIMES = ("hwnas", "onnx", "onnxruntime")


class Origin:
    """The run that another one goes on from.

    Args:
        folder: Its folder.
        config: The options of the new run.
        hashes: What the new run rests on (`run_identity.input_hashes`).
        ledger: Where the old run's ledger is, where its folder does not say.

    Raises:
        BadInputError: There is no run, or it is of another kind.
        CorruptFileError: A ledger that is none.
        StorageError: The disk or the server refuses.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        hashes: Mapping[str, str],
        ledger: str | None = None,
    ) -> None:
        self.folder = folder
        self.ledger = open_run(folder, ledger=ledger, read_only=True)
        self._header = self.ledger.run
        self._now = run_facts(config, hashes)
        self.changes = changes(self._header, self._now)

    def record(self) -> dict[str, Any]:
        """What the new ledger's header says of it."""
        return {
            "folder": str(self.folder.absolute()),
            "ledger": self.ledger.location,
            "run_id": self._header.get("run_id"),
            "changes": self.changes,
        }

    @property
    def has_timings(self) -> bool:
        """Whether what it timed on this machine still holds."""
        old, new = self._header.get("versions", {}), self._now["versions"]
        return (
            self._has_same("search space")
            and self._header.get("machine") == self._now["machine"]
            and is_same(self._header, self._now, _TIMING)
            and all(old.get(name) == new.get(name) for name in _RUNTIMES)
        )

    @property
    def has_training(self) -> bool:
        """Whether its supernet, as far as it is trained, is the new run's."""
        return (
            self._has_same("search space")
            and self._has_same("data")
            and is_same(self._header, self._now, _TRAINING)
        )

    def copy_timings(self, ledger: Ledger) -> None:
        """Copies the timings that cost models are fitted to, if they hold."""
        metric = f"{CALIBRATION}.latency_ms"
        found = self.ledger.observations(metric) if self.has_timings else []
        ledger.append(found)
        _say_copied(len(found), "timings of this machine")

    def copy_checkpoint(self, name: str, out: Path) -> None:
        """Copies the supernet, if it holds and there is one, and none is brought."""
        if self._now["config"].get("supernet") is not None:
            say("  the supernet is that of --supernet")
            return
        old = self.folder / name
        if not self.has_training or not old.is_file():
            _say_copied(0, "supernet: it is trained anew")
            return
        with replace_file(out / name) as temporary:
            try:
                shutil.copyfile(old, temporary)
            except OSError as error:
                raise storage_error(old, error, doing="copy") from error
        say("  copied: the supernet")

    def _has_same(self, what: str) -> bool:
        return bool(self._header.get("hashes", {}).get(what) == self._now["hashes"].get(what))


def copy_accuracies(ledger: Ledger, problem: Problem) -> None:
    """Copies the accuracies of a fork's origin that were measured with the same weights, once.

    What failed there is tried again. A fork that is continued after its origin has gone measures
    all of them anew.
    """
    origin = ledger.run.get("origin")
    if origin is None or ledger.notes(COPIED):
        return
    evaluator = problem.accuracy
    try:
        with Ledger.open(origin["ledger"], read_only=True) as old:
            measured = old.observations(metric=evaluator.metric, target="")
    except HwnasError as error:
        logger.warning("nothing is copied from the origin of this fork: %s", error)
        return
    found = [
        observation
        for observation in measured
        if observation.status == "ok"
        and observation.weights_hash == evaluator.weights_hash
        and observation.space_hash == problem.space.hash
    ]
    ledger.append(found)
    ledger.note(COPIED, len(found))
    _say_copied(len(found), "accuracies of networks with the same weights")


def check_fork(out: Path, fork: Path) -> None:
    """Refuses a fork into the folder that it comes from.

    Raises:
        BadInputError: Both are the same folder.
    """
    if fork.resolve() == out.resolve():
        raise BadInputError(f"--fork {fork} is the folder of --out: name another one")


def _say_copied(count: int, what: str) -> None:
    say(f"  copied: {count or 'no'} {what}")
