"""What the rules make of fixed seeds.

Where one of these tests fails, a rule has changed: raise its number in `supernet.training_rules`,
so that runs begun under the old one are not continued.
"""

from dataclasses import replace

import pytest
import torch

from supernet import Recipe, Supernet, train
from supernet.training import BatchSource, Sandwich
from supernet.training_rules import RULES, changed_rules, changed_versions
from tests.supernet.doubles import TINY, draw_of, easy_data

DATA = replace(easy_data(64), flip=True)
IN_EPOCH_20 = 20 * 8 + 1


def batch(step, augment):
    return BatchSource(DATA, Recipe(batch_size=8, augment=augment), 3).batch(step)


def weighted(images):
    return float((images * torch.linspace(0, 1, images.numel()).view(images.shape)).sum())


def test_the_rule_of_batches_is_number_1():
    assert RULES["batches"] == 1
    assert batch(0, False)[1].tolist() == [0, 0, 1, 1, 1, 3, 3, 0]
    images, labels = batch(IN_EPOCH_20, False)
    assert labels.tolist() == [2, 0, 0, 0, 1, 3, 3, 0]
    assert weighted(images) == pytest.approx(16.28925, abs=1e-3)


def test_the_rule_of_augmentation_is_number_1():
    assert RULES["augmentation"] == 1
    images, _ = batch(0, True)  # mirrored only
    assert weighted(images) == pytest.approx(24.33226, abs=1e-3)
    assert float(images.std()) == pytest.approx(1.161215, abs=1e-4)
    images, _ = batch(IN_EPOCH_20, True)
    assert weighted(images) == pytest.approx(19.08472, abs=1e-3)
    assert float(images.std()) == pytest.approx(0.759659, abs=1e-4)


def test_the_rule_of_members_is_number_1():
    assert RULES["members"] == 1
    drawn = Sandwich(random_subnets=2).members(draw_of(TINY, step=5, seed=3))
    assert [m.genes.tolist() for m in drawn] == [
        [1, 1, 1, 0, 0, 1, 1], [0, 1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0], [0] * 7,
    ]  # fmt: skip


def test_the_rule_of_updates_is_number_1():
    assert RULES["updates"] == 1
    recipe = Recipe(batch_size=16)
    supernet = train(Supernet(TINY, seed=3), DATA, epochs=1, recipe=recipe, seed=3)
    sizes = [float(p.detach().abs().sum()) for p in supernet.parameters()]
    assert sizes[:2] == pytest.approx([8.8649, 8.0013], rel=1e-3)
    assert sum(sizes) == pytest.approx(1067.5003, rel=1e-3)


def test_changes_are_said_one_by_one():
    assert list(changed_rules(dict(RULES))) == []
    assert list(changed_rules({**RULES, "batches": 7})) == ["batches: rule 7 there, 1 here"]
    assert len(list(changed_rules({}))) == len(RULES)
    mine = {"torch": "2.13", "numpy": "2.4", "optuna": "5"}
    assert list(changed_versions(mine | {"optuna": "4"}, mine)) == []
    assert list(changed_versions({"torch": "2.12"}, mine)) == [
        "torch 2.12 there, 2.13 here", "numpy None there, 2.4 here",
    ]  # fmt: skip
