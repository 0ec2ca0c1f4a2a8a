"""LiteRT (TensorFlow Lite), which most phones run: a `.tflite` file in fp32 or in int8 throughout.

The converter is `litert-torch` (Google's, formerly AI Edge Torch), from the subnet by
`torch.export`; in int8 by its quantiser, with weights and activations in 8 bits in every
operation, input and output included, as microcontrollers need them. Here the file runs in the
interpreter of `ai-edge-litert`, on XNNPACK where that has a kernel.

Input and output of the fp32 file are those of the other files, `n x channels x height x width`.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deployment.runtimes.calibration_batches import calibration_batches
from deployment.runtimes.microcontroller import Fit, Lifetime, fit_of
from deployment.runtimes.runtime import Array, Opened, Runtime, batch_shape
from deployment.runtimes.silenced import silenced
from hardware_profiles import Profile
from supernet import Subnet

SIGNATURE = "serving_default"
INPUT = "args_0"

LOWEST, HIGHEST = -128, 127


class LiteRtNetwork(Opened):
    """A `.tflite` file in LiteRT's interpreter; where it takes int8, images are rounded to that.

    Args:
        name: How tables call it.
        data: The file.
        threads: That compute one batch.
    """

    def __init__(self, name: str, data: bytes, threads: int = 1) -> None:
        self._interpreter = _interpreter(data, threads)
        self._in = self._interpreter.get_input_details()[0]
        self._out = self._interpreter.get_output_details()[0]
        shape = tuple(int(size) for size in self._in["shape"])
        super().__init__(name, shape, threads, len(data))

    def bind(self, images: Array) -> None:
        values: Any = images
        if self._in["dtype"] != np.float32:
            scale, zero = self._in["quantization"]
            values = np.clip(np.round(images / scale + zero), LOWEST, HIGHEST)
        self._interpreter.set_tensor(self._in["index"], values.astype(self._in["dtype"]))

    def run(self) -> None:
        self._interpreter.invoke()

    def logits(self) -> Array:
        found = self._interpreter.get_tensor(self._out["index"])
        if self._out["dtype"] == np.float32:
            return np.asarray(found)
        scale, zero = self._out["quantization"]
        return np.asarray((found.astype(np.float32) - zero) * scale, np.float32)


class LiteRt(Runtime):
    """LiteRT in fp32."""

    name = "litert"
    title = "LiteRT fp32"
    modules = ("litert_torch", "ai_edge_litert")
    package = "ai-edge-litert"
    extra = "litert"

    def _open(
        self, subnet: Subnet, batch_size: int, threads: int, calibration: Array | None
    ) -> Opened:
        return LiteRtNetwork(self.name, litert_file(subnet, batch_size), threads)


class LiteRtInt8(Runtime):
    """LiteRT in int8 throughout."""

    name = "litert-int8"
    title = "LiteRT int8"
    modules = ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")
    package = "ai-edge-litert"
    extra = "litert"
    tolerance = None

    def _open(
        self, subnet: Subnet, batch_size: int, threads: int, calibration: Array | None
    ) -> Opened:
        data = int8_litert_file(subnet, batch_size, calibration)
        return LiteRtNetwork(self.name, data, threads)


def litert_file(subnet: Subnet, batch_size: int = 1) -> bytes:
    """A network as a `.tflite` file in fp32; it takes about ten seconds.

    Args:
        subnet: The network in eval mode.
        batch_size: Images a run.

    Raises:
        MissingRuntimeError: The converter is not installed; names what installs it.
    """
    LiteRt().check_installed()
    with tempfile.TemporaryDirectory() as folder, silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litert_torch

        images = torch.zeros(batch_shape(subnet, batch_size))
        with torch.no_grad():
            subnet(images)  # constants that are made on the first call are then there
        path = Path(folder) / "model.tflite"
        litert_torch.convert(subnet, (images,)).export(str(path))
        return path.read_bytes()


def int8_litert_file(
    subnet: Subnet, batch_size: int = 1, calibration: Array | None = None
) -> bytes:
    """A network as a `.tflite` file in int8, input and output included.

    Args:
        subnet: The network in eval mode.
        batch_size: Images a run.
        calibration: Training images that set the scales, at least a batch; random ones where
            there are none.

    Raises:
        MissingRuntimeError: The converter is not installed; names what installs it.
        BadInputError: Images of another shape, or fewer than a batch.
    """
    LiteRtInt8().check_installed()
    batches = calibration_batches(subnet, batch_size, calibration)
    data = litert_file(subnet, batch_size)
    with tempfile.TemporaryDirectory() as folder, silenced():
        from ai_edge_quantizer import quantizer, recipe

        given, made = Path(folder) / "fp32.tflite", Path(folder) / "int8.tflite"
        given.write_bytes(data)
        own = quantizer.Quantizer(str(given), recipe.static_wi8_ai8())
        ranges = own.calibrate({SIGNATURE: [{INPUT: batch} for batch in batches]})
        own.quantize(ranges).export_model(str(made))
        return made.read_bytes()


def float_operators(data: bytes) -> tuple[str, ...]:
    """The operators of a `.tflite` file that read or write floats, sorted; none in full int8."""
    interpreter = _interpreter(data, 1, is_plain=True)
    floats = {t["index"] for t in interpreter.get_tensor_details() if t["dtype"] == np.float32}
    return tuple(
        sorted(
            {
                operation["op_name"]
                for operation in interpreter._get_ops_details()
                if floats.intersection([*operation["inputs"], *operation["outputs"]])
            }
        )
    )


def lifetimes(data: bytes) -> tuple[Lifetime, ...]:
    """The activations of a `.tflite` file: their sizes, and from when to when they are needed."""
    interpreter = _interpreter(data, 1, is_plain=True)
    sizes = {
        t["index"]: int(np.prod(t["shape"], dtype=np.int64)) * np.dtype(t["dtype"]).itemsize
        for t in interpreter.get_tensor_details()
    }
    operations = interpreter._get_ops_details()
    first = {int(t["index"]): -1 for t in interpreter.get_input_details()}
    last = dict(first)
    for step, operation in enumerate(operations):
        for index in map(int, operation["outputs"]):
            first[index] = last[index] = step
        for index in map(int, operation["inputs"]):
            if index in first:  # the others are weights
                last[index] = step
    for t in interpreter.get_output_details():
        last[int(t["index"])] = len(operations)
    return tuple(
        Lifetime(size_bytes=sizes[index], first=first[index], last=last[index]) for index in first
    )


def microcontroller_fit(data: bytes, profile: Profile) -> Fit:
    """Whether a `.tflite` file fits a microcontroller's flash and memory.

    Raises:
        BadInputError: The profile tells neither.
    """
    return fit_of(profile, len(data), lifetimes(data))


def _interpreter(data: bytes, threads: int, is_plain: bool = False) -> Any:
    """An interpreter with its tensors in place; plain ones show the graph before XNNPACK."""
    LiteRt().check_installed()
    from ai_edge_litert import interpreter

    kinds = interpreter.OpResolverType
    kind = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if is_plain else kinds.AUTO
    found = interpreter.Interpreter(
        model_content=data, num_threads=threads, experimental_op_resolver_type=kind
    )
    found.allocate_tensors()
    return found
