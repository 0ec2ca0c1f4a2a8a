"""One step: the members' losses and gradients on the shards of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from records.seeds import torch_seed
from search_spaces import Graph
from supernet.network import ElasticNetwork, Noise
from supernet.training.gradients import Gradients, added, cosine
from supernet.training.guard import Guard
from supernet.training.members import Member
from supernet.training.parallel import Ranks
from supernet.training.precision import LossScale, autocast
from supernet.training.recipe import Recipe

Shard = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What a step's members gave.

    Attributes:
        gradients: The step's gradient, None where no member was good.
        losses: Of each member, as it is; one that is not finite was dropped.
        kept: For each member whether it counts.
        cosine: Between the gradients of the largest member and of the others, if watched.
    """

    gradients: Gradients | None
    losses: tuple[float, ...]
    kept: tuple[bool, ...]
    cosine: float | None

    @property
    def kept_losses(self) -> tuple[float, ...]:
        """The losses, NaN for members that were dropped."""
        pairs = zip(self.losses, self.kept, strict=True)
        return tuple(loss if kept else float("nan") for loss, kept in pairs)


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
    ranks: Ranks
    pool: Executor | None
    seed: int
    teacher: nn.Module | None = None
    teacher_weight: float = 1.0
    watch: bool = False
    compiled: bool = False
    _programs: dict[int, tuple[Graph, Callable[..., Tensor]]] = field(default_factory=dict)

    def __call__(
        self,
        members: Sequence[Member],
        images: Tensor,
        targets: Tensor,
        step: int,
        progress: float,
    ) -> Outcome:
        """Losses and gradient of the members on a batch."""
        parts = zip(images.chunk(self.recipe.shards), targets.chunk(self.recipe.shards))  # noqa: B905
        shards = list(parts)
        own = self.ranks.own(len(shards))
        outside = [self._outside(shards[k][0]) for k in own]
        predictions: list[list[Tensor | None]] = [[] for _ in own]
        parameters = list(self.network.parameters())
        largest: Gradients = [None] * len(parameters)
        others: Gradients = [None] * len(parameters)
        losses, kept = [], []
        apart = self.watch or self.recipe.gradients.needs_both
        for place, member in enumerate(members):

            def one(i: int, place: int = place, member: Member = member) -> _Result:
                noise = self._noise(member, step, place, own[i])
                teacher = _mean([predictions[i][t] for t in member.teachers])
                return self._member(member, shards[own[i]], teacher, outside[i], noise)

            results = list(map(one, range(len(own))) if self.pool is None
                           else self.pool.map(one, range(len(own))))  # fmt: skip
            loss, is_finite = self._agreed(results, len(shards))
            losses.append(loss)
            kept.append(is_finite and self.guard.is_good(member.role, loss))
            for i, result in enumerate(results):
                predictions[i].append(result.prediction if kept[-1] else None)
            if not kept[-1]:
                continue
            self.guard.record(member.role, loss)
            gradients = _mean_gradients([r.gradients for r in results], len(shards))
            if apart and member.role == "largest":
                largest = added(largest, gradients)
            else:
                others = added(others, gradients)
        for sums in (largest, others):
            self.ranks.sum_gradients(sums)
        combined = self.recipe.gradients.combine(largest, others, sum(kept), progress)
        return Outcome(
            gradients=combined if any(kept) else None,
            losses=tuple(losses),
            kept=tuple(kept),
            cosine=cosine(largest, others) if self.watch else None,
        )

    def _member(
        self,
        member: Member,
        shard: Shard,
        teacher: Tensor | None,
        outside: Tensor | None,
        noise: Noise | None,
    ) -> _Result:
        """A member's loss and gradient on one shard."""
        images, targets = shard
        recipe = self.recipe
        with autocast(recipe.precision, images.device):
            logits = self._forward(member, images, noise)
        logits = logits.float()
        if teacher is not None and recipe.distillation.uses_teacher:
            loss = recipe.distillation.loss(logits, teacher)
        else:
            loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
            if outside is not None and recipe.distillation.uses_teacher:
                taught = recipe.distillation.loss(logits, outside)
                loss = loss + self.teacher_weight * taught
        gradients = torch.autograd.grad(
            loss * self.scale.value, list(self.network.parameters()), allow_unused=True
        )
        return _Result(
            loss=loss.detach(),
            gradients=[None if g is None else self.scale.undo(g) for g in gradients],
            prediction=logits.detach().softmax(dim=1),
        )

    def _forward(self, member: Member, images: Tensor, noise: Noise | None) -> Tensor:
        if self.compiled and member.role != "random":
            graph, program = self._programs.get(id(member.graph), (None, None))
            if graph is not member.graph or program is None:
                graph = member.graph

                def network(images: Tensor, noise: Noise | None, graph: Graph = graph) -> Tensor:
                    return self.network.run(images, graph, noise=noise)

                program = torch.compile(network)
                self._programs[id(graph)] = graph, program
            return program(images, noise)
        return self.network.run(images, member.graph, noise=noise)

    def _noise(self, member: Member, step: int, place: int, shard: int) -> Noise | None:
        recipe = self.recipe
        if recipe.drop_path == recipe.dropout == 0:
            return None
        if recipe.regularise == "largest" and member.role != "largest":
            return None
        seed = torch_seed(self.seed, "noise", step, place, shard)
        return Noise(
            drop_path=recipe.drop_path,
            dropout=recipe.dropout,
            generator=torch.Generator().manual_seed(seed),
        )

    def _agreed(self, results: Sequence[_Result], shards: int) -> tuple[float, bool]:
        """The member's mean loss over all shards, and whether loss and gradients are finite."""
        bad = sum(not _is_finite(r) for r in results)
        total = torch.stack([r.loss for r in results]).double().sum()
        sums = self.ranks.sum(torch.stack([total, torch.full_like(total, bad)]))
        return float(sums[0]) / shards, float(sums[1]) == 0

    @torch.no_grad()
    def _outside(self, images: Tensor) -> Tensor | None:
        """What the frozen teacher says of a shard's images."""
        if self.teacher is None:
            return None
        prediction: Tensor = self.teacher(images).float().softmax(dim=1)
        return prediction


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    loss: Tensor
    gradients: Gradients
    prediction: Tensor


def _is_finite(result: _Result) -> bool:
    norms = [g.norm() for g in result.gradients if g is not None]
    return bool(torch.isfinite(torch.stack([result.loss, *norms])).all())


def _mean(predictions: Sequence[Tensor | None]) -> Tensor | None:
    """The mean of the predictions that there are."""
    known = [p for p in predictions if p is not None]
    return torch.stack(known).mean(0) if known else None


def _mean_gradients(parts: Sequence[Gradients], shards: int) -> Gradients:
    """The sum over this rank's shards, divided by the number of all shards."""
    mean: Gradients = []
    for gradients in zip(*parts, strict=True):
        known = [g for g in gradients if g is not None]
        mean.append(sum(known[1:], start=known[0]) / shards if known else None)
    return mean
