"""The training loop: batches in, steps made, checkpoints written.

Everything random is derived from (seed, step), so that a run resumed from a checkpoint continues
as if it had not stopped, bit for bit. Step counts are fixed beforehand: the same seed gives the
same weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from records import BadInputError, content_hash
from supernet.checkpoint import load_checkpoint, save_checkpoint
from supernet.data import ImageData
from supernet.network import ElasticNetwork
from supernet.supernet import Supernet
from supernet.threads import intra_op_threads, threads_each
from supernet.training.batches import BatchSource, batches_per_epoch, check_data
from supernet.training.guard import Guard
from supernet.training.members import Role
from supernet.training.optimisation import MovingAverage, make_optimiser, set_learning_rate
from supernet.training.parallel import Ranks
from supernet.training.precision import LossScale
from supernet.training.recipe import Recipe
from supernet.training.source import MemberSource, SpaceMembers
from supernet.training.step import Outcome, Stepper

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a finished step tells.

    Attributes:
        number: The step, from 1.
        total: Of how many.
        losses: Of its members; one that is not finite was dropped.
        roles: The members' places in the sandwich.
        dropped: Members dropped since the start.
        cosine: Between the gradients of the largest member and of the others, if watched.
        learning_rate: Of this step.
    """

    number: int
    total: int
    losses: tuple[float, ...]
    roles: tuple[Role, ...] = ()
    dropped: int = 0
    cosine: float | None = None
    learning_rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Options:
    """How a run is carried out; nothing of it changes the result, but for rounding.

    Attributes:
        checkpoint: A file to continue from if it exists, and to write on the way and at the end.
        checkpoint_every: Steps between two checkpoints.
        on_step: Called after every step.
        device: Where the network is trained: `cpu`, `cuda`, `cuda:1`.
        watch_gradients: Whether every step tells the cosine between gradients, which costs a copy
            of them.
        compiled: Whether the largest and smallest networks run through `torch.compile`, which
            takes minutes at the start and needs a C++ compiler on CPUs.
    """

    checkpoint: str | Path | None = None
    checkpoint_every: int = 100
    on_step: Callable[[Step], None] | None = None
    device: str = "cpu"
    watch_gradients: bool = False
    compiled: bool = False


def train(
    supernet: Supernet,
    data: ImageData,
    *,
    epochs: int = 10,
    recipe: Recipe | None = None,
    seed: int = 0,
    teacher: nn.Module | None = None,
    teacher_weight: float = 1.0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    on_step: Callable[[Step], None] | None = None,
    device: str = "cpu",
    watch_gradients: bool = False,
    compiled: bool = False,
) -> Supernet:
    """Trains the supernet on the training split; returns it in eval mode, on the CPU.

    Under `join_ranks` several processes train together, see `supernet.training.parallel`.

    Args:
        supernet: The supernet, changed in place.
        data: Only `data.train` is read.
        epochs: Passes over the training images.
        recipe: How; the default suits small images.
        seed: Derives batches, augmentation and sampled networks.
        teacher: A frozen network from images to logits; members without a teacher in the step
            learn its predictions beside the labels.
        teacher_weight: The weight of that loss.
        checkpoint: A file to continue from if it exists, and to write on the way and at the end.
        checkpoint_every: Steps between two checkpoints.
        on_step: Called after every step.
        device: Where the network is trained: `cpu`, `cuda`, `cuda:1`.
        watch_gradients: Whether every step tells the cosine between the gradients of the largest
            member and of the others, which costs a copy of them.
        compiled: Whether the largest and smallest networks run through `torch.compile`, which
            takes minutes at the start and needs a C++ compiler on CPUs.

    Raises:
        BadInputError: Data that do not fit the space; a checkpoint of another run.
        TrainingError: The loss of many steps in a row is not finite.
    """
    recipe = recipe or Recipe()
    check_data(supernet.space, data)
    members = SpaceMembers(supernet, recipe, seed)
    options = Options(
        checkpoint=checkpoint, checkpoint_every=checkpoint_every, on_step=on_step, device=device,
        watch_gradients=watch_gradients, compiled=compiled,
    )  # fmt: skip
    train_network(
        supernet, members, data, epochs=epochs, recipe=recipe, seed=seed, options=options,
        teacher=teacher, teacher_weight=teacher_weight,
    )  # fmt: skip
    return supernet


