"""The machinery under a network declaration: names, conditions, checks.

`search_spaces.network` builds the primitives' methods on it. Sizes are kept in their simplest form
(`search_spaces.tabulate.simplify`), so a layer's row in the tables reads only those choices on
which it really depends. Checks look at every combination of the choices involved, so what no
network can have is found while it is declared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import overload

from records import BadInputError, unknown_name
from search_spaces.choice import Choice, Scope, Value
from search_spaces.expression import Condition, Dim, Expression, both, is_equal, negate, where
from search_spaces.primitives import ATTRIBUTES, PRIMITIVES
from search_spaces.tabulate import an_example, simplify

MAP, TOKENS, VECTOR = 0, 1, 2
FORMS = ("a feature map", "tokens", "one vector an image")


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """The result of a declared layer.

    Attributes:
        node: The layer's number.
        channels: Channels of a map, width of tokens or of the vector.
        height: Positions in a column; a sequence has `height * width` tokens.
        width: Positions in a row.
        form: 0 for a feature map, 1 for tokens, 2 for one vector an image.
    """

    node: int
    channels: Dim
    height: Dim
    width: Dim
    form: Dim = MAP


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """A declared layer: a primitive, its inputs, its attributes, and when it is there.

    Attributes:
        name: Unique in the network, e.g. `stage1.layer0.expand`.
        operator: The primitive.
        inputs: The nodes whose output it reads; the first is passed on where it is skipped.
        attributes: Every name of `ATTRIBUTES`.
        active: When the layer is there.
    """

    name: str
    operator: str
    inputs: tuple[int, ...]
    attributes: Mapping[str, Dim]
    active: Condition


class Builder:
    """Records choices and layers in the order in which they are declared.

    Args:
        allowed: For choices by name the values that are allowed; None allows all.
    """

    def __init__(self, allowed: Mapping[str, Sequence[Value]] | None = None) -> None:
        self.choices: list[Choice] = []
        self.nodes: list[Node] = []
        self.declared: dict[str, tuple[Value, ...]] = {}
        """All values of every choice that was met, allowed or not, single values included."""
        self._allowed = dict(allowed or {})
        self._names: dict[str, str] = {}
        self._scope: tuple[str, ...] = ()
        self._condition: Condition = True

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefixes the names of what is declared inside."""
        outer = self._scope
        self._scope = (*outer, name)
        try:
            yield
        finally:
            self._scope = outer

    @contextmanager
    def when(self, condition: Condition) -> Iterator[None]:
        """Declares choices and layers that are there only where the condition holds.

        Raises:
            BadInputError: An integer: `~` of a plain truth value, which Python takes for a number.
        """
        if type(condition) is int:
            raise BadInputError(
                f"a condition is true or false, got {condition}; negate(...) for ~"
            )
        outer = self._condition
        self._condition = self._fold(both(outer, condition))
        try:
            yield
        finally:
            self._condition = outer

    @overload
    def choice(
        self, name: str, values: Sequence[str], *, scope: Scope = ...
    ) -> Expression | str: ...

    @overload
    def choice(
        self, name: str, values: Sequence[int] | Sequence[float], *, scope: Scope = ...
    ) -> Dim: ...

    def choice(
        self, name: str, values: Sequence[Value], *, scope: Scope = "architecture"
    ) -> Dim | str:
        """Declares a choice and returns the chosen value; a single value is no gene.

        Where the surrounding condition never holds there is nothing to choose: no gene either.

        Raises:
            BadInputError: No values, or values that are no choice.
        """
        path = self._path(name)
        if len(values) == 0:
            raise BadInputError(f"choice {path!r} has no values")
        self.declared[path] = tuple(values)
        if path in self._allowed:
            kept = self._allowed[path]
            foreign = [v for v in kept if v not in values]
            if foreign or not kept:
                raise BadInputError(
                    f"choice {path!r} cannot be restricted to {tuple(kept)}; "
                    f"allowed: one or more of {tuple(values)}"
                )
            values = [v for v in values if v in kept]
        if len(values) == 1:
            return values[0]
        choice = Choice(name=path, values=tuple(values), scope=scope, active_if=self._condition)
        if self._condition is False:
            return values[0]
        self.choices.append(choice)
        return choice.value

    def require(self, condition: Condition, what: str) -> None:
        """Refuses a space in which the condition can fail where it is stated.

        Raises:
            BadInputError: `what`, and a setting of the choices for which the condition fails.
        """
        wrong = both(self._condition, negate(condition))
        example = an_example(self.choices, wrong)
        if example is not None:
            where_ = ", ".join(f"{name}={value}" for name, value in example.items())
            raise BadInputError(f"{what}{f' (with {where_})' if where_ else ''}")

    def primitive(
        self,
        operator: str,
        inputs: Sequence[Tensor],
        *,
        channels: Dim | None = None,
        height: Dim | None = None,
        width: Dim | None = None,
        form: Dim | None = None,
        name: str | None = None,
        **attributes: Dim,
    ) -> Tensor:
        """Declares a layer by its primitive's name; this is how a user's own primitive is called.

        Args:
            operator: The primitive, one of `PRIMITIVES`.
            inputs: What it reads.
            channels: Of the output; like `height`, `width` and `form` those of the first input
                unless given.
            height: Of the output.
            width: Of the output.
            form: 0 for a feature map, 1 for tokens, 2 for a vector.
            name: The layer's name, the primitive's unless given.
            attributes: Further names of `ATTRIBUTES`.

        Raises:
            BadInputError: An unknown primitive or attribute, the wrong number of inputs, a name
                that is taken.
        """
        path = self._path(name or operator)
        _check_call(path, operator, len(inputs), attributes)
        first = inputs[0] if inputs else Tensor(-1, 0, 0, 0)
        if self._condition is False:
            return first
        self._take_name(path)
        channels = first.channels if channels is None else self._simple(channels)
        height = first.height if height is None else self._simple(height)
        width = first.width if width is None else self._simple(width)
        form = first.form if form is None else form
        values: dict[str, Dim] = dict.fromkeys(ATTRIBUTES, 0)
        values.update(
            in_channels=first.channels, in_height=first.height, in_width=first.width,
            channels=channels, height=height, width=width, **attributes,
        )  # fmt: skip
        active = self._condition
        self.nodes.append(
            Node(
                name=path,
                operator=operator,
                inputs=tuple(x.node for x in inputs),
                attributes=MappingProxyType(values),
                active=active,
            )
        )
        return Tensor(
            len(self.nodes) - 1,
            self._simple(where(active, channels, first.channels)),
            self._simple(where(active, height, first.height)),
            self._simple(where(active, width, first.width)),
            self._simple(where(active, form, first.form)),
        )

    def _take_name(self, path: str) -> None:
        # modules are named with underscores, since torch does not allow dots
        key = path.replace(".", "_")
        if key in self._names:
            raise BadInputError(
                f"two layers are named {path!r} and {self._names[key]!r}, which are the same name "
                "(dots count as underscores); use `with net.scope(...)`"
            )
        self._names[key] = path

    def _require_form(self, x: Tensor, form: int, what: str) -> None:
        for other, text in enumerate(FORMS):
            if other != form:
                self.require(
                    negate(is_equal(x.form, other)),
                    f"{what} works on {FORMS[form]} but would get {text}"
                    f"{': use to_tokens or to_map' if VECTOR not in (form, other) else ''}",
                )

    def _require_same(self, sizes: str, first: Tensor, second: Tensor, what: str) -> None:
        for size in sizes.split():
            a, b = getattr(first, size), getattr(second, size)
            known = isinstance(a, int) and isinstance(b, int) and size != "form"
            numbers = f"of {a} and {b} {size}" if known else f"whose {size} differs"
            self.require(is_equal(a, b), f"{what} tensors {numbers}: they must agree")

    def _path(self, name: str) -> str:
        return ".".join((*self._scope, name))

    def _simple(self, dim: Dim) -> Dim:
        simple: Dim = simplify(self.choices, dim)
        return simple

    def _fold(self, condition: Condition) -> Condition:
        """The condition in its simplest form, or the constant that it is."""
        simple = simplify(self.choices, condition)
        return simple if isinstance(simple, Expression) else bool(simple)


def _check_call(path: str, operator: str, inputs: int, attributes: Mapping[str, Dim]) -> None:
    if operator not in PRIMITIVES:
        raise unknown_name("primitive", operator, PRIMITIVES)
    for attribute in attributes:
        if attribute not in ATTRIBUTES:
            raise unknown_name("attribute", attribute, ATTRIBUTES)
    expected = PRIMITIVES[operator].inputs
    if inputs != expected and not (expected is None and inputs):
        raise BadInputError(f"layer {path!r} has {inputs} inputs, expected {expected}")
