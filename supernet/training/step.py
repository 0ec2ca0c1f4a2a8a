"""One step: the members' losses and gradients on the shards of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from records.seeds import torch_seed
from supernet.cut import NetworkCut, Piece
from supernet.network import ElasticNetwork
from supernet.noise import Noise
from supernet.training.batches import shards_of
from supernet.training.gradients import (
    Gradients,
    GradientSum,
    SharedGradient,
    cosine,
    is_finite,
)
from supernet.training.guard import Guard
from supernet.training.members import Member
from supernet.training.parallel import Ranks
from supernet.training.precision import LossScale, autocast
from supernet.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What a step's members gave.

    Attributes:
        gradients: The step's gradient, None where no member was good.
        losses: Of each member, as it is.
        kept: For each member whether it counts.
        is_finite: Whether all losses and gradients are finite.
        cosine: Between the gradients of the largest member and of the others, if watched.
    """

    gradients: Gradients | None
    losses: tuple[float, ...]
    kept: tuple[bool, ...]
    is_finite: bool = True
    cosine: float | None = None

    @property
    def kept_losses(self) -> tuple[float, ...]:
        """The losses, NaN for members that were dropped."""
        pairs = zip(self.losses, self.kept, strict=True)
        return tuple(loss if kept else float("nan") for loss, kept in pairs)


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """What one step gave that was made in several parts; the gradients are spent."""
    return Outcome(
        gradients=None,
        losses=sum((outcome.losses for outcome in outcomes), ()),
        kept=sum((outcome.kept for outcome in outcomes), ()),
        is_finite=all(outcome.is_finite for outcome in outcomes),
        cosine=outcomes[-1].cosine,
    )


