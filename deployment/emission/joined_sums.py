"""Which sums of convolutions are one convolution in the file, and for which choices.

The rules of `supernet.reparameterise` as conditions on choices, for the kernel table:
convolutions of one input with the same stride, with norms and factors behind them, and norms of
that input. Stated is what blocks such as `search_spaces.blocks.rep_conv` need: one branch has the
widest kernel for all choices and is declared first, and the convolutions have the same groups. A
sum of another kind that the file joins all the same is in the table as it was declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from deployment.kernel_tables.data_flow import DataFlow
from search_spaces import Node
from search_spaces.expression import Condition, Dim, Expression, both, is_equal, negate, same

Joined = dict[int, list[tuple[int, Condition]]]
"""For layers the convolutions that they are part of, with the conditions."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Form:
    """A layer's output as a convolution of another one's.

    Attributes:
        source: The layer whose output is convolved.
        main: The layer that is a convolution with this kernel; None for a norm alone.
        layers: All that compute it.
        on: When it is one.
        kernel: Side of the kernel.
        stride: Of the convolution.
        padding: Of the convolution.
        dilation: Of the convolution.
        groups: Of the convolution.
    """

    source: int
    main: int | None
    layers: tuple[int, ...]
    on: Condition
    kernel: Dim = 1
    stride: Dim = 1
    padding: Dim = 0
    dilation: Dim = 1
    groups: Dim = 0


def joined_sums(nodes: Sequence[Node], flow: DataFlow) -> Joined:
    """For the layers of such sums, the widest convolution's own apart, what they are part of.

    Args:
        nodes: The declared layers.
        flow: What becomes of their values.
    """
    joined: Joined = {}
    forms: list[_Form | None] = []
    for index, node in enumerate(nodes):
        a = node.attributes
        form: _Form | None = None
        if node.operator == "conv2d":
            form = _Form(
                source=node.inputs[0], main=index, layers=(index,), on=node.active,
                kernel=a["kernel"], stride=a["stride"], padding=a["padding"],
                dilation=a["dilation"], groups=a["groups"],
            )  # fmt: skip
        elif node.operator in ("batch_norm", "scale"):
            form = _behind(nodes, flow, forms, index)
        elif node.operator == "add":
            form = _sum(nodes, flow, forms, index, joined)
        forms.append(form)
    return joined


def _behind(
    nodes: Sequence[Node], flow: DataFlow, forms: Sequence[_Form | None], index: int
) -> _Form | None:
    """A norm or factors behind a convolution; a norm of something else by itself."""
    node = nodes[index]
    before = _alone(flow, forms, index, 0)
    if before is not None:
        on = flow.settled(both(before.on, node.active), False)
        return replace(before, layers=(*before.layers, index), on=on)
    if node.operator == "scale":
        return None
    return _Form(source=node.inputs[0], main=None, layers=(index,), on=node.active)


def _alone(flow: DataFlow, forms: Sequence[_Form | None], index: int, place: int) -> _Form | None:
    """The form of a layer's input, where nothing else reads that."""
    source = flow.nodes[index].inputs[place]
    form = forms[source]
    if form is None:
        return None
    on = form.on
    for reader in flow.readers[source]:
        if reader != (index, place):
            on = both(on, negate(flow.reads[reader]))
    on = flow.settled(on, False)
    return None if on is False else replace(form, on=on)


def _sum(
    nodes: Sequence[Node],
    flow: DataFlow,
    forms: Sequence[_Form | None],
    index: int,
    joined: Joined,
) -> _Form | None:
    """The sum of two convolutions as one; notes which layers then are part of which."""
    first, second = (_alone(flow, forms, index, place) for place in (0, 1))
    if first is None or second is None or first.source != second.source:
        return None
    wide, small = first, second
    if wide.main is None or flow.settled(_is_wider(small.kernel, wide.kernel), True) is not False:
        wide, small = second, first
    if wide.main is None or flow.settled(_is_wider(small.kernel, wide.kernel), True) is not False:
        return None
    if small.main is not None and not same(small.groups, wide.groups):
        return None
    if min(small.layers) < wide.main:
        return None
    there = both(nodes[index].active, both(wide.on, small.on))
    on = flow.settled(both(there, _fit(wide, small)), False)
    if on is False:
        return None
    for layer in (*small.layers, index):
        before = [(host, both(when, negate(on))) for host, when in joined.get(layer, ())]
        left = [(host, flow.settled(when, False)) for host, when in before]
        joined[layer] = [(wide.main, on), *((h, when) for h, when in left if when is not False)]
    return replace(wide, layers=(*wide.layers, *small.layers, index), on=on)


def _is_wider(kernel: Dim, other: Dim) -> Condition:
    if isinstance(kernel, Expression):
        return kernel > other
    return other < kernel if isinstance(other, Expression) else bool(kernel > other)


def _fit(wide: _Form, small: _Form) -> Condition:
    """When two convolutions have the same stride and lie centre on centre."""
    border = wide.dilation * (wide.kernel - small.kernel)
    centred = is_equal(2 * (wide.padding - small.padding), border)
    if not same(small.kernel, 1):
        centred = both(centred, is_equal(small.dilation, wide.dilation))
    return both(is_equal(wide.stride, small.stride), centred)
