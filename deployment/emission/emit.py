"""The emitter: a subnet as an ONNX graph, written directly with `onnx.helper`.

Direct emission takes tens of milliseconds where torch's exporters take seconds, so a search can
measure hundreds of candidates, and it gives onnxruntime the forms that run fastest there:

- batch norms and learned factors are folded into the convolution or linear map before them, and
  sums of convolutions of one input are one convolution (`supernet.reparameterise`);
- activations are written as onnxruntime folds them into convolutions;
- tokens are a matrix `(n * tokens) x channels`, so every linear map is a `Gemm` with its bias;
- attention is the packed `com.microsoft.Attention`, with the projections inside; linear attention
  works on channels x tokens, which needs no reordering of heads (1.3-1.8 times as fast);
- means over a feature map are `GlobalAveragePool`, which stays in the blocked layout, and gates
  are enlarged in it;
- zeros and what they are added to cost nothing.

Other forms of equal function can be asked for (`deployment.emission.forms`): which is fastest on a
target is found by timing them. The batch size is fixed in the file or left open, and the
normalisation of the images can be part of it (`deployment.emission.preprocessing`). The result is
checked against torch by `deployment.proofs.verify`. A network with a primitive that has no emitter
is exported by torch (`deployment.emission.torch_export`); the file's metadata say by what it was
written.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from deployment.emission.emission import ANY, Emission, Value
from deployment.emission.emitters import EMITTERS
from deployment.emission.emitters.convolution import conv2d
from deployment.emission.emitters.tokens import linear
from deployment.emission.folding import foldable
from deployment.emission.forms import DEFAULT, Forms
from deployment.emission.graph_writer import INPUT, MICROSOFT, OUTPUT
from deployment.emission.preprocessing import METADATA, Preprocessing, Shape
from deployment.emission.preprocessing_nodes import preprocessed, write_preprocessing
from deployment.emission.torch_export import BATCH, torch_export
from records import BadInputError, versions
from supernet import Subnet, reparameterise

logger = logging.getLogger(__name__)

OPSET, IR_VERSION = 20, 10

ATTENTION_OPSET, ATTENTION_IR_VERSION = 23, 11
"""Of files with ONNX's own `Attention`, which older versions do not have."""

EXPORTERS = ("hwnas", "torch")
"""Who may have written a file: this emitter, or torch's exporter."""

_WITH_FOLDED = {"conv2d": conv2d, "linear": linear}


def emit(
    subnet: Subnet,
    batch_size: int | None = 1,
    name: str = "subnet",
    forms: Forms = DEFAULT,
    preprocessing: Preprocessing | None = None,
) -> onnx.ModelProto:
    """The ONNX model of a subnet, input `images`, output `logits`.

    Where a primitive has no emitter, torch exports the whole network, in the forms that it knows,
    and a warning is logged.

    Args:
        subnet: The network, in eval mode: batch norm uses its running statistics.
        batch_size: Images a run, fixed in the file; None for a file that takes any number, whose
            first axis is called "batch".
        name: The graph's name.
        forms: In which forms the layers are written.
        preprocessing: What is done to the images inside the file. With None it takes what the
            subnet takes, normalised `n x channels x height x width`.

    Raises:
        BadInputError: A training-mode subnet, a batch size below 1, or a preprocessing for images
            of another kind than the network's.
        ExportError: A primitive without an emitter that torch cannot export either.
    """
    if subnet.training:
        raise BadInputError("call subnet.eval() before exporting it")
    if batch_size is not None and batch_size < 1:
        raise BadInputError(f"batch_size must be >= 1 or None for any, got {batch_size}")
    if preprocessing is not None:
        preprocessing.check_fits(image_shape(subnet))
    subnet = reparameterise(subnet)
    unknown = without_emitter(subnet)
    if unknown:
        logger.warning(
            "no emitter for %s: the network is exported by torch, in slower forms; write one "
            "with deployment.add_emitter",
            ", ".join(unknown),
        )
        model = torch_export(subnet, batch_size, name, unknown)
        helper.set_model_props(model, {"exporter": "torch"})
        return model if preprocessing is None else preprocessed(model, preprocessing)
    model = _model(_emitted(subnet, batch_size or ANY, forms, preprocessing), name, preprocessing)
    entries = {"exporter": "hwnas"}
    if preprocessing is not None:
        entries[METADATA] = preprocessing.to_text()
    helper.set_model_props(model, entries)
    return model


def without_emitter(subnet: Subnet) -> Sequence[str]:
    """The primitives of a network that have no emitter, by name."""
    return sorted({layer.operator for layer in subnet.graph.layers[1:]} - set(EMITTERS))


def exporter_of(model: onnx.ModelProto) -> str:
    """Who wrote a file, one of `EXPORTERS`; "unknown" for files from elsewhere."""
    props = {entry.key: entry.value for entry in model.metadata_props}
    return str(props.get("exporter", "unknown"))


@functools.cache
def _own_version() -> str:
    return versions().get("hwnas", "")  # looks at every installed package


def _emitted(
    subnet: Subnet, batch_size: int, forms: Forms, preprocessing: Preprocessing | None
) -> Emission:
    """All layers as nodes, the last tensor named as the output."""
    layers = subnet.graph.layers
    e = Emission(subnet=subnet, batch_size=batch_size, forms=forms)
    images = INPUT if preprocessing is None else write_preprocessing(e, preprocessing)
    e.values.append(Value(images, is_map=True))
    folded = foldable(layers, forms.norms)
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


def image_shape(subnet: Subnet) -> Shape:
    """Channels, height and width of the images that a network takes."""
    first = subnet.graph.layers[0]
    return (first.channels, first.height, first.width)


def _model(e: Emission, name: str, preprocessing: Preprocessing | None) -> onnx.ModelProto:
    last = e.subnet.graph.layers[-1]
    batch = BATCH if e.is_dynamic else e.batch_size
    kind, image = int(TensorProto.FLOAT), image_shape(e.subnet)
    if preprocessing is not None:
        kind, image = preprocessing.element_type, preprocessing.image_shape(image)
    graph = helper.make_graph(
        [],
        name,
        [helper.make_tensor_value_info(INPUT, kind, [batch, *image])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, last.channels])],
    )
    is_newer = any(node.op_type == "Attention" and not node.domain for node in e.nodes)
    opsets = [helper.make_opsetid("", ATTENTION_OPSET if is_newer else OPSET)]
    if any(node.domain == MICROSOFT for node in e.nodes):
        opsets.append(helper.make_opsetid(MICROSOFT, 1))
    model = helper.make_model(
        graph,
        opset_imports=opsets,
        ir_version=ATTENTION_IR_VERSION if is_newer else IR_VERSION,
        producer_name="hwnas",
        producer_version=_own_version(),
    )
    model.graph.node.extend(e.nodes)
    model.graph.initializer.extend(e.initializers)  # given to `make_graph`, copied twice
    return model
