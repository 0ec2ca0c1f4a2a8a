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

Which one is faster, and whether it is faster than fp32 at all, depends on the processor: time it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

from records import BadInputError, CorruptFileError, unknown_name

MODES = ("dynamic", "static")

DYNAMIC_KINDS = ("gemm",)
"""Kinds of kernels whose weights the dynamic way keeps in int8."""

CALIBRATION_RUNS = 8
"""Runs over random images where none are given."""

_STATIC_OPERATORS = ["Conv", "Gemm", "MatMul"]
_DYNAMIC_OPERATORS = ["MatMul", "Gemm"]
_OPTIONS = {"DefaultTensorType": TensorProto.FLOAT}
"""onnx infers no shapes behind operators of onnxruntime's own; all their tensors are float."""


def quantise(
    model: bytes,
    *,
    mode: str = "dynamic",
    images: npt.NDArray[np.float32] | None = None,
    seed: int = 0,
) -> bytes:
    """An int8 version of a serialised fp32 model, with the same input and output.

    Args:
        model: A model with one float32 input of fixed shape, such as `emit` writes.
        mode: "dynamic" or "static".
        images: For the static way: real images `n x channels x height x width`, at least one
            batch; what is beyond whole batches is left out. Without any, random ones set the
            scales, which is enough for timing and not for accuracy.
        seed: Derives the random images.

    Raises:
        UnknownNameError: Another mode.
        BadInputError: Images of another shape, fewer than a batch, or not finite; images for the
            dynamic way, which would not look at them.
        CorruptFileError: No ONNX model, or one that onnxruntime cannot quantise.
    """
    if mode not in MODES:
        raise unknown_name("quantisation", mode, MODES)
    try:
        proto = onnx.load_from_string(model)
        entry = proto.graph.input[0]
    except Exception as error:  # protobuf's own classes, or no input at all
        raise CorruptFileError(f"no ONNX model with an input: {error}") from error
    shape = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    if mode == "dynamic" and images is not None:
        raise BadInputError(
            "dynamic quantisation takes no images: its scales follow from each input; leave them "
            "out, or use mode='static'"
        )
    reader = _Reader(entry.name, _batches(shape, images, seed)) if mode == "static" else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        try:
            _write(proto, path, reader)
        except Exception as error:  # the quantiser raises plain exceptions of all kinds
            raise CorruptFileError(
                f"onnxruntime cannot quantise the model ({mode}): {error}"
            ) from error
        return path.read_bytes()


def _write(proto: onnx.ModelProto, path: Path, reader: CalibrationDataReader | None) -> None:
    # There is nothing for onnxruntime's own preparation to fold; this spares its warning.
    helper.set_model_props(
        proto,
        {
            **{entry.key: entry.value for entry in proto.metadata_props},
            "onnx.quant.pre_process": "onnxruntime.quant",
        },
    )
    if reader is None:
        quantize_dynamic(
            proto,
            path,
            op_types_to_quantize=_DYNAMIC_OPERATORS,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options=dict(_OPTIONS),
        )
        return
    typed = SymbolicShapeInference.infer_shapes(proto)  # types behind packed attention
    quantize_static(
        typed,
        path,
        reader,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=_STATIC_OPERATORS,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options=dict(_OPTIONS),
    )


def _batches(
    shape: list[int], images: npt.NDArray[np.float32] | None, seed: int
) -> list[npt.NDArray[np.float32]]:
    """Images cut into batches of the model's input shape."""
    if not all(size > 0 for size in shape):
        raise BadInputError(f"the input's shape must be fixed to be quantised, got {shape}")
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


class _Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
    """Hands one batch after another to the quantiser."""

    def __init__(self, name: str, batches: list[npt.NDArray[np.float32]]) -> None:
        self._feeds = iter([{name: batch} for batch in batches])

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self._feeds, None)
