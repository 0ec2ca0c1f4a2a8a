"""How a space declares its networks: the largest network, written once, with choices inside.

A space's `build` method calls a `NetworkBuilder` much as a torch module's `forward` calls layers.
Sizes may be choices. Layers declared inside `with net.when(condition)` are skipped where the
condition fails, and **a skipped layer passes on its first input**: so a chain of optional blocks
is elastic depth, and two optional blocks with opposite conditions are a choice of block. An `add`
takes the shortcut as its first input for that reason.

From this one declaration come the layer table, the supernet, the extracted module and the ONNX
file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import overload

from records import BadInputError, unknown_name
from search_spaces.choice import Choice, Scope, Value
from search_spaces.expression import Condition, Dim, Expression, both, negate, where
from search_spaces.primitives import ACTIVATIONS, ATTRIBUTES
from search_spaces.tabulate import tabulate


@dataclass(frozen=True, slots=True)
class Tensor:
    """The result of a declared layer: a feature map, or `height * width` tokens."""

    node: int
    channels: Dim
    height: Dim
    width: Dim


@dataclass(frozen=True, slots=True, kw_only=True)
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


class NetworkBuilder:
    """Records choices and layers in the order in which they are declared."""

    def __init__(self) -> None:
        self.choices: list[Choice] = []
        self.nodes: list[Node] = []
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
        """Declares choices and layers that are there only where the condition holds."""
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
        path = ".".join((*self._scope, name))
        if len(values) == 0:
            raise BadInputError(f"choice {path!r} has no values")
        if len(values) == 1:
            return values[0]
        choice = Choice(name=path, values=tuple(values), scope=scope, active_if=self._condition)
        if self._condition is False:
            return values[0]
        self.choices.append(choice)
        return choice.value

    def _fold(self, condition: Condition) -> Condition:
        """The condition, or the constant that it is for all values of the choices it reads."""
        if isinstance(condition, bool):
            return condition
        holds = tabulate(self.choices, [{"holds": condition}], bool).columns["holds"]
        return bool(holds[0]) if (holds == holds[0]).all() else condition

    def input(self, channels: int, height: int, width: int) -> Tensor:
        """The images that the network reads."""
        if self.nodes:
            raise BadInputError("a network has one input, declared first")
        return self._append("input", "input", (), channels, height, width)

    def conv2d(
        self,
        x: Tensor,
        channels: Dim,
        *,
        kernel: Dim,
        stride: Dim = 1,
        groups: Dim = 1,
        padding: Dim | None = None,
        bias: bool = False,
        name: str = "conv",
    ) -> Tensor:
        """A convolution with square kernels; `padding` is `kernel // 2` unless given.

        Raises:
            BadInputError: A kernel or stride below 1.
        """
        for what, size in (("kernel", kernel), ("stride", stride)):
            fits = size >= 1 if isinstance(size, Expression) else bool(size >= 1)
            if self._fold(both(self._condition, negate(fits))) is not False:
                path = ".".join((*self._scope, name))
                raise BadInputError(f"layer {path!r} would have a {what} below 1")
        pad = kernel // 2 if padding is None else padding
        return self._append(
            name,
            "conv2d",
            (x,),
            channels,
            (x.height + 2 * pad - kernel) // stride + 1,
            (x.width + 2 * pad - kernel) // stride + 1,
            kernel=kernel,
            stride=stride,
            padding=pad,
            groups=groups,
            bias=int(bias),
        )

    def depthwise(
        self, x: Tensor, *, kernel: Dim, stride: Dim = 1, name: str = "depthwise"
    ) -> Tensor:
        """A convolution of every channel by itself."""
        return self.conv2d(
            x, x.channels, kernel=kernel, stride=stride, groups=x.channels, name=name
        )

    def batch_norm(self, x: Tensor, name: str = "norm") -> Tensor:
        """Normalisation per channel over batch and positions (Ioffe & Szegedy, 2015)."""
        return self._same("batch_norm", x, name)

    def layer_norm(self, x: Tensor, name: str = "norm") -> Tensor:
        """Normalisation of every token over its channels (Ba et al., 2016)."""
        return self._same("layer_norm", x, name)

    def activation(self, x: Tensor, kind: str, name: str = "activation") -> Tensor:
        """An activation function by name: `relu`, `gelu` (exact), `hardswish`."""
        if kind not in ACTIVATIONS[1:]:
            raise unknown_name("activation", kind, ACTIVATIONS[1:])
        return self._append(
            name, "activation", (x,), x.channels, x.height, x.width,
            activation=ACTIVATIONS.index(kind),
        )  # fmt: skip

    def add(self, shortcut: Tensor, x: Tensor, name: str = "add") -> Tensor:
        """The sum of two tensors of equal shape; the shortcut stays where the layer is skipped.

        Raises:
            BadInputError: Shapes that are plain numbers and differ.
        """
        for size in ("channels", "height", "width"):
            first, second = getattr(shortcut, size), getattr(x, size)
            if isinstance(first, int) and isinstance(second, int) and first != second:
                path = ".".join((*self._scope, name))
                raise BadInputError(
                    f"layer {path!r} adds tensors of {first} and {second} {size}: they must agree"
                )
        return self._append(
            name, "add", (shortcut, x), shortcut.channels, shortcut.height, shortcut.width
        )

    def to_tokens(self, x: Tensor, name: str = "to_tokens") -> Tensor:
        """A feature map as a sequence of tokens, row by row."""
        return self._same("to_tokens", x, name)

    def to_map(self, x: Tensor, name: str = "to_map") -> Tensor:
        """A sequence of tokens as the feature map that it came from."""
        return self._same("to_map", x, name)

    def position(self, x: Tensor, name: str = "position") -> Tensor:
        """Adds a learned embedding of each position to the tokens."""
        return self._same("position", x, name)

    def attention(
        self,
        x: Tensor,
        *,
        heads: Dim,
        qk_dim: Dim,
        v_dim: Dim | None = None,
        name: str = "attention",
    ) -> Tensor:
        """Global self-attention with its query, key and value projections (Vaswani et al., 2017).

        The result has `heads * v_dim` channels and is usually followed by a `linear`. `qk_dim` and
        `v_dim` are per head; `heads * qk_dim` need not equal the width of the input.
        """
        v = qk_dim if v_dim is None else v_dim
        return self._append(
            name, "attention", (x,), heads * v, x.height, x.width,
            heads=heads, qk_dim=qk_dim, v_dim=v, bias=1,
        )  # fmt: skip

    def linear(self, x: Tensor, channels: Dim, *, bias: bool = True, name: str) -> Tensor:
        """The same linear map of every token."""
        return self._append(name, "linear", (x,), channels, x.height, x.width, bias=int(bias))

    def global_pool(self, x: Tensor, name: str = "pool") -> Tensor:
        """The mean over all positions of a feature map or a sequence."""
        return self._append(name, "global_pool", (x,), x.channels, 1, 1)

    def _same(self, operator: str, x: Tensor, name: str) -> Tensor:
        return self._append(name, operator, (x,), x.channels, x.height, x.width)

    def _append(
        self,
        name: str,
        operator: str,
        inputs: tuple[Tensor, ...],
        channels: Dim,
        height: Dim,
        width: Dim,
        **attributes: Dim,
    ) -> Tensor:
        path = ".".join((*self._scope, name))
        first = inputs[0] if inputs else Tensor(-1, 0, 0, 0)
        if self._condition is False:
            return first
        for node in self.nodes:
            # modules are named with underscores, since torch does not allow dots
            if node.name.replace(".", "_") == path.replace(".", "_"):
                raise BadInputError(
                    f"two layers are named {path!r} and {node.name!r}, which are the same name "
                    "(dots count as underscores); use `with net.scope(...)`"
                )
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
            where(active, channels, first.channels),
            where(active, height, first.height),
            where(active, width, first.width),
        )
