"""The emitter: a subnet as an ONNX graph, written directly with `onnx.helper`.

Direct emission takes tens of milliseconds where torch's exporters take seconds, so a search can
measure hundreds of candidates, and it gives onnxruntime the forms that run fastest there:

- batch norms and learned factors are folded into the convolution or linear map before them;
- activations are written as onnxruntime folds them into convolutions;
- tokens are a matrix `(n * tokens) x channels`, so every linear map is a `Gemm` with its bias;
- attention is the packed `com.microsoft.Attention`, with the projections inside; linear attention
  works on channels x tokens, which needs no reordering of heads (1.3-1.8 times as fast);
- means over a feature map are `GlobalAveragePool`, which stays in the blocked layout, and gates
  are enlarged in it;
- zeros and what they are added to cost nothing.

The batch size is fixed in the file. The result is checked against torch by `deployment.verify`.
A network with a primitive that has no emitter is exported by torch (`deployment.torch_export`);
the file's metadata say by what it was written.
"""

from __future__ import annotations

import functools
import logging

import onnx
from onnx import TensorProto, helper

from deployment.emission import INPUT, MICROSOFT, OUTPUT, Emission, Value
from deployment.emitters import EMITTERS
from deployment.emitters.convolution import conv2d
from deployment.emitters.tokens import linear
from deployment.folding import foldable
from deployment.torch_export import torch_export
from records import BadInputError, versions
from supernet import Subnet

logger = logging.getLogger(__name__)

OPSET = 20
IR_VERSION = 10

EXPORTERS = ("hwnas", "torch")
"""Who may have written a file: this emitter, or torch's exporter."""

_WITH_FOLDED = {"conv2d": conv2d, "linear": linear}


def emit(subnet: Subnet, batch_size: int = 1, name: str = "subnet") -> onnx.ModelProto:
    """The ONNX model of a subnet, input `images`, output `logits`.

    Where a primitive has no emitter, torch exports the whole network and a warning is logged.

    Args:
        subnet: The network, in eval mode: batch norm uses its running statistics.
        batch_size: Images a run, fixed in the file.
        name: The graph's name.

    Raises:
        BadInputError: A training-mode subnet or a batch size below 1.
        ExportError: A primitive without an emitter that torch cannot export either.
    """
    if subnet.training:
        raise BadInputError("call subnet.eval() before exporting it")
    if batch_size < 1:
        raise BadInputError(f"batch_size must be >= 1, got {batch_size}")
    unknown = sorted({layer.operator for layer in subnet.graph.layers[1:]} - set(EMITTERS))
    if unknown:
        logger.warning(
            "no emitter for %s: the network is exported by torch, in slower forms; write one "
            "with deployment.add_emitter",
            ", ".join(unknown),
        )
        model = torch_export(subnet, batch_size, name, unknown)
        helper.set_model_props(model, {"exporter": "torch"})
    else:
        model = _model(_emitted(subnet, batch_size), name)
        helper.set_model_props(model, {"exporter": "hwnas"})
    return model


def exporter_of(model: onnx.ModelProto) -> str:
    """Who wrote a file, one of `EXPORTERS`; "unknown" for files from elsewhere."""
    props = {entry.key: entry.value for entry in model.metadata_props}
    return str(props.get("exporter", "unknown"))


@functools.cache
def _own_version() -> str:
    return versions().get("hwnas", "")  # looks at every installed package


def _emitted(subnet: Subnet, batch_size: int) -> Emission:
    """All layers as nodes, the last tensor named as the output."""
    layers = subnet.graph.layers
    e = Emission(subnet=subnet, batch_size=batch_size)
    e.values.append(Value(INPUT, is_map=True))
    folded = foldable(layers)
    into = {index: main for main, chain in folded.items() for index in chain}
    for index, layer in enumerate(layers[1:], start=1):
        if index in into:
            value = e.values[into[index]]
        elif layer.operator in _WITH_FOLDED:
            after = [layers[i] for i in folded.get(index, ())]
            value = _WITH_FOLDED[layer.operator](e, layer, after)
        else:
            value = EMITTERS[layer.operator](e, layer)
        e.values.append(value)
    last = e.written(len(layers) - 1).name
    e.prune([last])
    if e.nodes and list(e.nodes[-1].output) == [last]:
        e.nodes[-1].output[0] = OUTPUT
    else:
        e.nodes.append(helper.make_node("Identity", [last], [OUTPUT], name=OUTPUT))
    return e


def _model(e: Emission, name: str) -> onnx.ModelProto:
    first, last = e.subnet.graph.layers[0], e.subnet.graph.layers[-1]
    images = [e.batch_size, first.channels, first.height, first.width]
    logits = [e.batch_size, last.channels]
    graph = helper.make_graph(
        e.nodes,
        name,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, images)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, logits)],
        e.initializers,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain == MICROSOFT for node in e.nodes):
        opsets.append(helper.make_opsetid(MICROSOFT, 1))
    return helper.make_model(
        graph,
        opset_imports=opsets,
        ir_version=IR_VERSION,
        producer_name="hwnas",
        producer_version=_own_version(),
    )
