"""The emitter: a subnet as an ONNX graph, written directly with `onnx.helper`.

Direct emission takes tens of milliseconds where torch's exporters take seconds, so a search can
measure hundreds of candidates, and it gives onnxruntime the forms that run fastest there:

- batch norm is folded into the convolution before it;
- tokens are a matrix `(n * tokens) x channels`, so every linear map is a `Gemm` with its bias;
- attention is the packed `com.microsoft.Attention`, with the projections inside;
- the mean over a feature map is `GlobalAveragePool`, which stays in the blocked layout.

The batch size is fixed in the file. The result is checked against torch by `deployment.verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from records import BadInputError, unknown_name, versions
from search_spaces import Layer
from supernet import Subnet
from supernet.elastic import BATCH_NORM_EPSILON, LAYER_NORM_EPSILON

OPSET = 20
IR_VERSION = 10
MICROSOFT = "com.microsoft"

Array = npt.NDArray[np.float32]


@dataclass(slots=True)
class Emission:
    """An ONNX graph in the making.

    Attributes:
        subnet: The network, in eval mode.
        batch_size: Images a run.
        names: For each layer of the graph the name of its output in the file.
        is_map: For each layer whether that output is a feature map (else a matrix of tokens).
    """

    subnet: Subnet
    batch_size: int
    names: list[str] = field(default_factory=list)
    is_map: list[bool] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: npt.ArrayLike, dtype: type = np.float32) -> str:
        """Adds an initializer and returns its name."""
        array: npt.NDArray[np.generic] = np.ascontiguousarray(np.asarray(value, dtype))
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        name: str,
        domain: str = "",
        **attributes: object,
    ) -> str:
        """Adds a node with one output, named as the node; returns that name."""
        self.nodes.append(
            helper.make_node(operator, inputs, [name], name=name, domain=domain, **attributes)
        )
        return name

    def weights(self, layer: Layer) -> dict[str, Array]:
        return self.subnet.arrays(layer)


def emit(subnet: Subnet, batch_size: int = 1, name: str = "subnet") -> onnx.ModelProto:
    """The ONNX model of a subnet, input `images`, output `logits`.

    Args:
        subnet: The network, in eval mode: batch norm uses its running statistics.
        batch_size: Images a run, fixed in the file.
        name: The graph's name.

    Raises:
        BadInputError: A training-mode subnet or a batch size below 1.
        UnknownNameError: A primitive without an emitter.
    """
    if subnet.training:
        raise BadInputError("call subnet.eval() before exporting it")
    if batch_size < 1:
        raise BadInputError(f"batch_size must be >= 1, got {batch_size}")
    layers = subnet.graph.layers
    e = Emission(subnet=subnet, batch_size=batch_size, names=["images"], is_map=[True])
    folded = foldable_norms(layers)
    for index, layer in enumerate(layers):
        if index == 0:
            continue
        if layer.operator not in EMITTERS:
            raise unknown_name("primitive with an ONNX emitter", layer.operator, EMITTERS)
        norm = layers[folded[index]] if index in folded else None
        if index in folded.values():
            name_of, is_map = e.names[layer.inputs[0]], True  # already inside the convolution
        elif layer.operator == "conv2d":
            name_of, is_map = _conv2d(e, layer, norm), True
        else:
            name_of, is_map = EMITTERS[layer.operator](e, layer)
        e.names.append(name_of)
        e.is_map.append(is_map)
    e.nodes[-1].output[0] = "logits"
    first, last = layers[0], layers[-1]
    images = [batch_size, first.channels, first.height, first.width]
    graph = helper.make_graph(
        e.nodes,
        name,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, images)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch_size, last.channels])],
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
        producer_version=versions().get("hwnas", ""),
    )


def foldable_norms(layers: Sequence[Layer]) -> dict[int, int]:
    """For each convolution whose output only a batch norm reads: that batch norm."""
    readers: dict[int, list[int]] = {}
    for index, layer in enumerate(layers):
        for source in layer.inputs:
            readers.setdefault(source, []).append(index)
    return {
        index: readers[index][0]
        for index, layer in enumerate(layers)
        if layer.operator == "conv2d"
        and len(readers.get(index, ())) == 1
        and layers[readers[index][0]].operator == "batch_norm"
    }


def _conv2d(e: Emission, layer: Layer, norm: Layer | None) -> str:
    own = e.weights(layer)
    weight = own["weight"].astype(np.float64)
    bias = own.get("bias", np.zeros(layer.channels, np.float32)).astype(np.float64)
    if norm is not None:
        n = e.weights(norm)
        scale = n["weight"] / np.sqrt(n["running_var"].astype(np.float64) + BATCH_NORM_EPSILON)
        weight = weight * scale[:, None, None, None]
        bias = n["bias"] + (bias - n["running_mean"]) * scale
    inputs = [
        e.names[layer.inputs[0]],
        e.constant(f"{layer.name}.weight", weight),
        e.constant(f"{layer.name}.bias", bias),
    ]
    return e.node(
        "Conv",
        inputs,
        layer.name,
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 4,
        group=layer.groups,
    )


def _batch_norm(e: Emission, layer: Layer) -> tuple[str, bool]:
    own = e.weights(layer)
    inputs = [e.names[layer.inputs[0]]] + [
        e.constant(f"{layer.name}.{key}", own[key])
        for key in ("weight", "bias", "running_mean", "running_var")
    ]
    return e.node("BatchNormalization", inputs, layer.name, epsilon=BATCH_NORM_EPSILON), True


def _layer_norm(e: Emission, layer: Layer) -> tuple[str, bool]:
    own = e.weights(layer)
    inputs = [
        e.names[layer.inputs[0]],
        e.constant(f"{layer.name}.weight", own["weight"]),
        e.constant(f"{layer.name}.bias", own["bias"]),
    ]
    y = e.node("LayerNormalization", inputs, layer.name, axis=-1, epsilon=LAYER_NORM_EPSILON)
    return y, False


def _activation(e: Emission, layer: Layer) -> tuple[str, bool]:
    operator = {"relu": "Relu", "gelu": "Gelu", "hardswish": "HardSwish"}[layer.activation_name]
    source = layer.inputs[0]
    return e.node(operator, [e.names[source]], layer.name), e.is_map[source]


def _add(e: Emission, layer: Layer) -> tuple[str, bool]:
    names = [e.names[i] for i in layer.inputs]
    return e.node("Add", names, layer.name), e.is_map[layer.inputs[0]]


def _to_tokens(e: Emission, layer: Layer) -> tuple[str, bool]:
    x = e.names[layer.inputs[0]]
    x = e.node("Transpose", [x], f"{layer.name}.transpose", perm=[0, 2, 3, 1])
    shape = e.constant(f"{layer.name}.shape", [-1, layer.channels], np.int64)
    return e.node("Reshape", [x, shape], layer.name), False


def _to_map(e: Emission, layer: Layer) -> tuple[str, bool]:
    sizes = [e.batch_size, layer.height, layer.width, layer.channels]
    shape = e.constant(f"{layer.name}.shape", sizes, np.int64)
    x = e.node("Reshape", [e.names[layer.inputs[0]], shape], f"{layer.name}.reshape")
    return e.node("Transpose", [x], layer.name, perm=[0, 3, 1, 2]), True


def _position(e: Emission, layer: Layer) -> tuple[str, bool]:
    embedding = np.tile(e.weights(layer)["embedding"], (e.batch_size, 1))
    grid = e.constant(f"{layer.name}.embedding", embedding)
    return e.node("Add", [e.names[layer.inputs[0]], grid], layer.name), False


def _attention(e: Emission, layer: Layer) -> tuple[str, bool]:
    own = e.weights(layer)
    qk, v = layer.heads * layer.qk_dim, layer.heads * layer.v_dim
    shape = e.constant(
        f"{layer.name}.sequences", [e.batch_size, layer.tokens, layer.in_channels], np.int64
    )
    inputs = [
        e.node("Reshape", [e.names[layer.inputs[0]], shape], f"{layer.name}.split"),
        e.constant(f"{layer.name}.weight", own["weight"].T),
        e.constant(f"{layer.name}.bias", own["bias"]),
    ]
    x = e.node(
        "Attention",
        inputs,
        f"{layer.name}.attention",
        domain=MICROSOFT,
        num_heads=layer.heads,
        qkv_hidden_sizes=[qk, qk, v],
    )
    tokens = e.constant(f"{layer.name}.tokens", [-1, v], np.int64)
    return e.node("Reshape", [x, tokens], layer.name), False


def _linear(e: Emission, layer: Layer) -> tuple[str, bool]:
    own = e.weights(layer)
    inputs = [
        e.names[layer.inputs[0]],
        e.constant(f"{layer.name}.weight", own["weight"].T),
    ]
    if "bias" in own:
        inputs.append(e.constant(f"{layer.name}.bias", own["bias"]))
    return e.node("Gemm", inputs, layer.name), False


def _global_pool(e: Emission, layer: Layer) -> tuple[str, bool]:
    source = layer.inputs[0]
    if e.is_map[source]:
        x = e.node("GlobalAveragePool", [e.names[source]], f"{layer.name}.mean")
        return e.node("Flatten", [x], layer.name), False
    sizes = [e.batch_size, -1, layer.channels]
    shape = e.constant(f"{layer.name}.sequences", sizes, np.int64)
    x = e.node("Reshape", [e.names[source], shape], f"{layer.name}.split")
    axis = e.constant(f"{layer.name}.axis", [1], np.int64)
    return e.node("ReduceMean", [x, axis], layer.name, keepdims=0), False


EMITTERS: dict[str, Callable[[Emission, Layer], tuple[str, bool]]] = {
    "conv2d": lambda e, layer: (_conv2d(e, layer, None), True),
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "activation": _activation,
    "add": _add,
    "to_tokens": _to_tokens,
    "to_map": _to_map,
    "position": _position,
    "attention": _attention,
    "linear": _linear,
    "global_pool": _global_pool,
}
"""The emitter of each primitive: returns the output's name and whether it is a feature map."""