@dataclass(slots=True, kw_only=True, eq=False)
class Stepper:
    """Computes the gradient of a step.

    The shards of the batch are computed in parallel and added in a fixed order, so the result is
    the same for any number of threads. Threads of our own lose less than those inside operators
    where another process holds a core, since they meet once a member only.

    Attributes:
        network: The shared weights.
        recipe: Losses and regularisation.
        guard: Judges the members' losses.
        scale: Keeps half-precision gradients in range.
        ranks: The processes that train together.
        pool: Threads for the shards; None computes one after the other.
        seed: The run's seed.
        teacher: A frozen network whose predictions those learn that have no teacher in the step,
            beside the labels.
        teacher_weight: The weight of that loss.
        watch: Whether the cosine is computed.
        compiled: Whether the largest and smallest networks run through `torch.compile`.
    """

    network: ElasticNetwork
    recipe: Recipe
    guard: Guard
    scale: LossScale
    ranks: Ranks = field(default_factory=Ranks)
    pool: Executor | None = None
    seed: int = 0
    teacher: nn.Module | None = None
    teacher_weight: float = 1.0
    watch: bool = False
    compiled: bool = False
    _parameters: list[nn.Parameter] = field(init=False)
    _numbers: dict[nn.Parameter, int] = field(init=False)
    _programs: dict[bytes, Callable[[Tensor], Tensor]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._parameters = list(self.network.parameters())
        self._numbers = {p: k for k, p in enumerate(self._parameters)}

    def __call__(
        self,
        members: Sequence[Member],
        images: Tensor,
        targets: Tensor,
        step: int,
        progress: float,
    ) -> Outcome:
        """Losses and gradient of the members on a batch."""
        return self._together(
            list(enumerate(members)), self._parts(images, targets), step, progress
        )

    def in_turn(
        self,
        members: Sequence[Member],
        images: Tensor,
        targets: Tensor,
        step: int,
        progress: float,
    ) -> Iterator[Outcome]:
        """Loss and gradient of one member after the other, for an update after each.

        The last outcome tells the cosine, if it is watched; its gradients are then those that the
        members had when it was their turn.
        """
        parts = self._parts(images, targets)
        largest, others = (GradientSum(len(self._parameters)) for _ in range(2))
        for place, member in enumerate(members):
            outcome = self._together([(place, member)], parts, step, progress)
            if self.watch and outcome.gradients is not None:
                copies = [None if g is None else g.clone() for g in outcome.gradients]
                (largest if member.role == "largest" else others).add(copies)
            is_last = place == len(members) - 1
            seen = cosine(largest.total, others.total) if self.watch and is_last else None
            yield replace(outcome, cosine=seen)

    def _together(
        self,
        members: Sequence[tuple[int, Member]],
        parts: Sequence[_Part],
        step: int,
        progress: float,
    ) -> Outcome:
        """Losses and gradient of members, each with its place in the step."""
        largest, others = (SharedGradient(self._numbers) for _ in range(2))
        apart = self.watch or self.recipe.gradients.needs_both
        losses: list[float] = []
        finite: list[bool] = []
        kept: list[bool] = []
        for place, member in members:
            loss, pieces, is_good = self._train(member, parts, step, place)
            losses.append(loss)
            finite.append(is_good)
            kept.append(is_good and self.guard.accepts(member.role, loss))
            if kept[-1]:
                (largest if apart and member.role == "largest" else others).add(pieces)
            else:
                for part in parts:
                    part.predictions[-1] = None  # whom it would have taught learns the labels
        sums = [gradient.divided(self.scale.value) for gradient in (largest, others)]
        for gradients in sums:
            self.ranks.sum_gradients(gradients)
        combined = self.recipe.gradients.combine(sums[0], sums[1], sum(kept), progress)
        return Outcome(
            gradients=combined if any(kept) else None,
            losses=tuple(losses),
            kept=tuple(kept),
            is_finite=all(finite),
            cosine=cosine(sums[0], sums[1]) if self.watch else None,
        )

    def _parts(self, images: Tensor, targets: Tensor) -> list[_Part]:
        """The shards that this rank computes."""
        shards = shards_of(images, targets, self.recipe)
        return [_Part(k, *shards[k]) for k in self.ranks.own(len(shards))]

    def _train(
        self, member: Member, parts: Sequence[_Part], step: int, place: int
    ) -> tuple[float, list[Piece], bool]:
        """A member's mean loss over all shards, its gradient on this rank's, if all is finite."""
        cut = None if self._is_compiled(member) else self.network.cut(member.graph)

        def on_shard(part: _Part) -> _Result:
            noise = self._noise(member, step, place, part.number)
            return self._on_shard(member, cut, part, noise)

        run = map if self.pool is None else self.pool.map
        results: Iterable[_Result] = run(on_shard, parts)
        gradient = GradientSum(len(self._parameters if cut is None else cut.leaves))
        losses: list[Tensor] = []
        for part, result in zip(parts, results, strict=True):
            gradient.add(result.gradients)
            losses.append(result.loss)
            part.predictions.append(result.prediction)
        if cut is not None:
            pieces = cut.pull_back(gradient.total)
        else:
            pairs = zip(self._parameters, gradient.total, strict=True)
            pieces = [Piece(p, None, g) for p, g in pairs if g is not None]
        total = torch.stack(losses).double().sum()
        bad = 1 - is_finite(pieces).to(total)
        loss, wrong = self.ranks.sum(torch.stack([total, bad])).tolist()
        loss /= self.recipe.shards
        return loss, pieces, wrong == 0 and math.isfinite(loss)

    def _on_shard(
        self, member: Member, cut: NetworkCut | None, part: _Part, noise: Noise | None
    ) -> _Result:
        """A member's loss and scaled gradient on one shard, and what it predicts."""
        with autocast(self.recipe.precision, part.images.device):
            if cut is None:
                logits = self._program(member)(part.images)
            else:
                logits = self.network.run(part.images, member.graph, noise=noise, cut=cut)
        logits = logits.float()
        loss = self._loss(member, part, logits)
        scale = self.scale.value / self.recipe.shards
        leaves = self._parameters if cut is None else cut.leaves
        gradients = torch.autograd.grad(loss * scale, leaves, allow_unused=True)
        return _Result(loss.detach(), list(gradients), logits.detach().softmax(dim=1))

    def _loss(self, member: Member, part: _Part, logits: Tensor) -> Tensor:
        """Against the mean prediction of its teachers, or against the labels."""
        distillation = self.recipe.distillation
        teacher = _mean([part.predictions[t] for t in member.teachers])
        if teacher is not None and distillation.uses_teacher:
            return distillation.loss(logits, teacher)
        loss = F.cross_entropy(logits, part.targets, label_smoothing=self.recipe.label_smoothing)
        if self.teacher is None:
            return loss
        if part.outside is None:
            with torch.no_grad(), autocast(self.recipe.precision, part.images.device):
                said: Tensor = self.teacher(part.images)
            part.outside = said.float().softmax(dim=1)
        return loss + self.teacher_weight * distillation.loss(logits, part.outside)

    def _is_compiled(self, member: Member) -> bool:
        """Whether a member runs through `torch.compile`: no random one, none with noise."""
        return self.compiled and member.role != "random" and not self._is_regularised(member)

    def _program(self, member: Member) -> Callable[[Tensor], Tensor]:
        """The compiled network of a member."""
        key = b"" if member.genes is None else member.genes.tobytes()
        if key not in self._programs:
            self._programs[key] = torch.compile(self.network.program(member.graph))
        return self._programs[key]

    def _is_regularised(self, member: Member) -> bool:
        recipe = self.recipe
        has_noise = recipe.drop_path > 0 or recipe.dropout > 0
        return has_noise and (recipe.regularise == "all" or member.role == "largest")

    def _noise(self, member: Member, step: int, place: int, shard: int) -> Noise | None:
        """The regularisation of a member on a shard: a function of (seed, step)."""
        if not self._is_regularised(member):
            return None
        seed = torch_seed(self.seed, "noise", step, place, shard)
        return Noise(
            drop_path=self.recipe.drop_path,
            dropout=self.recipe.dropout,
            generator=torch.Generator().manual_seed(seed),
        )


@dataclass(slots=True, eq=False)
class _Part:
    """A shard of the batch.

    Attributes:
        number: Its place among all shards.
        images: Its images.
        targets: Their labels or probabilities.
        predictions: Of the step's members so far, None where one was dropped.
        outside: What the frozen teacher says of the images, once somebody asked.
    """

    number: int
    images: Tensor
    targets: Tensor
    predictions: list[Tensor | None] = field(default_factory=list)
    outside: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    loss: Tensor
    gradients: Gradients
    prediction: Tensor


def _mean(predictions: Sequence[Tensor | None]) -> Tensor | None:
    """The mean of the predictions that there are."""
    known = [p for p in predictions if p is not None]
    if len(known) < 2:
        return known[0] if known else None
    return torch.stack(known).mean(0)
