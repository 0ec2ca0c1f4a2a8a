"""The recipe: how networks are trained, as one record of numbers and parts.

The defaults suit short trainings, where they are far ahead of BigNAS's rules (in-place
distillation, one update a step, the largest network alone at first): there the teacher knows
little yet, and the sum of all gradients makes a step no longer than that of one. The
figures, of few seeds, are in docs/benchmarks.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_args

import numpy as np

from records import BadInputError, unknown_name
from supernet.augment import Augmentation
from supernet.training.distillation import Distillation, LabelsOnly
from supernet.training.gradients import Combination, SumOfMembers
from supernet.training.members import MemberSampler, Sandwich, check_share
from supernet.training.schedules import Cosine, Schedule

Optimiser = Literal["adamw", "sgd"]
Precision = Literal["fp32", "bf16", "fp16"]
Updates = Literal["step", "member"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How networks are trained; the same for supernets and single networks.

    Attributes:
        batch_size: Images a step.
        shards: Equal parts of a batch, each normalised by itself. They are computed side by side
            where cores are free, spread over the ranks of a distributed run, and one after the
            other elsewhere, which is gradient accumulation. They belong to the recipe, not to the
            machine: the result does not depend on how many threads or ranks there are.
        optimiser: `adamw`, or `sgd` with Nesterov momentum 0.9.
        learning_rate: The highest rate.
        schedule: How the rate falls after the warm-up.
        warmup_share: Share of the steps with a linearly rising rate.
        weight_decay: On matrices and kernels, not on biases, norms, positions, scales and kernel
            transforms.
        label_smoothing: For members that learn the labels.
        clip_norm: Largest norm of the step's gradient; None for any.
        clip_value: Largest value of an entry of the gradient; None for any.
        members: Which networks a step trains.
        distillation: How members learn from their teachers.
        gradients: How the members' gradients become one.
        updates: Whether the weights change once a `step`, with all members' gradients, or after
            each `member`, on the same images. With an update of its own a subnet learns as fast
            as it would alone, while the sum of all only makes a step of the same length.
        drop_path: Chance that an image goes without the last residual branch.
        dropout: Chance that an input of the classifier is 0.
        regularise: Whether drop path and dropout hold for the `largest` member only (BigNAS, Yu
            et al., ECCV 2020), if the step trains it, or for `all`.
        ema: Decay of an exponential moving average of the weights, which replaces them at the end
            of training; None for none.
        augment: How images are changed. True for the default, geometry that grows with the passes
            over the images (`Augmentation.growing`); an `Augmentation` is used as given in all
            of them; False for not at all.
        precision: Of activations in forward and backward passes; weights and updates are fp32.
        spike_factor: A member whose loss is so many times its usual one is dropped; above 1.
    """

    batch_size: int = 64
    shards: int = 2
    optimiser: Optimiser = "adamw"
    learning_rate: float = 3e-3
    schedule: Schedule = field(default_factory=Cosine)
    warmup_share: float = 0.1
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    clip_norm: float | None = 1.0
    clip_value: float | None = None
    members: MemberSampler = field(default_factory=Sandwich)
    distillation: Distillation = field(default_factory=LabelsOnly)
    gradients: Combination = field(default_factory=SumOfMembers)
    updates: Updates = "member"
    drop_path: float = 0.0
    dropout: float = 0.0
    regularise: Literal["largest", "all"] = "largest"
    ema: float | None = None
    augment: bool | Augmentation = True
    precision: Precision = "fp32"
    spike_factor: float = 20.0

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise BadInputError(f"batch_size must be >= 2, got {self.batch_size}")
        if not 1 <= self.shards <= self.batch_size // 2:
            raise BadInputError(
                f"shards must be 1 to half of batch_size ({self.batch_size // 2}), got "
                f"{self.shards}"
            )
        for name, known in (("optimiser", get_args(Optimiser)), ("precision", get_args(Precision)),
                            ("regularise", ("largest", "all")),
                            ("updates", get_args(Updates))):  # fmt: skip
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        for name in ("learning_rate", "clip_norm", "clip_value"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadInputError(f"{name} must be positive, got {value}")
        if not self.weight_decay >= 0:
            raise BadInputError(f"weight_decay must be >= 0, got {self.weight_decay}")
        if not self.spike_factor > 1:
            raise BadInputError(f"spike_factor must be above 1, got {self.spike_factor}")
        for name in ("warmup_share", "label_smoothing", "drop_path", "dropout", "ema"):
            if getattr(self, name) is not None:
                check_share(name, getattr(self, name))
        if self.updates == "member" and self.gradients.needs_both:
            part = type(self.gradients).__name__
            raise BadInputError(
                f"{part} needs the gradients of all members: use updates='step', got 'member'"
            )
        if max(self.drop_path, self.dropout) == 1 or self.ema == 1:
            raise BadInputError("drop_path, dropout and ema must be below 1")

    def augmentation(self, epoch: int) -> Augmentation | None:
        """How images are changed in a pass over them, counted from 0; None for not at all."""
        if isinstance(self.augment, Augmentation):
            return self.augment
        return Augmentation.growing(epoch) if self.augment else None

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON-ready values; a part is its class's name and its attributes."""
        return {f.name: _record(getattr(self, f.name)) for f in fields(self)}


def _record(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_record(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _record(v) for k, v in value.items()}
    names = [f.name for f in fields(value)] if is_dataclass(value) else list(vars(value))
    return {"part": type(value).__name__, **{n: _record(getattr(value, n)) for n in names}}
