"""Training a supernet: the sandwich rule with in-place distillation.

One step, as in BigNAS (Yu et al., ECCV 2020, arXiv 2003.11142) and AttentiveNAS: the largest
network learns the labels; sampled networks and the smallest learn the largest's predictions of the
same step,

    L(a) = -(1/|B|) sum_x sum_c p_T(c|x) log p_a(c|x),   p_T = softmax of the largest, detached.

Gradients of the members are summed, then clipped by norm, then one optimiser step is made.

Deviations: a space with choices by name (convolution or attention) has several largest and
smallest networks, which take turns; for the first share of the steps the largest trains alone;
AdamW with a cosine schedule, since budgets here are minutes.

Everything random is derived from (seed, step), so that a run resumed from a checkpoint continues
as if it had not stopped. Step counts are fixed beforehand: the same seed gives the same weights.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from records import BadInputError, HwnasError, content_hash
from records.seeds import generator, torch_seed
from search_spaces import Genes, Graph
from supernet.augment import augment
from supernet.checkpoint import load_checkpoint, save_checkpoint
from supernet.data import ImageData, Split
from supernet.supernet import Supernet
from supernet.threads import intra_op_threads, threads_each

logger = logging.getLogger(__name__)

MOST_SKIPPED = 20
"""Steps in a row whose loss or gradient is not finite; after so many training gives up."""


class TrainingError(HwnasError, RuntimeError):
    """Training that cannot go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How networks are trained; the same for supernets and single networks.

    Attributes:
        batch_size: Images a step.
        shards: Equal parts of a batch, each normalised by itself and computed in a thread of its
            own where cores are free. It belongs to the recipe, not to the machine: the result
            does not depend on how many threads there are.
        learning_rate: The highest rate of AdamW.
        weight_decay: On matrices and kernels, not on biases, norms, positions and transforms.
        warmup_share: Share of the steps with a linearly rising rate.
        label_smoothing: For the largest network's cross entropy.
        clip_norm: Largest norm of the summed gradient.
        random_subnets: Sampled networks a step, beside the largest and the smallest.
        largest_alone_share: Share of the steps in which the largest trains alone.
        augment: Whether images are moved, turned and scaled (and mirrored where the data allow).
    """

    batch_size: int = 64
    shards: int = 2
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    warmup_share: float = 0.1
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    random_subnets: int = 1
    largest_alone_share: float = 0.3
    augment: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise BadInputError(f"batch_size must be >= 2, got {self.batch_size}")
        if not 1 <= self.shards <= self.batch_size // 2:
            raise BadInputError(
                f"shards must be 1 to half of batch_size ({self.batch_size // 2}), got "
                f"{self.shards}"
            )
        if not self.learning_rate > 0:
            raise BadInputError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.random_subnets < 0:
            raise BadInputError(f"random_subnets must be >= 0, got {self.random_subnets}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a finished step tells: its number, of how many, and the losses of its members."""

    number: int
    total: int
    losses: tuple[float, ...]


def train(
    supernet: Supernet,
    data: ImageData,
    *,
    epochs: int = 10,
    recipe: Recipe | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    on_step: Callable[[Step], None] | None = None,
) -> Supernet:
    """Trains the supernet on the training split; returns it.

    Args:
        supernet: The supernet, changed in place.
        data: Only `data.train` is read.
        epochs: Passes over the training images.
        recipe: How; the default suits small images.
        seed: Derives batches, augmentation and sampled networks.
        checkpoint: A file to continue from if it exists, and to write on the way and at the end.
        checkpoint_every: Steps between two checkpoints.
        on_step: Called after every step.

    Raises:
        BadInputError: Data that do not fit the space; a checkpoint of another run.
        TrainingError: The loss of many steps in a row is not finite.
    """
    recipe = recipe or Recipe()
    check_data(supernet, data)
    if epochs < 1:
        raise BadInputError(f"epochs must be >= 1, got {epochs}")
    batches = batches_per_epoch(data.train, recipe)
    total = epochs * batches
    optimiser = make_optimiser(supernet, recipe)
    facts = run_facts(supernet, data, epochs, recipe, seed)
    first = 0
    if checkpoint is not None and Path(checkpoint).exists():
        first = load_checkpoint(checkpoint, supernet, optimiser, facts)
        logger.info("continuing at step %d of %d", first, total)
    supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    extremes = supernet.space.extremes("largest"), supernet.space.extremes("smallest")
    images = BatchSource(data, recipe, seed)
    skipped = 0
    threads = threads_each(recipe.shards)
    with intra_op_threads(threads), ThreadPoolExecutor(recipe.shards) as pool:
        for step in range(first, total):
            batch, labels = images.batch(step)
            alone = step < recipe.largest_alone_share * total
            members = draw_members(supernet, extremes, step, alone, recipe, seed)
            losses = sandwich_step(supernet, members, batch, labels, recipe, pool)
            norm = nn.utils.clip_grad_norm_(supernet.parameters(), recipe.clip_norm).item()
            if all(math.isfinite(value) for value in (norm, *losses)):
                set_learning_rate(optimiser, recipe, step, total)
                optimiser.step()
                skipped = 0
            else:
                skipped += 1
                logger.warning("step %d skipped: losses %s, gradient %g", step, losses, norm)
                if skipped >= min(MOST_SKIPPED, total):
                    raise TrainingError(
                        f"the loss of {skipped} steps in a row is not finite (step {step}); lower "
                        f"learning_rate (now {recipe.learning_rate:g}) or check the images for NaN"
                    )
            if checkpoint is not None and (step + 1) % checkpoint_every == 0:
                save_checkpoint(checkpoint, supernet, optimiser, step + 1, facts)
            if on_step is not None:
                on_step(Step(number=step + 1, total=total, losses=losses))
    if checkpoint is not None:
        save_checkpoint(checkpoint, supernet, optimiser, total, facts)
    return supernet.eval()


