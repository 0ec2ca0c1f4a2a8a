"""One architecture's network as plain layers: what the static module and the emitter read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from records import BadInputError
from search_spaces.primitives import ACTIVATIONS, ATTRIBUTES, MIXINGS, PRIMITIVES


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
    dilation: int
    groups: int
    bias: int
    heads: int
    qk_dim: int
    v_dim: int
    window: int
    mixing: int
    activation: int
    slot: int
    macs: int
    parameters: int

    @property
    def tokens(self) -> int:
        """The number of positions of the output."""
        return self.height * self.width

    @property
    def activation_name(self) -> str:
        return ACTIVATIONS[self.activation]

    @property
    def mixing_name(self) -> str:
        return MIXINGS[self.mixing]

    @property
    def keys(self) -> int:
        """The positions that each query of an attention layer sees."""
        return self.window**2 if self.window else self.tokens

    @property
    def is_depthwise(self) -> bool:
        """Whether this is a convolution of every channel by itself."""
        return self.operator == "conv2d" and self.groups == self.in_channels > 1

    def describe(self) -> str:
        """A short text such as `conv 3x3 /2, 32 channels`."""
        if self.operator == "conv2d":
            what = "depthwise" if self.is_depthwise else "conv"
            if self.groups > 1 and not self.is_depthwise:
                what = f"conv in {self.groups} groups"
            step = f" /{self.stride}" if self.stride > 1 else ""
            return f"{what} {self.kernel}x{self.kernel}{step}, {self.channels} channels"
        if self.operator == "attention":
            what = "linear attention" if self.mixing_name == "linear" else "attention"
            windows = f" in windows of {self.window}x{self.window}" if self.window else ""
            return f"{what}, {self.heads} heads of {self.qk_dim}, {self.tokens} tokens{windows}"
        if self.operator == "linear":
            return f"linear {self.in_channels} to {self.channels}"
        if self.operator == "activation":
            return self.activation_name
        if self.operator == "resize":
            return f"resize to {self.height}x{self.width}"
        if self.operator in ("avg_pool", "max_pool"):
            what = "mean" if self.operator == "avg_pool" else "maximum"
            return f"{what} {self.kernel}x{self.kernel} /{self.stride}"
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
                if set(entry) != names or entry["operator"] not in PRIMITIVES:
                    raise BadInputError(f"layer {entry.get('name')!r} is not of this version")
                layers.append(Layer(**{**entry, "inputs": tuple(entry["inputs"])}))
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInputError(f"this is not a graph: {error}") from error
        _check(layers)
        return Graph(layers=tuple(layers))


def _check(layers: Sequence[Layer]) -> None:
    """Refuses layers that were damaged: numbers that are none, inputs that are not before."""
    if [i for i, layer in enumerate(layers) if layer.operator == "input"] != [0]:
        raise BadInputError("this is not a graph: its first layer, and no other, is the input")
    for place, layer in enumerate(layers):
        sizes = [getattr(layer, name) for name in (*ATTRIBUTES, "macs", "parameters")]
        if not all(type(v) is int and v >= 0 for v in (*layer.inputs, *sizes)):
            raise BadInputError(f"layer {layer.name!r} has sizes that are no natural numbers")
        expected = PRIMITIVES[layer.operator].inputs
        wrong = not layer.inputs if expected is None else len(layer.inputs) != expected
        if wrong or any(i >= place for i in layer.inputs):
            raise BadInputError(f"layer {layer.name!r} does not read layers before it")
        if layer.activation >= len(ACTIVATIONS) or layer.mixing >= len(MIXINGS):
            raise BadInputError(f"layer {layer.name!r} has an unknown activation or mixing")
