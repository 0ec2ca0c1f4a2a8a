"""A network's file in int8, made by onnxruntime's own quantiser.

Two ways:

- *static*: weights and activations of convolutions and linear maps in 8 bits, scales of the
  activations from calibration images, written with QuantizeLinear and DequantizeLinear (QDQ). One
  scale a weight channel. Weights use 7 of the 8 bits, because the products of 8-bit values
  saturate on processors without VNNI, where this way is slower than fp32.
- *dynamic*: linear maps only; weights in 8 bits, activations stay fp32 and are quantised anew for
  each product. It needs no images.

Packed attention, with its projections, stays fp32 in both: onnxruntime's quantiser leaves the
operator alone where it states the sizes of queries, keys and values, as our files do.

Blocks can be left in fp32, and the file is then of mixed precision. Rounding costs some blocks
much accuracy and others none (`deployment.quantisation.block_errors`).

Which one is faster, and whether it is faster than fp32 at all, depends on the processor: time it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

from deployment.network_blocks import is_within, nodes_by_block, nodes_within
from deployment.quantisation.tensor_ranges import Ranges, tensor_ranges
from records import BadInputError, CorruptFileError, unknown_name

MODES = ("dynamic", "static")

DYNAMIC_KINDS = ("gemm",)
"""Kinds of kernels whose weights the dynamic way keeps in int8."""

CALIBRATION_RUNS = 8
"""Runs over random images where none are given."""

OPEN_BATCH = 32
"""Images a run while scales are found, where the model's batch is open."""

OPERATORS = {"static": ("Conv", "Gemm", "MatMul"), "dynamic": ("MatMul", "Gemm")}
"""For each mode the operators that it quantises."""

_OPTIONS = {"DefaultTensorType": TensorProto.FLOAT}
"""onnx infers no shapes behind operators of onnxruntime's own; all their tensors are float."""


def quantise(
    model: bytes,
    *,
    mode: str = "dynamic",
    images: npt.NDArray[np.float32] | None = None,
    seed: int = 0,
    fp32_blocks: Sequence[str] = (),
    threads: int = 1,
) -> bytes:
    """An int8 version of a serialised fp32 model, with the same input and output.

    Args:
        model: A model with one float32 input, such as `emit` writes; only its batch may be open.
        mode: "dynamic" or "static".
        images: For the static way: real images `n x channels x height x width`, at least one
            batch; what is beyond whole batches is left out. Without any, random ones set the
            scales, which is enough for timing and not for accuracy.
        seed: Derives the random images.
        fp32_blocks: Names of layers, blocks or stages that stay in fp32
            (`deployment.network_blocks`). Where nothing else could be quantised the model is
            returned as it is.
        threads: Threads inside an operator while scales are found.

    Raises:
        UnknownNameError: Another mode, or a block that the model does not have.
        BadInputError: Images of another shape, fewer than a batch, or not finite; images for the
            dynamic way, which would not look at them.
        CorruptFileError: No ONNX model, or one that onnxruntime cannot quantise.
    """
    return Quantiser(model, mode=mode, images=images, seed=seed, threads=threads).file(fp32_blocks)


