"""Other runtimes beside onnxruntime, compared with torch and timed in turns."""

from deployment.runtimes.agreement import (
    RuntimeAgreement,
    agreement_with_torch,
    check_agreement,
)
from deployment.runtimes.beside import Beside, time_beside
from deployment.runtimes.by_name import RUNTIMES, runtime
from deployment.runtimes.litert import (
    LiteRt,
    LiteRtInt8,
    float_operators,
    int8_litert_file,
    litert_file,
    microcontroller_fit,
)
from deployment.runtimes.microcontroller import Fit
from deployment.runtimes.onnx_runtime import OnnxRuntime, OnnxRuntimeNetwork
from deployment.runtimes.openvino_runtimes import OpenVino, OpenVinoInt8, OpenVinoQdq
from deployment.runtimes.round_robin import time_in_turns
from deployment.runtimes.runtime import (
    MissingRuntimeError,
    Opened,
    Runtime,
    RuntimeRefusalError,
)
from deployment.runtimes.torch_runtimes import (
    TorchCompile,
    TorchEager,
    TorchProgram,
    write_program,
)

__all__ = [
    "RUNTIMES",
    "Beside",
    "Fit",
    "LiteRt",
    "LiteRtInt8",
    "MissingRuntimeError",
    "OnnxRuntime",
    "OnnxRuntimeNetwork",
    "OpenVino",
    "OpenVinoInt8",
    "OpenVinoQdq",
    "Opened",
    "Runtime",
    "RuntimeAgreement",
    "RuntimeRefusalError",
    "TorchCompile",
    "TorchEager",
    "TorchProgram",
    "agreement_with_torch",
    "check_agreement",
    "float_operators",
    "int8_litert_file",
    "litert_file",
    "microcontroller_fit",
    "runtime",
    "time_beside",
    "time_in_turns",
    "write_program",
]
