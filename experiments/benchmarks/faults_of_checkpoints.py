"""A training's checkpoint is damaged while it pauses."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from experiments.benchmarks.fault_rows import FaultRow, first_words
from experiments.benchmarks.faulty_search import small_space
from experiments.datasets import load_dataset
from records import CorruptFileError
from supernet import Recipe, Supernet, train
from supernet.data import ImageData, Split
from supernet.training import Step

_PAUSE = 5


class _PausedError(Exception):
    """The training is interrupted."""


def corrupt_checkpoints(folder: Path) -> list[FaultRow]:
    """The last checkpoint is damaged in several ways, then both that there are."""
    folder.mkdir(parents=True, exist_ok=True)
    expected = _train(folder / "whole.safetensors").weights_hash()
    rows = []
    for name, damage in DAMAGES.items():
        path = folder / f"{name.replace(' ', '-')}.safetensors"
        _train_until_pause(path)
        damage(path)
        said = _Said()
        logger = logging.getLogger("supernet")
        logger.addHandler(said)
        try:
            found = _train(path).weights_hash()
        finally:
            logger.removeHandler(said)
        rows.append(
            FaultRow(
                fault=f"checkpoint: {name}",
                times=1,
                equal="yes" if found == expected else "NO",
                seen=first_words(said.text.replace(f"{folder}/", "")),
            )
        )
    return [*rows, _both(folder, expected)]


def _both(folder: Path, expected: str) -> FaultRow:
    """Neither the last nor the one before can be read; then the last is put back."""
    path = folder / "both.safetensors"
    _train_until_pause(path)
    kept = folder / "kept"
    shutil.copy(path, kept)
    for file in folder.glob("both*.safetensors"):
        change_a_byte(file)
    said = "it went on"
    try:
        _train(path)
    except CorruptFileError as error:
        said = f"CorruptFileError: {error}".replace(f"{folder}/", "")
    shutil.copy(kept, path)
    equal = said != "it went on" and _train(path).weights_hash() == expected
    return FaultRow(
        fault="checkpoint: both changed, then put back",
        times=1,
        equal="yes" if equal else "NO",
        seen=first_words(said),
    )


def change_a_byte(path: Path) -> None:
    """Changes one byte in the middle, which belongs to some weight."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def _cut_off(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


DAMAGES: Mapping[str, Callable[[Path], object]] = {
    "one byte changed": change_a_byte,
    "cut off in the middle": _cut_off,
    "empty": lambda path: path.write_bytes(b""),
    "another file": lambda path: path.write_text("hello"),
}
"""What is done to the last checkpoint, by name."""


class _Said(logging.Handler):
    """Keeps the first warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = self.text or record.getMessage()


def _train_until_pause(path: Path) -> None:
    def on_step(step: Step) -> None:
        if step.number == _PAUSE:
            raise _PausedError

    try:
        _train(path, on_step)
    except _PausedError:
        return


def _train(path: Path, on_step: Callable[[Step], None] | None = None) -> Supernet:
    """A few steps, the same each time; a checkpoint after every second one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        supernet = Supernet(small_space())
    return train(
        supernet,
        few_images(),
        epochs=2,
        recipe=Recipe(batch_size=32),
        checkpoint=path,
        checkpoint_every=2,
        on_step=on_step,
    )


def few_images(count: int = 128) -> ImageData:
    """The first images of digits."""
    data = load_dataset("digits")
    train = Split(data.train.images[:count], data.train.labels[:count])
    return replace(data, train=train)
