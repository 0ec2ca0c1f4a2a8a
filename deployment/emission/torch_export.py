"""The way out for networks with a primitive that has no emitter: torch's own exporter.

It takes about a second, and gives none of the forms that run fastest: attention is spelled out,
tokens are batches of matrices. The exporter by tracing is asked first: it takes a tenth of the
time of the newer one, which needs the package `onnxscript` and is asked where tracing fails.
"""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from deployment.emission.graph_writer import INPUT, OUTPUT
from records import HwnasError
from supernet import Subnet

OPSET = 20

BATCH = "batch"
"""The name of the first axis in a file for any number of images."""

EXAMPLES = 2
"""Images by which torch finds out what depends on their number; 1 would be a constant to it."""


class ExportError(HwnasError, RuntimeError):
    """A network that cannot be exported."""


def torch_export(
    subnet: Subnet, batch_size: int | None, name: str, primitives: Sequence[str]
) -> onnx.ModelProto:
    """The ONNX model of a subnet as torch writes it.

    Args:
        subnet: The network, in eval mode.
        batch_size: Images a run, fixed in the file; None for any number, which needs the newer
            exporter: tracing makes the number a constant somewhere.
        name: The graph's name.
        primitives: Those without an emitter, for the message.

    Raises:
        ExportError: torch cannot export the network; names the primitives.
    """
    first = subnet.graph.layers[0]
    parameter = next(subnet.parameters(), None)
    device = None if parameter is None else parameter.device
    n = EXAMPLES if batch_size is None else batch_size
    images = torch.zeros((n, first.channels, first.height, first.width), device=device)
    try:
        model = _exported(subnet, images, batch_size is None)
        onnx.checker.check_model(model)
        if batch_size is None:
            _check_is_dynamic(model)
    except Exception as error:  # whatever a user's module and torch's exporters raise
        instead = ", or export it with a fixed batch size" if batch_size is None else ""
        raise ExportError(
            f"torch cannot export this network: {error}; write an emitter for "
            f"{', '.join(primitives)} with deployment.add_emitter{instead}"
        ) from error
    if not model.graph.input:  # the logits do not depend on the images: zeros cut them off
        shape = [batch_size or BATCH, *images.shape[1:]]
        info = onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, shape)
        model.graph.input.append(info)
    model.graph.name = name
    return model


def _exported(subnet: Subnet, images: torch.Tensor, is_dynamic: bool) -> onnx.ModelProto:
    """By tracing, and where that fails by the newer exporter if it can be had."""
    exporters = logging.getLogger("torch.onnx")
    level = exporters.level
    exporters.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that sizes become constants, which they are here
            subnet(images)  # constants that are made on the first call are then there
            if is_dynamic:
                return _captured(subnet, images, dynamic_shapes=({0: torch.export.Dim(BATCH)},))
            try:
                return _traced(subnet, images)
            except Exception:
                if importlib.util.find_spec("onnxscript") is None:
                    raise
                return _captured(subnet, images)
    finally:
        exporters.setLevel(level)


def _check_is_dynamic(model: onnx.ModelProto) -> None:
    """Refuses a file in which torch took the number of images for a constant."""
    for entry in model.graph.input:
        if entry.type.tensor_type.shape.dim[0].dim_value:
            raise ValueError("a module fixes the number of images, for instance by len(x)")


_OPTIONS: dict[str, Any] = {
    "input_names": [INPUT], "output_names": [OUTPUT], "opset_version": OPSET,
}  # fmt: skip


def _traced(subnet: Subnet, images: torch.Tensor) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(subnet, (images,), path, dynamo=False, **_OPTIONS)
        return onnx.load(path)


def _captured(subnet: Subnet, images: torch.Tensor, **shapes: Any) -> onnx.ModelProto:
    program = torch.onnx.export(
        subnet, (images,), dynamo=True, verbose=False, **_OPTIONS, **shapes
    )
    assert program is not None
    return program.model_proto
