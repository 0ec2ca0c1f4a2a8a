"""One architecture's network as plain layers: what the static module and the emitter read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from records import BadInputError
from search_spaces.primitives import ACTIVATIONS, ATTRIBUTES, OPERATORS


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A primitive with its sizes. Inputs are positions in the graph's layers."""

    name: str
    operator: str
    inputs: tuple[int, ...]
    in_channels: int
    in_height: int
    in_width: int
    channels: int
    height: int
    width: int
    kernel: int
    stride: int
    padding: int
    groups: int
    bias: int
    heads: int
    qk_dim: int
    v_dim: int
    activation: int
    macs: int
    parameters: int

    @property
    def tokens(self) -> int:
        """The number of positions of the output."""
        return self.height * self.width

    @property
    def activation_name(self) -> str:
        return ACTIVATIONS[self.activation]

    def describe(self) -> str:
        """A short text such as `conv 3x3 /2, 32 channels`."""
        if self.operator == "conv2d":
            depthwise = self.groups == self.channels and self.groups > 1
            what = "depthwise" if depthwise else "conv"
            step = f" /{self.stride}" if self.stride > 1 else ""
            return f"{what} {self.kernel}x{self.kernel}{step}, {self.channels} channels"
        if self.operator == "attention":
            return f"attention, {self.heads} heads of {self.qk_dim}, {self.tokens} tokens"
        if self.operator == "linear":
            return f"linear {self.in_channels} to {self.channels}"
        if self.operator == "activation":
            return self.activation_name
        return self.operator.replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The layers of one architecture in the order in which they run; the last is the output."""

    layers: tuple[Layer, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(layer.parameters for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """The graph as JSON-ready values."""
        return {"layers": [asdict(layer) for layer in self.layers]}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Graph:
        """The graph that `to_json` wrote.

        Raises:
            BadInputError: Layers of another version, or something else altogether.
        """
        names = {field.name for field in fields(Layer)}
        try:
            layers = []
            for entry in value["layers"]:
                if set(entry) != names or entry["operator"] not in OPERATORS:
                    raise BadInputError(f"layer {entry.get('name')!r} is not of this version")
                layers.append(Layer(**{**entry, "inputs": tuple(entry["inputs"])}))
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInputError(f"this is not a graph: {error}") from error
        _check(layers)
        return Graph(layers=tuple(layers))


_INPUTS = {"input": 0, "add": 2}
"""How many inputs a primitive has, where it is not one."""


def _check(layers: Sequence[Layer]) -> None:
    """Refuses layers that were damaged: numbers that are none, inputs that are not before."""
    if [i for i, layer in enumerate(layers) if layer.operator == "input"] != [0]:
        raise BadInputError("this is not a graph: its first layer, and no other, is the input")
    for place, layer in enumerate(layers):
        sizes = [getattr(layer, name) for name in (*ATTRIBUTES, "macs", "parameters")]
        if not all(type(v) is int and v >= 0 for v in (*layer.inputs, *sizes)):
            raise BadInputError(f"layer {layer.name!r} has sizes that are no natural numbers")
        if len(layer.inputs) != _INPUTS.get(layer.operator, 1) or any(
            i >= place for i in layer.inputs
        ):
            raise BadInputError(f"layer {layer.name!r} does not read layers before it")
        if layer.activation >= len(ACTIVATIONS):
            raise BadInputError(f"layer {layer.name!r} has an unknown activation")
