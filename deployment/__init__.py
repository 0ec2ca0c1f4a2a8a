"""A subnet as a file: ONNX emission, kernels of a runtime, timing, verification, the bundle."""

from deployment.bundle import Bundle, deploy, describe_target
from deployment.emit import emit
from deployment.kernels import KINDS, Kernel, KernelTable, Lowering
from deployment.runner import LocalRunner, Runner, Timing
from deployment.runtime import open_session, session_options
from deployment.verify import Agreement, VerificationError, verify

__all__ = [
    "KINDS",
    "Agreement",
    "Bundle",
    "Kernel",
    "KernelTable",
    "LocalRunner",
    "Lowering",
    "Runner",
    "Timing",
    "VerificationError",
    "deploy",
    "describe_target",
    "emit",
    "open_session",
    "session_options",
    "verify",
]
