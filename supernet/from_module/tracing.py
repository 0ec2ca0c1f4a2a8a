"""A module as a graph of calls, with the shape of every result and the block that makes it.

Traced symbolically by `torch.fx` (Reed et al., MLSys 2022, arXiv 2112.08429): the module's Python
runs once on placeholders, so control flow that depends on the images cannot be followed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from records import BadInputError

BATCH = 2
"""Images in the shapes; more than one, so that it cannot be taken for another size of 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """What running a module on images calls.

    Attributes:
        module: A copy of the module in eval mode.
        nodes: The calls in the order in which they run.
        paths: For each call the names of the modules that it happens in, from the outermost; for
            the call of a module that module is the last.
        shapes: For each call that gives a tensor its shape, for `BATCH` images.
    """

    module: nn.Module
    nodes: tuple[fx.Node, ...]
    paths: Mapping[fx.Node, tuple[str, ...]]
    shapes: Mapping[fx.Node, tuple[int, ...]]


def trace(module: nn.Module, *, image_size: int, channels: int) -> Trace:
    """Follows a module's computation; the module itself stays as it is.

    Raises:
        BadInputError: A module that cannot be traced, or that cannot read such images.
    """
    copied = copy.deepcopy(module).cpu().float().eval()
    tracer = _Tracer()
    try:
        graph = tracer.trace(copied)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError) as error:
        raise BadInputError(
            f"{type(module).__name__} cannot be traced: {error}; its forward must not depend on "
            "the values or sizes of the images"
        ) from error
    network = fx.GraphModule(copied, graph)
    graph.eliminate_dead_code()
    inputs = [n for n in graph.nodes if n.op == "placeholder" and not n.args]  # args: a default
    if len(inputs) != 1:
        raise BadInputError(
            f"{type(module).__name__} reads {len(inputs)} inputs; it must read the images alone"
        )
    shape = (BATCH, channels, image_size, image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    shapes = _Shapes(network)
    try:
        with torch.no_grad():
            found, expected = shapes.run(images.clone()), copied(images.clone())
    except RuntimeError as error:
        raise BadInputError(
            f"{type(module).__name__} cannot read images of {channels} x {image_size} x "
            f"{image_size}: {str(error).splitlines()[0]}"
        ) from error
    if isinstance(expected, Tensor) and not torch.allclose(
        found, expected, rtol=1e-3, atol=1e-4, equal_nan=True
    ):
        raise BadInputError(
            f"{type(module).__name__} computes other values than its trace: something is changed "
            "in place (`x += ...`) that is read again, or drawn at random in eval mode"
        )
    return Trace(module=copied, nodes=tuple(graph.nodes), paths=tracer.paths, shapes=shapes.shapes)


class _Tracer(fx.Tracer):
    """Notes the modules in which each call happens."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: dict[fx.Node, tuple[str, ...]] = {}
        self._path: tuple[str, ...] = ()

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        outer = self._path
        self._path = (*outer, self.path_of_module(m))
        try:
            return super().call_module(m, forward, args, kwargs)
        finally:
            self._path = outer

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self.paths[node] = self._path
        return node


class _Shapes(fx.Interpreter):
    """Runs the calls and notes the shapes of their results."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result
