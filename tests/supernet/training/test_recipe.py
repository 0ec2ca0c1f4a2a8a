import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from records import BadInputError, UnknownNameError
from supernet import Recipe
from supernet.augment import Augmentation
from supernet.training import (
    AlphaDivergence,
    Combination,
    ComplexityAware,
    ExponentialWithFloor,
    ProgressiveShrinking,
    ProjectConflicts,
)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"batch_size": 1}, "batch_size must be >= 2"),
        ({"shards": 0}, "shards must be 1 to half of batch_size"),
        ({"batch_size": 8, "shards": 5}, r"shards must be 1 to half of batch_size \(4\)"),
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"clip_norm": 0}, "clip_norm must be positive"),
        ({"clip_value": -1.0}, "clip_value must be positive"),
        ({"weight_decay": -0.1}, "weight_decay must be >= 0"),
        ({"weight_decay": float("nan")}, "weight_decay must be >= 0"),
        ({"spike_factor": 1}, "spike_factor must be above 1"),
        ({"warmup_share": 1.5}, "warmup_share must be within 0 and 1"),
        ({"label_smoothing": -0.1}, "label_smoothing must be within 0 and 1"),
        ({"drop_path": 1.0}, "must be below 1"),
        ({"dropout": 1.0}, "must be below 1"),
        ({"ema": 1.0}, "must be below 1"),
        ({"ema": float("nan")}, "ema must be within 0 and 1"),
        (
            {"updates": "member", "gradients": ProjectConflicts()},
            "ProjectConflicts needs the gradients of all members",
        ),
    ],
)
def test_recipes_that_cannot_be_followed_are_refused(options, why):
    with pytest.raises(BadInputError, match=why):
        Recipe(**options)


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("optimiser", "adamv", "adamw"),
        ("precision", "fp8", "fp16"),
        ("regularise", "larger", "largest"),
        ("updates", "members", "member"),
    ],
)
def test_unknown_names_are_refused(name, value, meant):
    with pytest.raises(UnknownNameError, match=f"unknown {name}.*{meant}"):
        Recipe(**{name: value})


def test_the_augmentation_is_the_default_a_given_one_or_none():
    halfway = Augmentation(shift=0.05, degrees=5, scale=0.05)
    expected = {0: NO_GEOMETRY, 10: halfway, 20: Augmentation(), 500: Augmentation()}
    assert {epoch: Recipe().augmentation(epoch) for epoch in expected} == expected
    given = Augmentation(cutmix=0.5)
    for epoch in expected:
        assert Recipe(augment=False).augmentation(epoch) is None
        assert Recipe(augment=given).augmentation(epoch) is given


NO_GEOMETRY = Augmentation(shift=0, degrees=0, scale=0)


RECIPES = [
    Recipe(),
    Recipe(batch_size=32),
    Recipe(ema=0.9),
    Recipe(augment=False),
    Recipe(augment=Augmentation(mixup=0.2)),
    Recipe(distillation=AlphaDivergence()),
    Recipe(distillation=AlphaDivergence(clip=3.0)),
    Recipe(updates="step"),
    Recipe(updates="step", gradients=ProjectConflicts()),
    Recipe(schedule=ExponentialWithFloor()),
    Recipe(members=ComplexityAware()),
    Recipe(members=ComplexityAware(levels=4)),
    Recipe(members=ProgressiveShrinking()),
    Recipe(members=ProgressiveShrinking(phases=ProgressiveShrinking().phases[::-1])),
]


def test_recipes_are_told_apart_by_their_json():
    texts = [json.dumps(recipe.to_json(), sort_keys=True) for recipe in RECIPES]
    assert len(set(texts)) == len(texts)
    again = [json.dumps(replace(recipe).to_json(), sort_keys=True) for recipe in RECIPES]
    assert again == texts


class Weighted(Combination):
    """A user's own part, which is no dataclass."""

    def __init__(self, weight, scales=None):
        self.weight = weight
        self.scales = scales

    def combine(self, largest, others, members, progress):
        return others


@dataclass(frozen=True)
class Nested:
    numbers: tuple[int, ...]


def test_a_users_parts_are_recorded_by_their_attributes():
    """Not by an address, which differs in every process."""
    record = Recipe(gradients=Weighted(np.float32(0.5), {"a": [1, Nested((2, 3))]})).to_json()
    assert record["gradients"] == {
        "part": "Weighted",
        "weight": 0.5,
        "scales": {"a": [1, {"part": "Nested", "numbers": [2, 3]}]},
    }
    assert Recipe(gradients=Weighted(1)).to_json() != Recipe(gradients=Weighted(2)).to_json()
