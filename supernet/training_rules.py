"""The rules of training that stand in code and not in a recipe, as numbers in a checkpoint.

A recipe says `augment=True`; what that means stands in code. Whoever changes what one of these
rules makes of the same recipe, seed and step raises its number. A run that began under another
number is then not continued silently: it would end with weights that neither version gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

RULES: Mapping[str, int] = {
    "batches": 1,  # which images a step trains on (supernet.training.batches)
    "augmentation": 1,  # how images are changed (supernet.augment and its parts)
    "members": 1,  # which networks a step trains (supernet.training.members and its like)
    "updates": 1,  # how weights change (supernet.training.step, guard, optimisation)
}

_DECIDING = ("torch", "numpy")
"""Packages whose versions decide the weights, to the last bit or more."""


def changed_rules(saved: Mapping[str, Any]) -> Iterator[str]:
    """How the rules that a checkpoint was begun under differ from these."""
    for name, number in RULES.items():
        if saved.get(name) != number:
            yield f"{name}: rule {saved.get(name)} there, {number} here"


def changed_versions(saved: Mapping[str, Any], mine: Mapping[str, str]) -> Iterator[str]:
    """Which of the packages that decide weights are here in another version."""
    for name in _DECIDING:
        if name in mine and saved.get(name) != mine[name]:
            yield f"{name} {saved.get(name)} there, {mine[name]} here"
