"""Integer expressions over choices: how a space says that one number follows from others.

A width that is chosen, a hidden width that is `width * expansion`, a layer that exists if
`depth > 3`: each is an `Expression`. It is evaluated on arrays, for all candidates at once, and it
knows which choices it reads, so that whatever depends on a few choices only can be tabulated
(`search_spaces.tabulate`).

`Dim` is what a network declaration takes: a plain number or an expression. Arithmetic of two plain
numbers stays a plain number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError

Array: TypeAlias = npt.NDArray[Any]


def _divide_up(a: Array, b: Array) -> Array:
    return np.asarray(-(-a // b))


def _round_to(a: Array, divisor: Array) -> Array:
    rounded = np.maximum(divisor, np.floor(a / divisor + 0.5) * divisor)
    return np.asarray(rounded, np.int64)


def _make_divisible(a: Array, divisor: Array) -> Array:
    rounded = _round_to(a, divisor)
    return np.asarray(np.where(rounded < 0.9 * a, rounded + divisor, rounded), np.int64)


_OPERATIONS: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "floor_divide": np.floor_divide,
    "divide_up": _divide_up,
    "round_to": _round_to,
    "make_divisible": _make_divisible,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "where": np.where,
}


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """A function of choices: an operation on numbers and further expressions.

    The operation `choice` reads the value of the choice named by the only argument. Comparisons
    (`==` too) make conditions; combine them with `&`, `|` and `~`. Whether two expressions are
    written alike is asked with `same`.

    >>> depth = Expression("choice", ("depth",))
    >>> (depth > 2).evaluate({"depth": np.array([2, 3])})
    array([False,  True])
    """

    operation: str
    arguments: tuple[Any, ...]
    choices: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if self.operation == "choice":
            names = frozenset(self.arguments)
        else:
            names = frozenset[str]().union(
                *(a.choices for a in self.arguments if isinstance(a, Expression))
            )
        object.__setattr__(self, "choices", names)

    def evaluate(
        self, values: Mapping[str, Array], known: dict[int, Array] | None = None
    ) -> Array:
        """The expression's value for every candidate.

        Args:
            values: For each choice that is read, an array of length `n` with the chosen values.
            known: The values of parts, by identity. It is added to: given to the evaluation of
                several expressions on the same `values`, what they share is computed once. The
                expressions must live as long as it does.

        Returns:
            An array of length `n`.
        """
        return self._evaluate(values, {} if known is None else known)

    def _evaluate(self, values: Mapping[str, Array], done: dict[int, Array]) -> Array:
        if self.operation == "choice":
            return values[self.arguments[0]]
        known = done.get(id(self))
        if known is None:
            operands = [
                a._evaluate(values, done) if isinstance(a, Expression) else np.asarray(a)
                for a in self.arguments
            ]
            known = done[id(self)] = np.asarray(_OPERATIONS[self.operation](*operands))
        return known

    def __bool__(self) -> bool:
        """Refused: a condition on choices has no truth value while the network is declared."""
        raise BadInputError(
            "a choice has no value yet when the network is declared: write `with net.when(...)` "
            "or `where(...)` instead of `if`"
        )

    def __add__(self, other: Dim) -> Expression:
        return Expression("add", (self, other))

    def __radd__(self, other: Dim) -> Expression:
        return Expression("add", (other, self))

    def __sub__(self, other: Dim) -> Expression:
        return Expression("subtract", (self, other))

    def __rsub__(self, other: Dim) -> Expression:
        return Expression("subtract", (other, self))

    def __mul__(self, other: Dim) -> Expression:
        return Expression("multiply", (self, other))

    def __rmul__(self, other: Dim) -> Expression:
        return Expression("multiply", (other, self))

    def __floordiv__(self, other: Dim) -> Expression:
        return Expression("floor_divide", (self, other))

    def __rfloordiv__(self, other: Dim) -> Expression:
        return Expression("floor_divide", (other, self))

    def __gt__(self, other: Dim) -> Expression:
        return Expression("greater", (self, other))

    def __ge__(self, other: Dim) -> Expression:
        return Expression("greater_equal", (self, other))

    def __lt__(self, other: Dim) -> Expression:
        return ~(self >= other)

    def __le__(self, other: Dim) -> Expression:
        return ~(self > other)

    def __and__(self, other: Condition) -> Condition:
        return both(self, other)

    def __or__(self, other: Condition) -> Condition:
        return either(self, other)

    def __invert__(self) -> Expression:
        return Expression("not", (self,))

    def equals(self, other: Dim | str) -> Expression:
        """Whether the value equals a number or a name; the same as `==`."""
        return Expression("equal", (self, other))

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        """The condition that the values are equal."""
        return Expression("equal", (self, other))

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        """The condition that the values differ."""
        return ~(self == other)

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> tuple[Any, ...]:
        """The expression as nested tuples, equal for expressions that are written alike."""
        return (
            self.operation,
            *(a.key if isinstance(a, Expression) else (type(a), a) for a in self.arguments),
        )

    def substitute(self, values: Mapping[str, Any]) -> Any:
        """The expression with some choices fixed to values; a plain value if nothing is left."""
        return self._substitute(values, {})

    def _substitute(self, values: Mapping[str, Any], done: dict[int, Any]) -> Any:
        if not self.choices & values.keys():
            return self
        if self.operation == "choice":
            return values[self.arguments[0]]
        if id(self) not in done:
            arguments = tuple(
                a._substitute(values, done) if isinstance(a, Expression) else a
                for a in self.arguments
            )
            if any(isinstance(a, Expression) for a in arguments):
                done[id(self)] = Expression(self.operation, arguments)
            else:
                with np.errstate(divide="ignore"):
                    result = _OPERATIONS[self.operation](*map(np.asarray, arguments))
                done[id(self)] = result.item()
        return done[id(self)]


Dim: TypeAlias = int | float | Expression
Condition: TypeAlias = bool | Expression


def choices_of(dim: Dim | str) -> frozenset[str]:
    """The names of the choices that a number or expression reads (none for a number)."""
    return dim.choices if isinstance(dim, Expression) else frozenset()


def evaluate(
    dim: Dim | str, values: Mapping[str, Array], n: int, known: dict[int, Array] | None = None
) -> Array:
    """An array of length `n` with the value for every candidate, plain numbers repeated.

    For `known` see `Expression.evaluate`.
    """
    result = dim.evaluate(values, known) if isinstance(dim, Expression) else np.asarray(dim)
    return np.broadcast_to(result, (n,))


def same(a: Any, b: Any) -> bool:
    """Whether two numbers, names or expressions are written alike."""
    if isinstance(a, Expression) and isinstance(b, Expression):
        return _alike(a, b, {})
    return not isinstance(a, Expression) and not isinstance(b, Expression) and bool(a == b)


def _alike(a: Any, b: Any, known: dict[tuple[int, int], bool]) -> bool:
    """Whether two arguments are written alike; shared parts are compared once.

    A map's size is an expression in which that of the map before stands several times, so that
    the tree grows exponentially with the number of layers, but not the number of pairs.
    """
    if a is b:
        return True
    if not (isinstance(a, Expression) and isinstance(b, Expression)):
        return type(a) is type(b) and bool(a == b)
    if a.operation != b.operation or len(a.arguments) != len(b.arguments):
        return False
    pair = (id(a), id(b))
    if pair not in known:
        known[pair] = a.choices == b.choices and all(
            _alike(x, y, known) for x, y in zip(a.arguments, b.arguments, strict=True)
        )
    return known[pair]


def both(a: Condition, b: Condition) -> Condition:
    """Whether both conditions hold; constants are folded."""
    if isinstance(a, bool):
        return b if a else False
    if isinstance(b, bool):
        return a if b else False
    return a if same(a, b) else Expression("and", (a, b))


def either(a: Condition, b: Condition) -> Condition:
    """Whether one of the conditions holds; constants are folded."""
    if isinstance(a, bool):
        return True if a else b
    if isinstance(b, bool):
        return True if b else a
    return a if same(a, b) else Expression("or", (a, b))


def negate(condition: Condition) -> Condition:
    """Whether the condition does not hold."""
    return ~condition if isinstance(condition, Expression) else not condition


def is_equal(a: Dim | str, b: Dim | str) -> Condition:
    """Whether two numbers or names are the same, folded when both are known."""
    if isinstance(a, Expression):
        return a.equals(b)
    if isinstance(b, Expression):
        return b.equals(a)
    return a == b


def where(condition: Condition, yes: Dim, no: Dim) -> Dim:
    """`yes` where the condition holds, else `no`; folded when nothing is left to decide."""
    if isinstance(condition, bool):
        return yes if condition else no
    if same(yes, no):
        return yes
    return Expression("where", (condition, yes, no))


def divide_up(a: Dim, b: Dim) -> Dim:
    """`ceil(a / b)` in integers."""
    if isinstance(a, Expression) or isinstance(b, Expression):
        return Expression("divide_up", (a, b))
    return -(-a // b)


def round_to(a: Dim, divisor: int) -> Dim:
    """The multiple of `divisor` nearest to `a` (halves go up), at least `divisor`.

    Channel counts are rounded so (Sandler et al., MobileNetV2, 2018), because kernels work on
    blocks of 8 or 16 channels.
    """
    if isinstance(a, Expression):
        return Expression("round_to", (a, divisor))
    return int(_round_to(np.asarray(a), np.asarray(divisor)))


def make_divisible(a: Dim, divisor: int) -> Dim:
    """As `round_to`, one step up where that would lose more than a tenth.

    The rule of the MobileNets' reference code for channel counts (Sandler et al., 2018).
    """
    if isinstance(a, Expression):
        return Expression("make_divisible", (a, divisor))
    return int(_make_divisible(np.asarray(a), np.asarray(divisor)))
