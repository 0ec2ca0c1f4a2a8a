"""Training one network by itself, with the recipe of the supernet: baselines and references."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import nn

from records import BadInputError
from search_spaces import Graph
from supernet.data import ImageData
from supernet.subnet import Subnet
from supernet.training import (
    BatchSource,
    Recipe,
    Step,
    TrainingError,
    batches_per_epoch,
    make_optimiser,
    set_learning_rate,
)


def train_alone(
    graph: Graph,
    data: ImageData,
    *,
    epochs: int,
    recipe: Recipe | None = None,
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
) -> Subnet:
    """Trains one architecture from scratch on the labels; returns it in eval mode.

    Batches, augmentation, optimiser and schedule are those of `supernet.train`; there is no
    distillation, since there is no larger network to learn from.

    Args:
        graph: The architecture's layers.
        data: Only `data.train` is read.
        epochs: Passes over the training images.
        recipe: How; the default is that of `train`.
        seed: Derives weights, batches and augmentation.
        on_step: Called after every step.

    Raises:
        BadInputError: No epochs.
        TrainingError: A loss that is not finite.
    """
    if epochs < 1:
        raise BadInputError(f"epochs must be >= 1, got {epochs}")
    recipe = recipe or Recipe()
    network = Subnet(graph, seed=seed).train()
    optimiser = make_optimiser(network, recipe)
    source = BatchSource(data, recipe, seed)
    total = epochs * batches_per_epoch(data.train, recipe)
    for step in range(total):
        images, labels = source.batch(step)
        loss = F.cross_entropy(network(images), labels, label_smoothing=recipe.label_smoothing)
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"the loss is not finite at step {step}; lower learning_rate "
                f"(now {recipe.learning_rate:g})"
            )
        network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        set_learning_rate(optimiser, recipe, step, total)
        optimiser.step()
        if on_step is not None:
            on_step(Step(number=step + 1, total=total, losses=(loss.item(),)))
    return network.eval()
