"""What subnets of a trained supernet are worth on one batch: quick and noisy.

All subnets of a step see the same images, so that what is hard about a batch cancels when they are
compared. Batch norm normalises by the statistics of the batch itself, without recalibration: a
step is a few passes forward.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
import torch.nn.functional as F

from records import BadInputError
from records.seeds import torch_seed
from search_spaces import Genes
from supernet.channels_last import channels_last
from supernet.choice_distribution import Vector
from supernet.data import ImageData
from supernet.supernet import Supernet
from supernet.training.batches import check_data

RewardKind: TypeAlias = Literal["accuracy", "loss"]


class SupernetReward:
    """The reward of subnets on validation images, which are shuffled once an epoch.

    Args:
        supernet: The trained supernet; it is not changed.
        data: `validation` is used.
        kind: `accuracy`, the share of images that are classified rightly; or `loss`, the negative
            cross-entropy, which tells more of few images and less of what is wanted.
        batch_size: Images in a step, at least 2.
        seed: Of the order of the images.

    Raises:
        BadInputError: Data that do not fit the space, another kind, or too small a batch.
    """

    def __init__(
        self,
        supernet: Supernet,
        data: ImageData,
        *,
        kind: RewardKind = "accuracy",
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        check_data(supernet.space, data)
        if kind not in get_args(RewardKind):
            raise BadInputError(f"a reward is 'accuracy' or 'loss', got {kind!r}")
        if batch_size < 2:
            raise BadInputError(f"batch_size must be at least 2, got {batch_size}")
        self.supernet = supernet.eval()
        self.split = data.validation
        self.kind = kind
        self.batch_size = min(batch_size, len(self.split))
        self.seed = seed

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The images and labels of a step, on the supernet's device."""
        epoch, place = divmod(step, len(self.split) // self.batch_size)
        shuffle = torch.Generator().manual_seed(torch_seed(self.seed, "choices", epoch))
        order = torch.randperm(len(self.split), generator=shuffle)
        rows = order[place * self.batch_size : (place + 1) * self.batch_size]
        device = next(self.supernet.parameters()).device
        images = channels_last(self.split.images[rows])
        return images.to(device), self.split.labels[rows].to(device)

    @torch.no_grad()
    def __call__(self, genes: Genes, step: int) -> Vector:
        """The reward of each row of an `n x d` array on the images of a step."""
        images, labels = self.batch(step)
        networks = self.supernet.space.without_platform(genes)
        rows, places = np.unique(networks, axis=0, return_inverse=True)
        rewards = np.array([self._reward(row, images, labels) for row in rows])
        return rewards[places.ravel()]

    def _reward(self, row: Genes, images: torch.Tensor, labels: torch.Tensor) -> float:
        logits = self.supernet(images, row)
        if self.kind == "accuracy":
            return float((logits.argmax(1) == labels).double().mean())
        return -float(F.cross_entropy(logits, labels))
