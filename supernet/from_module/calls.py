"""What each call of a traced module means as a layer."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from records import BadInputError
from supernet.from_module.recorder import Recorder
from supernet.from_module.tracing import BATCH, Trace

Handler = Callable[[Recorder, fx.Node, nn.Module | None], None]


def lower(trace: Trace, num_classes: int) -> Recorder:
    """The layers that a module consists of.

    Raises:
        BadInputError: A call that is not understood, named; results that are not `n x num_classes`
            values.
    """
    recorder = Recorder(trace)
    for node in trace.nodes:
        if node.op == "placeholder":
            recorder.images(node)
        elif node.op == "output":
            _check_output(recorder, node.args[0], num_classes)
        elif node in trace.shapes:
            _call(recorder, node)
        # what gives no tensor is a size; those who use it say whether they understand it
    return recorder


def _check_output(recorder: Recorder, result: Any, num_classes: int) -> None:
    if not isinstance(result, fx.Node) or result not in recorder.places:
        raise BadInputError("the module must give one tensor, the logits n x classes")
    shape = recorder.shape(result)
    if shape[1:] != (num_classes,) or result in recorder.flat or recorder.places[result] == 0:
        raise BadInputError(
            f"the module gives values of shape {('n', *shape[1:])}, expected n x {num_classes} "
            "(num_classes) from a linear layer or a mean"
        )


def _call(recorder: Recorder, node: fx.Node) -> None:
    kind: Any = node.target
    module = None
    if node.op == "call_module":
        module = recorder.trace.module.get_submodule(str(node.target))
        kind = type(module)
    handler = HANDLERS.get(kind)
    if handler is None:
        raise recorder.refused(node, "")
    if handler is not _identity and _is_in_place(node, module):
        recorder.check_unread(node, _first(recorder, node))
    handler(recorder, node, module)


def _is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a call changes its first argument."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    given = _arguments(node, "input", "inplace").get("inplace") is True
    return given or node.target in (operator.iadd, operator.imul)


def _arguments(node: fx.Node, *names: str) -> dict[str, Any]:
    """The arguments of a function or method by name, as far as they are given."""
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _first(recorder: Recorder, node: fx.Node) -> fx.Node:
    return recorder.tensor(node, node.args[0] if node.args else node.kwargs.get("input"))


# ---- layers with weights ------------------------------------------------------------------------


def _conv(recorder: Recorder, node: fx.Node, module: nn.Module | None) -> None:
    assert isinstance(module, nn.Conv2d)
    kernel, stride, dilation = (
        _square(recorder, node, name, getattr(module, name))
        for name in ("kernel_size", "stride", "dilation")
    )
    padding: Any = module.padding
    if padding == "valid":
        padding = 0
    elif padding == "same":
        if dilation * (kernel - 1) % 2:
            raise recorder.refused(node, "padding on one side only")
        padding = dilation * (kernel - 1) // 2
    if module.padding_mode != "zeros":
        raise recorder.refused(node, f"padding_mode {module.padding_mode!r}")
    source = _first(recorder, node)
    is_depthwise = 1 < module.groups == module.in_channels == module.out_channels
    recorder.record(
        node, "conv2d", source, channels=module.out_channels, kernel=kernel, stride=stride,
        padding=_square(recorder, node, "padding", padding), dilation=dilation,
        groups=0 if is_depthwise else module.groups, bias=module.bias is not None,
    )  # fmt: skip


def _linear(recorder: Recorder, node: fx.Node, module: nn.Module | None) -> None:
    assert isinstance(module, nn.Linear)
    source = _first(recorder, node)
    if source in recorder.flat:
        recorder.convolve_whole(node, source, module)
    elif len(recorder.image_shape(source)) != 1:
        raise recorder.refused(node, "an input that is not one vector an image")
    else:
        recorder.record(node, "linear", source, channels=module.out_features,
                        bias=module.bias is not None)  # fmt: skip


def _batch_norm(recorder: Recorder, node: fx.Node, module: nn.Module | None) -> None:
    assert isinstance(module, nn.BatchNorm2d)
    if module.running_mean is None:
        raise recorder.refused(node, "no running statistics")
    recorder.record(node, "batch_norm", _first(recorder, node))


# ---- functions ----------------------------------------------------------------------------------


def _activation(kind: str) -> Handler:
    def handle(recorder: Recorder, node: fx.Node, module: nn.Module | None) -> None:
        settings: Mapping[str, Any] = node.kwargs if module is None else vars(module)
        if settings.get("approximate", "none") != "none":
            raise recorder.refused(node, f"approximate {settings['approximate']!r}")
        recorder.record(node, "activation", _first(recorder, node), activation=kind)

    return handle


def _identity(recorder: Recorder, node: fx.Node, module: nn.Module | None) -> None:
    recorder.pass_on(node, _first(recorder, node))


def _sum(recorder: Recorder, node: fx.Node, module: nn.Module | None) -> None:
    arguments = _arguments(node, "input", "other")
    first, second = (recorder.tensor(node, arguments.get(k)) for k in ("input", "other"))
    if arguments.get("alpha", 1) != 1:
        raise recorder.refused(node, f"alpha {arguments['alpha']}")
    if recorder.shape(first) != recorder.shape(second):
        raise recorder.refused(node, "tensors of different shapes")
    if recorder.image_shape(first) != recorder.image_shape(second):
        raise recorder.refused(node, "a flattened map and a vector")
    recorder.record(node, "add", first, second)


def _product(recorder: Recorder, node: fx.Node, module: nn.Module | None) -> None:
    arguments = _arguments(node, "input", "other")
    x, gate = (recorder.tensor(node, arguments.get(k)) for k in ("input", "other"))
    if recorder.shape(x)[2:] == (1, 1):
        x, gate = gate, x
    shapes = recorder.shape(x), recorder.shape(gate)
    if shapes[1][2:] != (1, 1) or len(shapes[0]) != 4 or shapes[0][1] != shapes[1][1]:
        raise recorder.refused(node, "factors that are not a feature map and a gate n x C x 1 x 1")
    recorder.record(node, "multiply", x, gate)


def _reshape(recorder: Recorder, node: fx.Node, module: nn.Module | None) -> None:
    source = _first(recorder, node)
    shape = recorder.shape(node)
    before = recorder.image_shape(source)
    if shape == recorder.shape(source):
        recorder.pass_on(node, source)
    elif len(shape) == 2 and shape[0] == BATCH:
        recorder.flatten(node, source)
    elif shape[:2] == (BATCH, *before[:1]) and set(shape[2:]) == {1} and len(shape) == 3:
        recorder.flatten(node, source)  # n x C x 1 on the way to n x C
    else:
        raise recorder.refused(node, f"a result of shape {('n', *shape[1:])}")


def _mean(recorder: Recorder, node: fx.Node, module: nn.Module | None) -> None:
    arguments = _arguments(node, "input", "dim", "keepdim")
    source = _first(recorder, node)
    axes = arguments.get("dim")
    axes = {a % 4 for a in axes} if isinstance(axes, list | tuple) else {axes}
    if len(recorder.shape(source)) != 4 or axes != {2, 3}:
        raise recorder.refused(node, "other axes than the positions of a feature map")
    recorder.record(node, "squeeze" if len(recorder.shape(node)) == 4 else "global_pool", source)


def _pool(operator_: str) -> Handler:
    order = {
        "max_pool": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
        "avg_pool": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
                     "divisor_override"),
    }[operator_]  # fmt: skip

    def handle(recorder: Recorder, node: fx.Node, module: nn.Module | None) -> None:
        given = _arguments(node, "input", *order) if module is None else vars(module)
        kernel = _square(recorder, node, "kernel_size", given["kernel_size"])
        stride = _square(recorder, node, "stride", given.get("stride") or kernel)
        padding = _square(recorder, node, "padding", given.get("padding", 0))
        if _square(recorder, node, "dilation", given.get("dilation", 1)) != 1:
            raise recorder.refused(node, "dilation")
        if given.get("divisor_override") is not None:
            raise recorder.refused(node, "divisor_override")
        if operator_ == "avg_pool" and padding and given.get("count_include_pad", True):
            raise recorder.refused(node, "padding that counts in the mean")
        source = _first(recorder, node)
        size = recorder.image_shape(source)[-1]
        if recorder.shape(node)[-1] != (size + 2 * padding - kernel) // stride + 1:
            raise recorder.refused(node, "ceil_mode")
        recorder.record(node, operator_, source, kernel=kernel, stride=stride, padding=padding)

    return handle


def _adaptive_pool(recorder: Recorder, node: fx.Node, module: nn.Module | None) -> None:
    source = _first(recorder, node)
    size, new = recorder.shape(source)[-1], recorder.shape(node)[-1]
    if recorder.shape(node)[2] != new or recorder.shape(source)[2] != size or size % new:
        raise recorder.refused(node, f"{size} positions a side pooled to {new}")
    if new == size:
        recorder.pass_on(node, source)
    elif new > 1:
        recorder.record(node, "avg_pool", source, kernel=size // new, stride=size // new)
    elif _is_flattened(recorder, node):
        recorder.record(node, "global_pool", source)
        recorder.shapes[-1] = recorder.shapes[-1][:1]
    else:
        recorder.record(node, "squeeze", source)


def _is_flattened(recorder: Recorder, node: fx.Node) -> bool:
    """Whether all that read a call's result want one vector an image."""
    for user in node.users:
        module = None
        kind: Any = user.target
        if user.op == "call_module":
            module = recorder.trace.module.get_submodule(str(user.target))
            kind = type(module)
        if HANDLERS.get(kind) is _identity:
            if not _is_flattened(recorder, user):
                return False
        elif HANDLERS.get(kind) is not _reshape or len(recorder.shape(user)) == 4:
            return False
    return True


