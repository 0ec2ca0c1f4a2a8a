"""The training batch of each step: a function of (seed, step)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from records import BadInputError
from records.seeds import torch_seed
from supernet.channels_last import channels_last
from supernet.data import ImageData, Split
from supernet.training.recipe import Recipe


class Sizes(Protocol):
    """What images a network is made for: a search space has these."""

    @property
    def image_size(self) -> int: ...

    @property
    def channels(self) -> int: ...

    @property
    def num_classes(self) -> int: ...


class BatchSource:
    """Batches shuffled per epoch and augmented.

    Args:
        data: Only `data.train` is read.
        recipe: Batch size and augmentation.
        seed: The run's seed.
        device: Where batches are put.
    """

    def __init__(
        self, data: ImageData, recipe: Recipe, seed: int, device: str | torch.device = "cpu"
    ) -> None:
        self.data = data
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.per_epoch = batches_per_epoch(data.train, recipe)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images, channels last in memory, and labels, or probabilities where images are mixed."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            shuffle = torch.Generator().manual_seed(torch_seed(self.seed, "epoch", epoch))
            self._order = torch.randperm(len(self.data.train), generator=shuffle)
            self._epoch = epoch
        size = min(self.recipe.batch_size, len(self.data.train))
        rows = self._order[place * size : (place + 1) * size]
        images, targets = self.data.train.images[rows], self.data.train.labels[rows]
        augmentation = self.recipe.augmentation(epoch)
        if augmentation is not None:
            noise = torch.Generator().manual_seed(torch_seed(self.seed, "augment", step))
            images, targets = augmentation.apply(
                images, targets, noise, flip=self.data.flip, num_classes=self.data.num_classes
            )
        images = channels_last(images)
        return images.to(self.device), targets.to(self.device)


def batches_per_epoch(split: Split, recipe: Recipe) -> int:
    """Full batches in one pass over the images, at least one.

    Raises:
        BadInputError: Fewer images than two for each shard of a batch.
    """
    if len(split) < 2 * recipe.shards:
        raise BadInputError(
            f"{len(split)} training images are too few for {recipe.shards} shards of two or more "
            "each: lower shards"
        )
    return max(1, len(split) // recipe.batch_size)


def shards_of(images: Tensor, targets: Tensor, recipe: Recipe) -> list[tuple[Tensor, Tensor]]:
    """The shards of a batch, whose sizes differ by one at most."""
    parts = zip(
        images.tensor_split(recipe.shards), targets.tensor_split(recipe.shards), strict=True
    )
    return list(parts)


def check_data(space: Sizes, data: ImageData) -> None:
    """Refuses data of another image size, channel or class count than the space's.

    Raises:
        BadInputError: They differ.
    """
    for name in ("image_size", "channels", "num_classes"):
        have, want = getattr(data, name), getattr(space, name)
        if have != want:
            raise BadInputError(
                f"dataset {data.name!r} has {name} {have}, but the space was made with {want}: "
                f"make it with {name}={have}"
            )
