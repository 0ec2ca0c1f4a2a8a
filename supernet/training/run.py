"""The state of a training run: what a checkpoint holds, and how a step changes it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from records import BadInputError, CorruptFileError, array_hash, content_hash
from supernet.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from supernet.data import ImageData
from supernet.network import ElasticNetwork
from supernet.threads import intra_op_threads, threads_each
from supernet.training.batches import batches_per_epoch
from supernet.training.guard import Guard
from supernet.training.members import Member, Role
from supernet.training.optimisation import MovingAverage, make_optimiser, set_learning_rate
from supernet.training.parallel import Ranks
from supernet.training.precision import LossScale
from supernet.training.recipe import Recipe
from supernet.training.source import MemberSource
from supernet.training.step import Outcome, Stepper, joined

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a finished step tells.

    Attributes:
        number: The step, from 1.
        total: Of how many.
        losses: Of its members, as they were, those that were dropped included.
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
    """How a run is carried out; the fields are arguments of `train` and explained there.

    Raises:
        BadInputError: A device that is not there, or a number that makes no sense.
    """

    checkpoint: str | Path | None = None
    checkpoint_every: int = 100
    on_step: Callable[[Step], None] | None = None
    device: str = "cpu"
    watch_gradients: bool = False
    compiled: bool = False
    teacher: nn.Module | None = None
    teacher_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.checkpoint_every < 1:
            raise BadInputError(f"checkpoint_every must be >= 1, got {self.checkpoint_every}")
        if not self.teacher_weight >= 0:
            raise BadInputError(f"teacher_weight must be >= 0, got {self.teacher_weight}")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise BadInputError(
                f"device {self.device!r} cannot be used ({error}); `cpu` always can"
            ) from error


class Run:
    """A run of the training loop.

    Args:
        network: What is trained; moved to the device.
        members: Where its members come from.
        data: Only `data.train` is read.
        recipe: How it is trained.
        seed: The run's seed.
        epochs: Passes over the training images.
        options: How it is carried out.
    """

    def __init__(
        self,
        network: ElasticNetwork,
        members: MemberSource,
        data: ImageData,
        recipe: Recipe,
        seed: int,
        epochs: int,
        options: Options,
    ) -> None:
        if epochs < 1:
            raise BadInputError(f"epochs must be >= 1, got {epochs}")
        if options.teacher is not None and not recipe.distillation.uses_teacher:
            part = type(recipe.distillation).__name__
            raise BadInputError(f"a teacher is given, but the recipe's distillation is {part}")
        self.network, self.members, self.recipe = network, members, recipe
        self.seed, self.options = seed, options
        self.total = epochs * batches_per_epoch(data.train, recipe)
        self.ranks = Ranks.current()
        network.to(options.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = list(network.parameters())
        self.ranks.take_from_first(p.detach() for p in self.parameters)
        self.optimiser = make_optimiser(network, recipe)
        self.average = None if recipe.ema is None else MovingAverage(network, recipe.ema)
        self.guard = Guard(recipe, network, self.optimiser, self.total, self.average)
        self.scale = LossScale(recipe.precision)
        path = options.checkpoint
        self.checkpoint = None if path is None else Checkpoint(path)
        self.facts = {
            **members.facts(),
            "data": data.name,
            "images": len(data.train),
            "labels_hash": content_hash(data.train.labels.numpy()),
            "epochs": epochs,
            "recipe": recipe.to_json(),
            "seed": seed,
            "teacher": _teacher_facts(options),
        }

    def resume(self) -> int:
        """Continues from the checkpoint if there is one; returns the steps done."""
        path = self.options.checkpoint
        first = 0
        if self.checkpoint is not None and self.checkpoint.exists():
            average = None if self.average is None else self.average.weights
            first, state = load_checkpoint(
                self.checkpoint, self.network, self.optimiser, self.facts, self.total, average
            )
            try:
                self.guard.restore(state["guard"])
                self.scale.restore(state["scale"])
                self.members.memory.update(state["members"])
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise CorruptFileError(f"{path} holds a damaged state: {error!r}") from error
            logger.info("continuing at step %d of %d", first, self.total)
        if not self.ranks.agree(first, self.options.device):
            raise BadInputError(f"not all processes read one checkpoint {path}: share its folder")
        return first

    @contextmanager
    def stepper(self) -> Iterator[Stepper]:
        """Computes steps, with threads for the shards where cores are free."""
        options = self.options
        workers = 1
        if options.device == "cpu" and not options.compiled:
            own = self.ranks.own(self.recipe.shards)
            workers = min(len(own), torch.get_num_threads())
        if options.teacher is not None:
            options.teacher.to(options.device).eval()
        with intra_op_threads(threads_each(workers)), ThreadPoolExecutor(workers) as pool:
            yield Stepper(
                network=self.network,
                recipe=self.recipe,
                guard=self.guard,
                scale=self.scale,
                ranks=self.ranks,
                pool=pool if workers > 1 else None,
                seed=self.seed,
                teacher=options.teacher,
                teacher_weight=options.teacher_weight,
                watch=options.watch_gradients,
                compiled=options.compiled,
            )

    def step(
        self,
        stepper: Stepper,
        members: Sequence[Member],
        images: Tensor,
        targets: Tensor,
        step: int,
    ) -> tuple[Outcome, float]:
        """Trains the members on a batch; returns what they gave and the learning rate."""
        batch = members, images, targets, step, step / self.total
        if self.recipe.updates == "step":
            outcome = stepper(*batch)
            return outcome, self.update(outcome, step)
        outcomes, rate = list[Outcome](), 0.0
        for outcome in stepper.in_turn(*batch):
            rate = self.update(outcome, step)
            outcomes.append(outcome)
        return joined(outcomes), rate

    def update(self, outcome: Outcome, step: int) -> float:
        """Makes the step, or notes that it cannot be made; returns the learning rate."""
        rate = set_learning_rate(self.optimiser, self.recipe, step, self.total)
        lost = outcome.kept.count(False)
        if lost:
            self.guard.dropped += lost
            logger.warning("step %d: %d members dropped, losses %s", step, lost, outcome.losses)
        self.scale.update(outcome.is_finite)
        if outcome.gradients is None:
            self.guard.bad_step(step)
            return rate
        for p, gradient in zip(self.parameters, outcome.gradients, strict=True):
            p.grad = gradient
        if self.recipe.clip_value is not None:
            nn.utils.clip_grad_value_(self.parameters, self.recipe.clip_value, foreach=True)
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm, foreach=True)
        self.optimiser.step()
        if self.average is not None:
            self.average.update(step)
        self.guard.good_step()
        return rate

    def save(self, done: int, *, at_end: bool = False) -> None:
        """Writes the checkpoint when it is due."""
        due = at_end or (done % self.options.checkpoint_every == 0 and done < self.total)
        if self.checkpoint is None or not due or self.ranks.rank != 0:
            return
        state: dict[str, Any] = {
            "guard": self.guard.state(),
            "scale": self.scale.state(),
            "members": self.members.memory,
        }
        average = None if self.average is None else self.average.weights
        save_checkpoint(
            self.checkpoint, self.network, self.optimiser, done, self.facts, state, average
        )

    def finish(self) -> None:
        """Writes the last checkpoint and leaves the network ready for use."""
        self.save(self.total, at_end=True)
        self.ranks.wait()
        if self.average is not None:
            self.average.copy_to_module()
        for p in self.parameters:
            p.grad = None
        self.network.to("cpu")
        self.network.eval()


def _teacher_facts(options: Options) -> dict[str, Any] | None:
    """What a resumed run's teacher must agree in."""
    if options.teacher is None:
        return None
    state = {name: v.detach().cpu().numpy() for name, v in options.teacher.state_dict().items()}
    return {"weights_hash": array_hash(state), "weight": options.teacher_weight}
