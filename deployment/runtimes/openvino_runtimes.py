"""OpenVINO as a second runtime on processors: it reads the ONNX file that `emit` writes.

Opened for latency on a fixed number of threads, in fp32 where the processor would choose bf16 by
itself. In int8 in two ways:

- by NNCF, OpenVINO's own quantiser, from the fp32 file and training images (it keeps to 7 bits
  where products of 8-bit values saturate, as our files do);
- from the file with QuantizeLinear and DequantizeLinear that `deployment.quantisation.quantised`
  writes for onnxruntime.

Reference: docs.openvino.ai, "High-level performance hints", "CPU device", "Post-training
quantization".
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deployment.emission.emit import emit
from deployment.emission.forms import Forms
from deployment.quantisation.quantised import quantise
from deployment.runtimes import openvino_check
from deployment.runtimes.calibration_batches import calibration_batches
from deployment.runtimes.openvino_check import DEVICE, latency_properties
from deployment.runtimes.runtime import Array, Opened, Runtime, RuntimeRefusalError
from deployment.runtimes.silenced import silenced
from supernet import Subnet

FORMS = Forms(linear="matmul")
"""Tokens stay sequences: OpenVINO 2026.4 ends the process where a matrix of tokens becomes a map
again. It reads packed attention."""


class OpenVinoNetwork(Opened):
    """A network compiled by OpenVINO.

    Args:
        name: How tables call it.
        model: An `openvino.Model` with one input of fixed shape.
        threads: That compute one batch.
        file_bytes: Size of the file that it was read from.
        properties: Further properties of the device, by name.
    """

    in_caller = False

    def __init__(
        self,
        name: str,
        model: Any,
        threads: int,
        file_bytes: int | None = None,
        properties: dict[str, Any] | None = None,
    ) -> None:
        import openvino

        self._tensor = openvino.Tensor
        self.compiled = openvino.Core().compile_model(
            model, DEVICE, {**latency_properties(threads), **(properties or {})}
        )
        self._request = self.compiled.create_infer_request()
        super().__init__(name, tuple(self.compiled.input(0).shape), threads, file_bytes)

    def bind(self, images: Array) -> None:
        self._images = np.ascontiguousarray(images)  # kept: the tensor shares its memory
        self._request.set_input_tensor(0, self._tensor(self._images, shared_memory=True))

    def run(self) -> None:
        self._request.infer()

    def logits(self) -> Array:
        return np.asarray(self._request.get_output_tensor(0).data)


class _FromFile(Runtime):
    """OpenVINO on an ONNX file.

    Args:
        write: Makes the file from a network and a batch size; `openvino_file` by default.
    """

    def __init__(self, write: Callable[[Subnet, int], bytes] | None = None) -> None:
        self._write = write or openvino_file


class OpenVino(_FromFile):
    """OpenVINO in fp32."""

    name = "openvino"
    title = "OpenVINO fp32"
    modules = ("openvino",)
    package = "openvino"
    extra = "openvino"

    def _open(
        self, subnet: Subnet, batch_size: int, threads: int, calibration: Array | None
    ) -> Opened:
        data = self._write(subnet, batch_size)
        model = read_model(data)
        check_compiles(model)
        return OpenVinoNetwork(self.name, model, threads, len(data))


class OpenVinoInt8(_FromFile):
    """OpenVINO in int8, quantised by NNCF."""

    name = "openvino-int8"
    title = "OpenVINO int8"
    modules = ("openvino", "nncf")
    package = "openvino"
    extra = "openvino"
    tolerance = None

    def _open(
        self, subnet: Subnet, batch_size: int, threads: int, calibration: Array | None
    ) -> Opened:
        data = self._write(subnet, batch_size)
        batches = calibration_batches(subnet, batch_size, calibration)
        has_attention = any(layer.operator == "attention" for layer in subnet.graph.layers)
        given = read_model(data)
        check_compiles(given)
        model = by_nncf(given, batches, has_attention)
        check_compiles(model)
        return OpenVinoNetwork(self.name, model, threads)


class OpenVinoQdq(_FromFile):
    """OpenVINO in int8, reading the static file that onnxruntime's quantiser writes."""

    name = "openvino-qdq"
    title = "OpenVINO, int8 file of onnxruntime"
    modules = ("openvino",)
    package = "openvino"
    extra = "openvino"
    tolerance = None

    def _open(
        self, subnet: Subnet, batch_size: int, threads: int, calibration: Array | None
    ) -> Opened:
        data = quantise(self._write(subnet, batch_size), mode="static", images=calibration)
        model = read_model(data)
        check_compiles(model)
        return OpenVinoNetwork(self.name, model, threads, len(data))


def openvino_file(subnet: Subnet, batch_size: int) -> bytes:
    """The ONNX file that OpenVINO reads: linear maps on sequences (`FORMS`)."""
    data: bytes = emit(subnet, batch_size, forms=FORMS).SerializeToString()
    return data


def read_model(data: bytes) -> Any:
    """An `openvino.Model` of a serialised ONNX file."""
    import openvino

    return openvino.Core().read_model(data)


def check_compiles(model: Any) -> None:
    """Makes sure that compiling a model does not end the process, by trying it in another.

    Raises:
        RuntimeRefusalError: It ends, or fails.
    """
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        done = subprocess.run(
            [sys.executable, openvino_check.__file__, str(path)], capture_output=True, text=True
        )
    if done.returncode < 0:
        raise RuntimeRefusalError(
            f"OpenVINO ends the process that compiles this network (signal {-done.returncode})"
        )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise RuntimeRefusalError(f"OpenVINO cannot compile this network: {last[0]}")


def by_nncf(model: Any, batches: list[Array], has_attention: bool) -> Any:
    """The model with 8-bit operations where NNCF puts them, in 7 bits where 8 would saturate."""
    with silenced():
        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        return nncf.quantize(
            model,
            nncf.Dataset(batches),
            subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER if has_attention else None,
        )