def _square(recorder: Recorder, node: fx.Node, name: str, value: Any) -> int:
    """A size that is the same along both axes."""
    sizes = set(value) if isinstance(value, list | tuple) else {value}
    if len(sizes) != 1 or not isinstance(size := sizes.pop(), int):
        raise recorder.refused(node, f"{name} {value}")
    return size


HANDLERS: dict[Any, Handler] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm2d: _batch_norm,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    F.adaptive_avg_pool2d: _adaptive_pool,
    **dict.fromkeys((nn.MaxPool2d, F.max_pool2d, torch.max_pool2d), _pool("max_pool")),
    **dict.fromkeys((nn.AvgPool2d, F.avg_pool2d), _pool("avg_pool")),
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, F.dropout2d), _identity),
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _sum),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), _product),
    **dict.fromkeys(
        (nn.Flatten, torch.flatten, torch.squeeze, "flatten", "view", "reshape", "squeeze"),
        _reshape,
    ),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu, "relu", "relu_"), _activation("relu")),
    **dict.fromkeys((nn.ReLU6, F.relu6), _activation("relu6")),
    **dict.fromkeys((nn.SiLU, F.silu), _activation("silu")),
    **dict.fromkeys((nn.Hardswish, F.hardswish), _activation("hardswish")),
    **dict.fromkeys((nn.GELU, F.gelu), _activation("gelu")),
    **dict.fromkeys((nn.Sigmoid, F.sigmoid, torch.sigmoid, "sigmoid"), _activation("sigmoid")),
    **dict.fromkeys((nn.Hardsigmoid, F.hardsigmoid), _activation("hardsigmoid")),
}
"""What is done with each kind of module, function or method (by its name)."""