def draw_members(
    supernet: Supernet,
    extremes: tuple[Genes, Genes],
    step: int,
    alone: bool,
    recipe: Recipe,
    seed: int,
) -> Genes:
    """The subnets of a step, the largest first: a function of (seed, step) alone."""
    largest, smallest = extremes
    turn = step % len(largest)
    if alone:
        return largest[turn : turn + 1]
    sampled = supernet.space.sample(
        recipe.random_subnets, generator(seed, "members", step), "choices"
    )
    return np.concatenate([largest[turn : turn + 1], sampled, smallest[turn : turn + 1]])


def sandwich_step(
    supernet: Supernet,
    members: Genes,
    batch: Tensor,
    labels: Tensor,
    recipe: Recipe,
    pool: Executor,
) -> tuple[float, ...]:
    """Sets the weights' gradients to the members' summed gradients; returns the members' losses.

    The shards of the batch are computed in parallel and added in a fixed order, so the result is
    the same for any number of threads. Threads of our own lose less than those inside operators
    where another process holds a core, since they meet once a step only.
    """
    graphs = [supernet.graph(row) for row in members]
    parts = zip(batch.chunk(recipe.shards), labels.chunk(recipe.shards), strict=True)
    results = list(
        pool.map(lambda part: _gradients(supernet, graphs, part[0], part[1], recipe), parts)
    )
    for p, *grads in zip(supernet.parameters(), *(g for _, g in results), strict=True):
        known = [g for g in grads if g is not None]
        p.grad = sum(known[1:], start=known[0]) / len(results) if known else None
    return tuple(float(np.mean(losses)) for losses in zip(*(r for r, _ in results), strict=True))


def _gradients(
    supernet: Supernet, graphs: list[Graph], images: Tensor, labels: Tensor, recipe: Recipe
) -> tuple[list[float], list[Tensor | None]]:
    """The members' losses on one shard, and for each weight the sum of their gradients."""
    parameters = list(supernet.parameters())
    summed: list[Tensor | None] = [None] * len(parameters)
    losses: list[float] = []
    teacher: Tensor | None = None
    for graph in graphs:
        logits = supernet(images, graph)
        if teacher is None:
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            teacher = logits.detach().softmax(dim=1)
        else:
            loss = F.cross_entropy(logits, teacher)
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        summed = [
            g if s is None else s if g is None else s + g
            for s, g in zip(summed, grads, strict=True)
        ]
        losses.append(loss.item())
    return losses, summed


class BatchSource:
    """The training batch of each step, shuffled per epoch and augmented, from (seed, step)."""

    def __init__(self, data: ImageData, recipe: Recipe, seed: int) -> None:
        self.data = data
        self.recipe = recipe
        self.seed = seed
        self.per_epoch = batches_per_epoch(data.train, recipe)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images, channels last in memory, and labels."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            shuffle = torch.Generator().manual_seed(torch_seed(self.seed, "epoch", epoch))
            self._order = torch.randperm(len(self.data.train), generator=shuffle)
            self._epoch = epoch
        size = min(self.recipe.batch_size, len(self.data.train))
        rows = self._order[place * size : (place + 1) * size]
        images, labels = self.data.train.images[rows], self.data.train.labels[rows]
        if self.recipe.augment:
            noise = torch.Generator().manual_seed(torch_seed(self.seed, "augment", step))
            images = augment(images, noise, flip=self.data.flip)
        return images.contiguous(memory_format=torch.channels_last), labels


def batches_per_epoch(split: Split, recipe: Recipe) -> int:
    """Full batches in one pass over the images, at least one."""
    return max(1, len(split) // recipe.batch_size)


def make_optimiser(module: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels only."""
    decayed = [p for name, p in module.named_parameters() if _is_decayed(name, p)]
    other = [p for name, p in module.named_parameters() if not _is_decayed(name, p)]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": other, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def _is_decayed(name: str, parameter: Tensor) -> bool:
    spared = ("bias", "embedding")
    return parameter.ndim > 1 and "transforms" not in name and not name.endswith(spared)


def set_learning_rate(
    optimiser: torch.optim.Optimizer, recipe: Recipe, step: int, total: int
) -> None:
    """Linear warm-up, then half a cosine down to zero."""
    warmup = max(1, round(recipe.warmup_share * total))
    if step < warmup:
        share = (step + 1) / warmup
    else:
        share = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
    for group in optimiser.param_groups:
        group["lr"] = recipe.learning_rate * share


def run_facts(
    supernet: Supernet, data: ImageData, epochs: int, recipe: Recipe, seed: int
) -> dict[str, Any]:
    """What a checkpoint must agree in to be continued."""
    return {
        "space": supernet.space.to_json(),
        "space_hash": supernet.space.hash,
        "data": data.name,
        "images": len(data.train),
        "labels_hash": content_hash(data.train.labels.numpy()),
        "epochs": epochs,
        "recipe": asdict(recipe),
        "seed": seed,
    }


def check_data(supernet: Supernet, data: ImageData) -> None:
    """Refuses data of another image size, channel or class count than the space's."""
    space = supernet.space
    for name in ("image_size", "channels", "num_classes"):
        have, want = getattr(data, name), getattr(space, name)
        if have != want:
            raise BadInputError(
                f"dataset {data.name!r} has {name} {have}, but the space was made with {want}: "
                f"make it with {name}={have}"
            )