class Quantiser:
    """Makes int8 files of one model that differ in which blocks stay in fp32.

    Scales are found once, when the first file is made, and hold for all of them.

    Args:
        model: A model with one float32 input, such as `emit` writes; only its batch may be open.
        mode: "dynamic" or "static".
        images: As for `quantise`.
        seed: Derives the random images.
        threads: Threads inside an operator while scales are found.

    Raises:
        UnknownNameError: Another mode.
        BadInputError: Images that do not fit.
        CorruptFileError: No ONNX model.
    """

    def __init__(
        self,
        model: bytes,
        *,
        mode: str = "dynamic",
        images: npt.NDArray[np.float32] | None = None,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        if mode not in MODES:
            raise unknown_name("quantisation", mode, MODES)
        try:
            self.proto = onnx.load_from_string(model)
            entry = self.proto.graph.input[0]
        except Exception as error:  # protobuf's own classes, or no input at all
            raise CorruptFileError(f"no ONNX model with an input: {error}") from error
        if mode == "dynamic" and images is not None:
            raise BadInputError(
                "dynamic quantisation takes no images: its scales follow from each input; leave "
                "them out, or use mode='static'"
            )
        shape = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
        self.model = model
        self.mode = mode
        self.threads = threads
        self._batches = _batches(shape, images, seed) if mode == "static" else []

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """The blocks with something to quantise, in the order in which they run."""
        return tuple(nodes_by_block(self.proto, OPERATORS[self.mode]))

    def file(self, fp32_blocks: Sequence[str] = ()) -> bytes:
        """The int8 file with these layers, blocks or stages left in fp32.

        Raises:
            UnknownNameError: A name that nothing in the model has.
            CorruptFileError: onnxruntime cannot quantise the model.
        """
        operators = OPERATORS[self.mode]
        kept = nodes_within(self.proto, fp32_blocks, operators)
        if kept and len(kept) == len(nodes_within(self.proto, self.blocks, operators)):
            return self.model
        try:
            return self._static(kept) if self.mode == "static" else self._dynamic(kept)
        except Exception as error:  # the quantiser raises plain exceptions of all kinds
            raise CorruptFileError(
                f"onnxruntime cannot quantise the model ({self.mode}): {error}"
            ) from error

    def only(self, block: str) -> bytes:
        """The file in which one block alone is in int8.

        Raises:
            UnknownNameError: A block with nothing to quantise.
            CorruptFileError: onnxruntime cannot quantise the model.
        """
        if block not in self.blocks:
            raise unknown_name("block to quantise", block, self.blocks)
        others = nodes_within(self.proto, self.blocks, OPERATORS[self.mode])
        own = nodes_within(self.proto, [block], OPERATORS[self.mode])
        return self.file([name for name in others if name not in own])

    def present(self, blocks: Sequence[str]) -> tuple[str, ...]:
        """Those of some layers, blocks or stages that the model has nodes of."""
        names = [node.name for node in self.proto.graph.node]
        return tuple(b for b in blocks if any(is_within(name, b) for name in names))

    def _static(self, kept: Sequence[str]) -> bytes:
        ranges = {
            name: TensorData(
                lowest=np.array([low], np.float32), highest=np.array([high], np.float32)
            )
            for name, (low, high) in self._ranges.items()
        }
        quantiser = QDQQuantizer(
            _copy(self._typed),
            True,  # a scale for each channel of weights
            True,  # 7 bits
            QuantType.QInt8,
            QuantType.QUInt8,
            ranges,
            [],
            list(kept),
            list(OPERATORS["static"]),
            dict(_OPTIONS),
        )
        quantiser.quantize_model()
        quantiser.model.topological_sort()
        return bytes(quantiser.model.model.SerializeToString())

    def _dynamic(self, kept: Sequence[str]) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            quantize_dynamic(
                _prepared(self.proto),
                path,
                op_types_to_quantize=list(OPERATORS["dynamic"]),
                # a Gemm is split into a product of this name and a sum before it is looked at
                nodes_to_exclude=[n for name in kept for n in (name, f"{name}_MatMul")],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                extra_options=dict(_OPTIONS),
            )
            return path.read_bytes()

    @cached_property
    def _typed(self) -> onnx.ModelProto:
        """The model with the types of all its tensors, those behind packed attention too."""
        typed = SymbolicShapeInference.infer_shapes(_prepared(self.proto))
        typed = onnx.shape_inference.infer_shapes(typed)
        helper.set_model_props(typed, {**_props(typed), "onnx.infer": "onnxruntime.quant"})
        return typed

    @cached_property
    def _ranges(self) -> Ranges:
        return tensor_ranges(
            self._typed, self._batches, operators=OPERATORS["static"], threads=self.threads
        )


def _prepared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that says that it is prepared.

    There is nothing for onnxruntime's own preparation to fold; this spares its warning.
    """
    copy = _copy(proto)
    helper.set_model_props(copy, {**_props(copy), "onnx.quant.pre_process": "onnxruntime.quant"})
    return copy


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def _props(proto: onnx.ModelProto) -> Mapping[str, str]:
    return {entry.key: entry.value for entry in proto.metadata_props}


def _batches(
    shape: list[int], images: npt.NDArray[np.float32] | None, seed: int
) -> list[npt.NDArray[np.float32]]:
    """Images cut into batches of the model's input shape; any size does where it is open."""
    if not shape or not all(size > 0 for size in shape[1:]):
        raise BadInputError(
            f"all but the batch must be fixed in the input's shape to be quantised, got {shape}"
        )
    if shape[0] < 1:
        few = OPEN_BATCH if images is None else min(OPEN_BATCH, max(len(images), 1))
        shape = [few, *shape[1:]]
    if images is None:
        rng = np.random.default_rng(seed)
        return [rng.standard_normal(shape).astype(np.float32) for _ in range(CALIBRATION_RUNS)]
    images = np.asarray(images, np.float32)
    if images.ndim != 4 or list(images.shape[1:]) != shape[1:] or len(images) < shape[0]:
        raise BadInputError(
            f"calibration needs at least {shape[0]} images of {shape[1:]}, got an array of shape "
            f"{list(images.shape)}"
        )
    if not np.isfinite(images).all():
        raise BadInputError("calibration images must be finite: a scale would be lost")
    whole = len(images) // shape[0]
    return list(images[: whole * shape[0]].reshape(whole, *shape))
