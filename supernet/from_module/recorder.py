"""The layers that a traced module turns into, recorded call by call."""

from __future__ import annotations

import math
from typing import Any

from torch import fx, nn

from records import BadInputError
from supernet.from_module.module_space import TracedLayer
from supernet.from_module.tracing import Trace

SUPPORTED = (
    "Conv2d, BatchNorm2d, Linear; ReLU, ReLU6, SiLU, Hardswish, GELU, Sigmoid, Hardsigmoid; "
    "MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, the mean over all positions; Flatten, view and "
    "reshape to n x values; Dropout, Identity; sums, and products with a gate of one position; "
    "all but those with weights also as functions"
)


class Recorder:
    """Layers so far, and where each call's result is found.

    A feature map that is flattened stays a map here and is remembered as flat: a linear map behind
    it is the convolution over the whole of it.

    Args:
        trace: The module's calls.

    Attributes:
        layers: In the order in which they run.
        shapes: The shape of each layer's output for one image; at 0 that of the images.
        calls: The call that each layer comes from.
        places: For each call that gives a tensor its layer, 0 for the images.
        flat: The calls whose result is a flattened map.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.layers: list[TracedLayer] = []
        self.shapes: list[tuple[int, ...]] = []
        self.calls: list[fx.Node] = []
        self.places: dict[fx.Node, int] = {}
        self.flat: set[fx.Node] = set()
        named = trace.module.named_modules()
        weighted = (name for name, m in named if any(True for _ in m.parameters(recurse=False)))
        self._taken = {name.replace(".", "_") for name in weighted}
        self._called: set[str] = set()

    def images(self, node: fx.Node) -> None:
        """Records the input; a further one has a default, which must not be used."""
        if self.shapes and node.users:
            raise self.refused(node, "a second input")
        if not self.shapes:
            self.places[node] = 0
            self.shapes.append(self.shape(node)[1:])

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The shape of a call's result, with the batch."""
        return self.trace.shapes[node]

    def image_shape(self, node: fx.Node) -> tuple[int, ...]:
        """The shape for one image of the layer behind a call: of a flattened map, the map's."""
        return self.shapes[self.places[node]]

    def tensor(self, node: fx.Node, argument: Any) -> fx.Node:
        """An argument that must be a recorded tensor."""
        if not isinstance(argument, fx.Node) or argument not in self.places:
            raise self.refused(node, "an argument that is no result of an earlier layer")
        return argument

    def record(self, node: fx.Node, operator: str, *inputs: fx.Node, **sizes: Any) -> None:
        """Records a call as a layer; its result is flat where its first input is."""
        places = tuple(self.places[i] for i in inputs)
        if operator == "add":  # the shortcut, which is there before the branch, comes first
            places = tuple(sorted(places))
        name = self._name(node, operator)
        self.layers.append(TracedLayer(name=name, operator=operator, inputs=places, **sizes))
        self.calls.append(node)
        is_flat = inputs[0] in self.flat
        self.shapes.append(self.image_shape(inputs[0]) if is_flat else self.shape(node)[1:])
        self.places[node] = len(self.layers)
        if is_flat:
            self.flat.add(node)

    def pass_on(self, node: fx.Node, source: fx.Node) -> None:
        """Records that a call changes nothing."""
        self.places[node] = self.places[source]
        if source in self.flat:
            self.flat.add(node)

    def flatten(self, node: fx.Node, source: fx.Node) -> None:
        """Records that a call makes one vector an image."""
        shape = self.image_shape(source)
        if len(shape) == 1 or source in self.flat:
            self.pass_on(node, source)
        elif math.prod(shape[1:]) == 1:
            self.record(node, "global_pool", source)
            self.shapes[-1] = shape[:1]
        else:
            self.pass_on(node, source)
            self.flat.add(node)

    def convolve_whole(self, node: fx.Node, source: fx.Node, linear: nn.Linear) -> None:
        """Records a linear map of a flattened feature map."""
        side = self.image_shape(source)[1]  # images are square, and so all maps
        self.flat.discard(source)
        self.record(node, "conv2d", source, channels=linear.out_features, kernel=side,
                    bias=linear.bias is not None)  # fmt: skip
        self.flat.add(source)
        whole = self.places[node]
        name = self._free(f"{self.layers[-1].name}.pool")
        self.layers.append(TracedLayer(name=name, operator="global_pool", inputs=(whole,)))
        self.calls.append(node)
        self.shapes[-1] = (linear.out_features, 1, 1)
        self.shapes.append((linear.out_features,))
        self.places[node] = len(self.layers)

    def check_unread(self, node: fx.Node, source: fx.Node) -> None:
        """Refuses a call that changes a tensor in place which others read after it."""
        order = {n: i for i, n in enumerate(self.trace.nodes)}
        for same, place in self.places.items():
            late = [user for user in same.users if order[user] > order[node]]
            if same is not node and place == self.places[source] and late:
                raise self.refused(node, f"a change in place of what {late[0].name!r} reads later")

    def refused(self, node: fx.Node, what: str) -> BadInputError:
        """An error that names a call."""
        if node.op == "call_module":
            module = self.trace.module.get_submodule(str(node.target))
            called = f"module {node.target!r} ({type(module).__name__})"
        else:
            within = self.trace.paths[node][-1:]
            target = getattr(node.target, "__name__", node.target)
            called = f"{target!r}" + (f" in {within[0]!r}" if within else "")
        reason = f" with {what}" if what else ""
        return BadInputError(f"{called}{reason} is not understood; what is: {SUPPORTED}")

    def _name(self, node: fx.Node, operator: str) -> str:
        """The module's name, or that of the module around a function and the primitive's."""
        if node.op != "call_module":
            return self._free(".".join((*self.trace.paths[node][-1:], operator)))
        name = str(node.target)
        module = self.trace.module.get_submodule(name)
        if not any(True for _ in module.parameters(recurse=False)):
            return self._free(name)
        if name in self._called:
            raise BadInputError(
                f"module {name!r} is called twice: layers that share their weights are not "
                "understood"
            )
        self._called.add(name)
        return name

    def _free(self, name: str) -> str:
        """The name, numbered where it is taken."""
        free, number = name, 1
        while free.replace(".", "_") in self._taken:
            free, number = f"{name}_{number}", number + 1
        self._taken.add(free.replace(".", "_"))
        return free
