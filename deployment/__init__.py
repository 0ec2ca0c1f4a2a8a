"""A subnet as a file: ONNX emission, kernels of a runtime, timing, verification, the bundle."""

from deployment.bundle import Bundle, deploy, describe_target
from deployment.emission import Emission, Emitter, Value
from deployment.emit import emit, exporter_of
from deployment.emitters import add_emitter
from deployment.kernels import KINDS, Kernel, KernelTable, Lowering
from deployment.runner import LocalRunner, Runner, Timing
from deployment.runtime import open_session, session_options
from deployment.space_proof import verify_space
from deployment.space_report import SpaceCheck, SpaceReport
from deployment.torch_export import ExportError
from deployment.verify import Agreement, VerificationError, verify

__all__ = [
    "KINDS",
    "Agreement",
    "Bundle",
    "Emission",
    "Emitter",
    "ExportError",
    "Kernel",
    "KernelTable",
    "LocalRunner",
    "Lowering",
    "Runner",
    "SpaceCheck",
    "SpaceReport",
    "Timing",
    "Value",
    "VerificationError",
    "add_emitter",
    "deploy",
    "describe_target",
    "emit",
    "exporter_of",
    "open_session",
    "session_options",
    "verify",
    "verify_space",
]
