"""The runtimes by name, for command lines and files."""

from __future__ import annotations

from deployment.runtimes.litert import LiteRt, LiteRtInt8
from deployment.runtimes.onnx_runtime import OnnxRuntime
from deployment.runtimes.openvino_runtimes import OpenVino, OpenVinoInt8, OpenVinoQdq
from deployment.runtimes.runtime import Runtime
from deployment.runtimes.torch_runtimes import TorchCompile, TorchEager, TorchProgram
from records import unknown_name

RUNTIMES: dict[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        OnnxRuntime(),
        OpenVino(),
        OpenVinoInt8(),
        OpenVinoQdq(),
        LiteRt(),
        LiteRtInt8(),
        TorchEager(),
        TorchCompile(),
        TorchProgram(),
    )
}
"""All of them, installed or not."""


def runtime(name: str) -> Runtime:
    """The runtime of that name.

    Raises:
        UnknownNameError: There is none; lists those there are.
    """
    if name not in RUNTIMES:
        raise unknown_name("runtime", name, RUNTIMES)
    return RUNTIMES[name]
