"""A user's choices for a traced module: which layers they mean, and what hangs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

from torch import nn

from records import BadInputError, unknown_name
from supernet.from_module.module_space import TracedLayer
from supernet.from_module.recorder import Recorder

Options: TypeAlias = Mapping[str, Mapping[str, Sequence[int]]]
"""For names, or patterns of names, in a module: what may vary, and the values."""

OPTIONS: Final[Mapping[str, str]] = {
    "out_channels": "width",
    "out_features": "width",
    "kernel": "kernel",
    "kernel_size": "kernel",
    "depth": "depth",
}
"""What may vary, as torch and as this package calls it."""

Values: TypeAlias = tuple[int, ...]


def apply_options(
    recorder: Recorder, options: Options
) -> tuple[tuple[TracedLayer, ...], tuple[tuple[str, Values], ...]]:
    """The layers with the choices that they depend on, and the values of these choices.

    Raises:
        BadInputError: A name that the module does not have, a size that cannot vary, values whose
            greatest is not the module's own, two different sets of values for one size.
    """
    wanted: dict[str, list[tuple[str, Values]]] = {"depth": [], "width": [], "kernel": []}
    for pattern, sizes in options.items():
        for option, values in sizes.items():
            if option not in OPTIONS:
                raise unknown_name(f"option of {pattern!r}", option, OPTIONS)
            kind = OPTIONS[option]
            wanted[kind].append((pattern, _checked(f"{option} of {pattern!r}", kind, values)))
    work = _Choices(recorder)
    for pattern, values in wanted["depth"]:  # before widths, which optional blocks tie
        work.choose_depth(pattern, values)
    for pattern, values in wanted["width"]:
        work.choose_width(pattern, values)
    for pattern, values in wanted["kernel"]:
        work.choose_kernel(pattern, values)
    return work.layers(), tuple((name, v) for name, v in work.offered.items() if len(v) > 1)


class _Choices:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.offered: dict[str, Values] = {}
        self._blocks: dict[str, tuple[str, int]] = {}  # a block's name: its chain's choice, number
        self._widths: dict[int, str] = {}  # a class of layers: its choice
        self._kernels: dict[int, str] = {}  # a layer: its choice
        self._above = list(range(len(recorder.shapes)))
        self._fixed = {0: "the images", len(recorder.layers): "the logits"}
        for place, layer in enumerate(recorder.layers, start=1):
            for source in layer.inputs:
                if layer.is_grouped:
                    self._fixed[place] = self._fixed[source] = f"the groups of {layer.name!r}"
                elif not layer.mixes:
                    self._tie(place, source)

    def _find(self, place: int) -> int:
        while self._above[place] != place:
            self._above[place] = place = self._above[self._above[place]]
        return place

    def _tie(self, first: int, second: int) -> None:
        """Makes the widths of two layers one, named after the first of them."""
        first, second = sorted((self._find(first), self._find(second)))
        self._above[second] = first

    def _offer(self, name: str, values: Values) -> None:
        if self.offered.setdefault(name, values) != values:
            raise BadInputError(
                f"{name} is given two sets of values, {self.offered[name]} and {values}; layers "
                "that a sum ties together have one width"
            )

    def _path(self, place: int) -> tuple[str, ...]:
        """The names of the modules that a layer is in."""
        return self.recorder.trace.paths[self.recorder.calls[place - 1]]

    # ---- depth ----------------------------------------------------------------------------------

    def choose_depth(self, pattern: str, values: Values) -> None:
        """Makes the last blocks of a chain of modules optional."""
        chains = {
            name: [f"{name}.{child}" if name else child for child, _ in module.named_children()]
            for name, module in self.recorder.trace.module.named_modules()
            if isinstance(module, nn.Sequential | nn.ModuleList) and _matches(name, pattern)
        }
        if not chains:
            raise BadInputError(f"{pattern!r} names no Sequential or ModuleList; depth is of one")
        for chain, blocks in chains.items():
            if max(values) != len(blocks):
                raise BadInputError(
                    f"{chain!r} has {len(blocks)} blocks: the greatest depth must be that, "
                    f"got {values}"
                )
            choice = f"{chain}.depth" if chain else "depth"
            self._offer(choice, values)
            for number in range(min(values), len(blocks)):
                self._check_block(blocks, number)
                self._blocks[blocks[number]] = (choice, number)

    def _check_block(self, blocks: Sequence[str], number: int) -> None:
        """Refuses a block that cannot be skipped, and ties its width to its input's."""
        name = blocks[number]
        sources, results = self._ends(name)
        if not results:
            return  # it does nothing
        before = self._ends(blocks[number - 1])[1] if number else set()
        shapes = self.recorder.shapes
        if len(sources) != 1 or len(results) != 1 or (before and before != sources):
            raise BadInputError(f"block {name!r} does not read the block before it and no other")
        (source,), (result,) = sources, results
        if shapes[source] != shapes[result]:
            raise BadInputError(
                f"block {name!r} makes {shapes[result]} of {shapes[source]} (channels, height, "
                "width), so it cannot be skipped; raise the least depth"
            )
        self._tie(source, result)

    def _ends(self, block: str) -> tuple[set[int], set[int]]:
        """What a block reads from outside, and which of its layers are read outside."""
        layers = self.recorder.layers
        inside = {p for p in range(1, len(layers) + 1) if block in self._path(p)}
        sources, results = set(), inside & {len(layers)}
        for place, layer in enumerate(layers, start=1):
            if place in inside:
                sources |= set(layer.inputs) - inside
            else:
                results |= set(layer.inputs) & inside
        return sources, results

    # ---- width and kernel -----------------------------------------------------------------------

    def _named(self, pattern: str) -> list[tuple[int, TracedLayer]]:
        """The layers that a name or pattern means; of a container, those within."""
        found = [
            (place, layer)
            for place, layer in enumerate(self.recorder.layers, start=1)
            if _matches(layer.name, pattern) or pattern in self._path(place)[:-1]
        ]
        if not found:
            names = {layer.name for layer in self.recorder.layers}
            raise unknown_name("layer of the module", pattern, names)
        return found

    def choose_width(self, pattern: str, values: Values) -> None:
        """Makes the width of layers elastic, with that of all that are tied to them."""
        found = [(place, layer) for place, layer in self._named(pattern) if layer.mixes]
        if not found:
            raise BadInputError(
                f"{pattern!r} names no Conv2d of one group and no Linear: other layers have the "
                "width of what they read"
            )
        for place, layer in found:
            root = self._find(place)
            for fixed, why in self._fixed.items():
                if self._find(fixed) == root:
                    raise BadInputError(f"the width of {layer.name!r} is fixed by {why}")
            if max(values) != layer.channels:
                raise BadInputError(
                    f"{layer.name!r} has {layer.channels} channels: the greatest value must be "
                    f"that, got {values}"
                )
            first = next(
                la for p, la in enumerate(self.recorder.layers, start=1)
                if la.mixes and self._find(p) == root
            )  # fmt: skip
            self._widths[root] = f"{first.name}.out_channels"
            self._offer(self._widths[root], values)

    def choose_kernel(self, pattern: str, values: Values) -> None:
        """Makes the kernel of convolutions elastic; patterns pass over those of one position."""
        found = [
            (place, layer)
            for place, layer in self._named(pattern)
            if self._is_conv(place) and (layer.kernel > 1 or layer.name == pattern)
        ]
        if not found:
            raise BadInputError(f"{pattern!r} names no Conv2d with a kernel above 1")
        if any(k % 2 == 0 for k in values):
            raise BadInputError(f"kernels must be odd, got {values} for {pattern!r}")
        for place, layer in found:
            if max(values) != layer.kernel:
                raise BadInputError(
                    f"{layer.name!r} has a {layer.kernel}x{layer.kernel} kernel: the greatest "
                    f"value must be that, got {values}"
                )
            if layer.padding != layer.dilation * (layer.kernel // 2):
                raise BadInputError(
                    f"{layer.name!r} has padding {layer.padding}: an elastic kernel has half its "
                    "size, so that the map's size stays"
                )
            self._kernels[place] = f"{layer.name}.kernel"
            self._offer(self._kernels[place], values)

    def _is_conv(self, place: int) -> bool:
        name = str(self.recorder.calls[place - 1].target)
        is_conv = self.recorder.layers[place - 1].operator == "conv2d"
        return is_conv and isinstance(self.recorder.trace.module.get_submodule(name), nn.Conv2d)

    def layers(self) -> tuple[TracedLayer, ...]:
        """The layers, each with its choices; those of one value are none."""
        return tuple(
            replace(
                layer,
                width=self._open(self._widths.get(self._find(place), "")) if layer.mixes else "",
                kernels=self._open(self._kernels.get(place, "")),
                inside=tuple(
                    self._blocks[module]
                    for module in self._path(place)
                    if module in self._blocks and self._open(self._blocks[module][0])
                ),
            )
            for place, layer in enumerate(self.recorder.layers, start=1)
        )

    def _open(self, choice: str) -> str:
        return choice if len(self.offered.get(choice, ())) > 1 else ""


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _checked(what: str, kind: str, values: Sequence[int]) -> Values:
    least = 0 if kind == "depth" else 1
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
    if not values or not whole or min(values) < least or len(set(values)) != len(values):
        raise BadInputError(
            f"{what} needs one or more distinct integers from {least} on, got {values!r}"
        )
    return tuple(sorted(values))