def train_network(
    network: ElasticNetwork,
    members: MemberSource,
    data: ImageData,
    *,
    epochs: int,
    recipe: Recipe,
    seed: int,
    options: Options,
    teacher: nn.Module | None = None,
    teacher_weight: float = 1.0,
) -> None:
    """The loop under `train` and `train_alone`; the arguments are theirs."""
    if epochs < 1:
        raise BadInputError(f"epochs must be >= 1, got {epochs}")
    total = epochs * batches_per_epoch(data.train, recipe)
    run = _Run(network, members, data, recipe, seed, total, epochs, options)
    first = run.resume()
    batches = BatchSource(data, recipe, seed, options.device)
    with run.stepper(teacher, teacher_weight) as stepper:
        for step in range(first, total):
            images, targets = batches.batch(step)
            members.before_step(step, total, run.optimiser, run.average)
            drawn = members.draw(step, total, images, targets)
            outcome = stepper(drawn, images, targets, step, step / total)
            rate = run.update(outcome, step)
            members.observe(drawn, outcome.kept_losses)
            run.save(step + 1)
            if options.on_step is not None:
                options.on_step(
                    Step(
                        number=step + 1,
                        total=total,
                        losses=outcome.losses,
                        roles=tuple(member.role for member in drawn),
                        dropped=run.guard.dropped,
                        cosine=outcome.cosine,
                        learning_rate=rate,
                    )
                )
    run.finish()


class _Run:
    """The state of a run: what a checkpoint holds."""

    def __init__(
        self,
        network: ElasticNetwork,
        members: MemberSource,
        data: ImageData,
        recipe: Recipe,
        seed: int,
        total: int,
        epochs: int,
        options: Options,
    ) -> None:
        self.network, self.members, self.recipe = network, members, recipe
        self.seed, self.total, self.options = seed, total, options
        network.to(options.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = make_optimiser(network, recipe)
        self.average = None if recipe.ema is None else MovingAverage(network, recipe.ema)
        self.guard = Guard(recipe, network, self.optimiser, total)
        self.scale = LossScale(recipe.precision)
        self.ranks = Ranks.current()
        self.facts = {
            **members.facts(),
            "data": data.name,
            "images": len(data.train),
            "labels_hash": content_hash(data.train.labels.numpy()),
            "epochs": epochs,
            "recipe": recipe.to_json(),
            "seed": seed,
        }

    def resume(self) -> int:
        """Continues from the checkpoint if there is one; returns the steps done."""
        path = self.options.checkpoint
        if path is None or not Path(path).exists():
            return 0
        average = None if self.average is None else self.average.weights
        first, state = load_checkpoint(path, self.network, self.optimiser, self.facts, average)
        self.guard.restore(state["guard"])
        self.scale.restore(state["scale"])
        self.members.memory.update(state["members"])
        logger.info("continuing at step %d of %d", first, self.total)
        return first

    @contextmanager
    def stepper(self, teacher: nn.Module | None, teacher_weight: float) -> Iterator[Stepper]:
        """Computes steps, with threads for the shards where there are several on a CPU."""
        own = len(self.ranks.own(self.recipe.shards))
        threads = own if self.options.device == "cpu" and not self.options.compiled else 1
        if teacher is not None:
            teacher.to(self.options.device).eval()
        with intra_op_threads(threads_each(threads)), ThreadPoolExecutor(threads) as pool:
            yield Stepper(
                network=self.network,
                recipe=self.recipe,
                guard=self.guard,
                scale=self.scale,
                ranks=self.ranks,
                pool=pool if threads > 1 else None,
                seed=self.seed,
                teacher=teacher,
                teacher_weight=teacher_weight,
                watch=self.options.watch_gradients,
                compiled=self.options.compiled,
            )

    def update(self, outcome: Outcome, step: int) -> float:
        """Makes the step, or notes that it cannot be made; returns the learning rate."""
        rate = set_learning_rate(self.optimiser, self.recipe, step, self.total)
        lost = len(outcome.kept) - sum(outcome.kept)
        if lost:
            self.guard.dropped += lost
            logger.warning("step %d: %d members dropped, losses %s", step, lost, outcome.losses)
        self.scale.update(lost == 0)
        if outcome.gradients is None:
            self.guard.bad_step(step)
            return rate
        parameters = list(self.network.parameters())
        for p, gradient in zip(parameters, outcome.gradients, strict=True):
            p.grad = gradient
        if self.recipe.clip_value is not None:
            nn.utils.clip_grad_value_(parameters, self.recipe.clip_value)
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.recipe.clip_norm)
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.network, step)
        self.guard.good_step()
        return rate

    def save(self, done: int, *, at_end: bool = False) -> None:
        """Writes the checkpoint when it is due."""
        path = self.options.checkpoint
        due = at_end or (done % self.options.checkpoint_every == 0 and done < self.total)
        if path is None or not due or self.ranks.rank != 0:
            return
        state: dict[str, Any] = {
            "guard": self.guard.state(),
            "scale": self.scale.state(),
            "members": self.members.memory,
        }
        average = None if self.average is None else self.average.weights
        save_checkpoint(path, self.network, self.optimiser, done, self.facts, state, average)

    def finish(self) -> None:
        """Writes the last checkpoint and leaves the network ready for use."""
        self.save(self.total, at_end=True)
        self.ranks.wait()
        if self.average is not None:
            self.average.copy_to(self.network)
        for p in self.network.parameters():
            p.grad = None
        self.network.to("cpu")
        self.network.eval()
