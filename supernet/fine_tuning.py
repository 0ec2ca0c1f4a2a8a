"""Fine-tuning after the search: a chosen subnet trained on by itself, from inherited weights.

A subnet's weights serve all others too. A few passes over the training images, with these weights
as a start and a small learning rate, make them its own. It may learn from a teacher beside the
labels, usually the largest subnet, and it may learn to bear the rounding of its int8 file
(`supernet.fake_quantisation`).

The loop is that of `train`; so are batches, augmentation, schedule and guard. The geometry of the
default recipe grows from nothing with the passes over the images, since a short training that
starts with all of it ends worse than it began (docs/training.md). Batch norm works with the
statistics of each batch, and those of the result are found anew, as after a search; a network that
learns to be rounded keeps its own, which its file has folded into the weights.

After every pass the network is judged on the search-validation images. The best is handed out, and
the network as it was given is among the candidates: the result is never worse there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from records import BadInputError, array_hash
from search_spaces import Graph
from supernet.alone import calibration, check_fits
from supernet.data import ImageData
from supernet.evaluation import accuracy
from supernet.fake_quantisation import FakeQuantised, Int8Scheme, take_weights
from supernet.network import ElasticNetwork
from supernet.subnet import Subnet
from supernet.training import Options, Recipe, SoftTargets, Step, batches_per_epoch
from supernet.training.loop import train_network
from supernet.training.optimisation import MovingAverage
from supernet.training.source import OneNetwork

CALIBRATION_IMAGES = 256
"""Training images, the first ones, that set the ranges of activations, as for an int8 file."""

CALIBRATE_EVERY = 50
"""Steps after which the ranges are read anew, since the weights have changed."""

LEARNING_RATE = 1e-3
ROUNDED_LEARNING_RATE = 3e-4
"""For weights that were trained already, and for those that learn to be rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuningRecord:
    """What was done, for the bundle.

    Attributes:
        epochs: Passes over the training images.
        kept_epoch: After which of them the weights were best; 0 are those that were given.
        accuracies: On search-validation: as given, and after every pass. With `quantised` those of
            the rounded network.
        images: How many search-validation images they were counted on.
        teacher: The teacher's size and a hash of its weights; None without one.
        teacher_weight: The weight of its loss beside that of the labels.
        quantised: The scheme of rounding, and how many images set its ranges; None for fp32.
        recipe: How it was trained.
        seed: What batches and augmentation are derived from.
        dropped: Steps that went wrong and were left out.
        seconds: How long it took.
    """

    epochs: int
    kept_epoch: int
    accuracies: tuple[float, ...]
    images: int
    teacher: dict[str, Any] | None
    teacher_weight: float
    quantised: dict[str, Any] | None
    recipe: dict[str, Any]
    seed: int
    dropped: int
    seconds: float

    @property
    def accuracy_before(self) -> float:
        """On search-validation, as the network was given."""
        return self.accuracies[0]

    @property
    def accuracy_after(self) -> float:
        """On search-validation, as it is handed out."""
        return self.accuracies[self.kept_epoch]

    def to_json(self) -> dict[str, Any]:
        """All of it by name, with the accuracies before and after."""
        return {
            **asdict(self),
            "accuracies": list(self.accuracies),
            "accuracy_before": self.accuracy_before,
            "accuracy_after": self.accuracy_after,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FineTuned:
    """A network after fine-tuning.

    Attributes:
        subnet: In eval mode, of the same layers, except that a network that learned to be rounded
            has its sums of convolutions as one, as its file; the very network that was given
            where nothing was better.
        record: What was done.
    """

    subnet: Subnet
    record: FineTuningRecord


def fine_tune(
    subnet: Subnet,
    data: ImageData,
    epochs: int = 3,
    *,
    teacher: Subnet | None = None,
    teacher_weight: float = 1.0,
    recipe: Recipe | None = None,
    quantised: Int8Scheme | None = None,
    calibration_images: Tensor | None = None,
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
    device: str = "cpu",
) -> FineTuned:
    """Trains a subnet on by itself and hands out the best of it.

    Args:
        subnet: The network in eval mode; it stays as it is.
        data: `train` is learned from, `validation` decides which pass is kept.
        epochs: Passes over the training images.
        teacher: A frozen network from whose predictions the subnet learns beside the labels.
        teacher_weight: The weight of that loss.
        recipe: How; the default is `fine_tuning_recipe`. Its members are not used.
        quantised: How the file that is made of it rounds; None for a file in fp32. What is judged
            is then the rounded network.
        calibration_images: Training images that set the ranges of activations, the same as for
            the file; the first `CALIBRATION_IMAGES` unless given.
        seed: Derives batches and augmentation.
        on_step: Called after every step.
        device: Where the network is trained.

    Raises:
        BadInputError: Data that do not fit the networks; no epochs; a subnet in training mode;
            calibration images without `quantised`.
        TrainingError: Many steps in a row went wrong, also from weights that were good before.
    """
    _check(subnet, teacher, data, quantised, calibration_images)
    started = time.perf_counter()
    recipe = recipe or fine_tuning_recipe(
        is_quantised=quantised is not None, has_teacher=teacher is not None
    )
    course = _course(subnet, data, quantised, calibration_images)
    per_epoch = batches_per_epoch(data.train, recipe)
    dropped = 0

    def after(step: Step) -> None:
        nonlocal dropped
        dropped = step.dropped
        if step.number % per_epoch == 0 and (recipe.ema is None or step.number < step.total):
            course.look()
        if on_step is not None:
            on_step(step)

    options = Options(on_step=after, device=device, teacher=teacher, teacher_weight=teacher_weight)
    train_network(
        course.network, course, data, epochs=epochs, recipe=recipe, seed=seed, options=options
    )
    if teacher is not None:
        teacher.to("cpu")
    if recipe.ema is not None:  # the average takes the place of the weights when all is done
        course.look()
    record = FineTuningRecord(
        epochs=epochs,
        kept_epoch=course.kept,
        accuracies=tuple(course.accuracies),
        images=len(data.validation),
        teacher=None if teacher is None else _described(teacher),
        teacher_weight=teacher_weight if teacher is not None else 0.0,
        quantised=course.rounding(),
        recipe=recipe.to_json(),
        seed=seed,
        dropped=dropped,
        seconds=time.perf_counter() - started,
    )
    return FineTuned(subnet=course.best, record=record)


def fine_tuning_recipe(*, is_quantised: bool = False, has_teacher: bool = False) -> Recipe:
    """The default recipe: that of `train` with a smaller learning rate.

    Args:
        is_quantised: Whether the network learns to be rounded.
        has_teacher: Whether it learns from a teacher, then by the cross entropy with what that
            predicts.
    """
    rate = ROUNDED_LEARNING_RATE if is_quantised else LEARNING_RATE
    if has_teacher:
        return Recipe(learning_rate=rate, distillation=SoftTargets())
    return Recipe(learning_rate=rate)


class _Course(OneNetwork):
    """A network on its way: the member of every step, and the best of it so far."""

    def __init__(
        self, subnet: Subnet, data: ImageData, graph: Graph, network: ElasticNetwork
    ) -> None:
        super().__init__(graph)
        self.graph = graph
        self.data = data
        self.network = network
        self.best, self.kept = subnet, 0
        self.accuracies: list[float] = []

    def judge(self, candidate: Subnet) -> None:
        """Notes the accuracy of a candidate and keeps it if it is the best."""
        self.accuracies.append(self.accuracy_of(candidate))
        if self.accuracies[-1] > self.accuracies[self.kept]:
            self.best, self.kept = candidate, len(self.accuracies) - 1

    def look(self) -> None:
        """Judges the network as it is now."""
        self.judge(self.candidate())

    def accuracy_of(self, candidate: Subnet) -> float:
        """On search-validation."""
        return accuracy(candidate, self.data.validation)

    @torch.no_grad()
    def candidate(self) -> Subnet:
        """The present weights as a plain network, its statistics found on training images."""
        device = next(self.network.parameters()).device
        batches = [batch.to(device) for batch in calibration(self.data)]
        statistics = self.network.recalibrate_graph(self.graph, batches)
        return self.network.extract_graph(self.graph, statistics).to("cpu")

    def rounding(self) -> dict[str, Any] | None:
        """How it was rounded, for the record."""
        return None


class _RoundedCourse(_Course):
    """A network that learns to be rounded."""

    network: FakeQuantised

    def __init__(
        self, subnet: Subnet, data: ImageData, scheme: Int8Scheme, images: Tensor
    ) -> None:
        network = FakeQuantised(subnet, scheme)
        super().__init__(subnet, data, network.graph, network)
        self.scheme, self.images = scheme, images

    def before_step(
        self,
        step: int,
        total: int,
        optimiser: torch.optim.Optimizer,
        average: MovingAverage | None,
    ) -> bool:
        if step % CALIBRATE_EVERY == 0:
            self.network.calibrate(self.images)
        return False

    def accuracy_of(self, candidate: Subnet) -> float:
        """On search-validation, rounded as its file."""
        rounded = FakeQuantised(candidate, self.scheme)
        rounded.calibrate(self.images)
        return accuracy(rounded, self.data.validation)

    @torch.no_grad()
    def candidate(self) -> Subnet:
        """The present weights as a plain network with the statistics that it has always had."""
        return self.network.extract_graph(self.graph, self.network.statistics).to("cpu")

    def rounding(self) -> dict[str, Any] | None:
        return {**self.scheme.to_json(), "calibration_images": len(self.images)}


def _course(
    subnet: Subnet,
    data: ImageData,
    scheme: Int8Scheme | None,
    images: Tensor | None,
) -> _Course:
    """The course, with the network as it was given as its first candidate."""
    course: _Course
    if scheme is None:
        layers = [(la.name, la.operator, [la]) for la in subnet.graph.layers[1:]]
        network = ElasticNetwork(layers, seed=0)
        take_weights(network, subnet)
        course = _Course(subnet, data, subnet.graph, network)
    else:
        if images is None:
            images = data.train.images[:CALIBRATION_IMAGES]
        course = _RoundedCourse(subnet, data, scheme, images)
    course.judge(subnet)
    return course


def _check(
    subnet: Subnet,
    teacher: Subnet | None,
    data: ImageData,
    quantised: Int8Scheme | None,
    calibration_images: Tensor | None,
) -> None:
    """Refuses what does not go together."""
    if subnet.training:
        raise BadInputError("call subnet.eval() before fine-tuning it")
    for network in (subnet, teacher):
        if network is not None:
            check_fits(network.graph, data)
    if calibration_images is not None and quantised is None:
        raise BadInputError(
            "calibration images are given, but nothing is quantised: pass quantised"
        )


def _described(teacher: Subnet) -> dict[str, Any]:
    """What the record says of a teacher."""
    state = {name: v.detach().cpu().numpy() for name, v in teacher.state_dict().items()}
    return {
        "macs": teacher.graph.macs,
        "parameters": teacher.graph.parameters,
        "weights_hash": array_hash(state),
    }
