"""Which layers' outputs a declared layer may read, given that layers in front may be skipped.

A skipped layer passes on its first input. So behind an optional block the next layer reads either
the block's last layer or what the block itself would have read, depending on the choices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces.builder import Node
from search_spaces.choice import Choice
from search_spaces.expression import Condition, Expression, both, choices_of, negate
from search_spaces.tabulate import an_example

MOST_SETTINGS = 1 << 16
"""Conditions on more settings of the choices than this are taken as able to hold together."""


class Sources:
    """Answers for one space which layers can really be read.

    Args:
        choices: The space's choices.
        nodes: Its declared layers.
    """

    def __init__(self, choices: Sequence[Choice], nodes: Sequence[Node]) -> None:
        self._choices = choices
        self._nodes = nodes
        self._sizes = {c.name: len(c.values) for c in choices}
        self._keys = {
            id(node.active): node.active.key
            for node in nodes
            if isinstance(node.active, Expression)
        }
        self._known: dict[object, bool] = {}

    def of_input(self, place: int, k: int) -> list[int]:
        """The layers that the `k`-th input of a layer may come from."""
        node = self._nodes[place]
        return self._walk(node.active, node.inputs[k])

    def of_output(self) -> list[int]:
        """The layers that may give the network's output."""
        return self._walk(True, len(self._nodes) - 1)

    def _walk(self, active: Condition, place: int) -> list[int]:
        """From a layer back along first inputs, as far as layers can be skipped."""
        holds: dict[object, tuple[Expression, bool]] = {}
        if isinstance(active, Expression):
            holds[self._keys[id(active)]] = (active, True)
        found: list[int] = []
        while True:
            condition = self._nodes[place].active
            if not isinstance(condition, Expression):  # always there
                return [*found, place]
            if self._can_hold(holds, condition, True):
                found.append(place)
            if not self._can_hold(holds, condition, False):
                return found
            holds[self._keys[id(condition)]] = (condition, False)
            place = self._nodes[place].inputs[0]

    def _can_hold(
        self, holds: dict[object, tuple[Expression, bool]], condition: Expression, truth: bool
    ) -> bool:
        """Whether a condition can be true (or false) beside those that hold."""
        key = self._keys[id(condition)]
        if key in holds:
            return holds[key][1] == truth
        related = _related(holds, condition)
        question = (frozenset((k, holds[k][1]) for k in related), key, truth)
        if question not in self._known:
            joint: Condition = condition if truth else negate(condition)
            for other in related:
                expression, value = holds[other]
                joint = both(joint, expression if value else negate(expression))
            self._known[question] = self._has_example(joint)
        return self._known[question]

    def _has_example(self, condition: Condition) -> bool:
        settings = np.prod([float(self._sizes[name]) for name in choices_of(condition)])
        if settings > MOST_SETTINGS:
            return True
        return an_example(self._choices, condition) is not None


def _related(holds: dict[object, tuple[Expression, bool]], condition: Expression) -> list[object]:
    """The conditions that share choices with one, directly or through others."""
    choices, left, found = set(condition.choices), dict(holds), list[object]()
    grew = True
    while grew:
        grew = False
        for key, (expression, _) in list(left.items()):
            if expression.choices & choices:
                choices |= expression.choices
                found.append(key)
                del left[key]
                grew = True
    return found
