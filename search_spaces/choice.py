"""A named, typed, conditional, scoped choice: one gene of a search space."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from records import BadInputError
from search_spaces.expression import Condition, Expression

Scope: TypeAlias = Literal["architecture", "numerics", "platform"]
Value: TypeAlias = int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One decision: a name, the values it may take, and when it exists at all.

    Attributes:
        name: Unique in the space, e.g. `stage2.layer1.kernel`.
        values: At least two distinct values of one type. Numbers are in ascending order, so that a
            larger gene means a larger network; names have no order.
        scope: `architecture` changes the network, `numerics` accuracy and cost, `platform` cost.
        active_if: Holds where the choice means something. It may read earlier choices only.
        condition_key: The condition as a plain value that can be compared.

    Raises:
        BadInputError: Values that are no choice, an unknown scope.
    """

    name: str
    values: tuple[Value, ...]
    scope: Scope = "architecture"
    active_if: Condition = field(default=True, compare=False)
    condition_key: object = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name:
            raise BadInputError("a choice needs a name, e.g. 'stage1.width'")
        kinds = {str if isinstance(v, str) else float for v in self.values}
        if len(self.values) < 2 or len(set(self.values)) != len(self.values) or len(kinds) != 1:
            raise BadInputError(
                f"choice {self.name!r} needs two or more distinct values of one type, "
                f"got {self.values!r}"
            )
        if not self.is_categorical and list(self.values) != sorted(self.values):
            raise BadInputError(
                f"choice {self.name!r} needs its numbers in ascending order, got {self.values!r}"
            )
        if self.scope not in get_args(Scope):
            raise BadInputError(
                f"choice {self.name!r} has scope {self.scope!r}; allowed: {get_args(Scope)}"
            )
        condition = self.active_if
        key = condition.key if isinstance(condition, Expression) else condition
        object.__setattr__(self, "condition_key", key)

    @property
    def is_categorical(self) -> bool:
        """Whether the values are names, without an order."""
        return isinstance(self.values[0], str)

    @property
    def value(self) -> Expression:
        """The chosen value, to be used in shapes and conditions."""
        return Expression("choice", (self.name,))
