"""A subnet as a file: ONNX emission, kernels of a runtime, timing, verification, the bundle."""

from deployment.bundle import Bundle, deploy, describe_target
from deployment.command_runner import CommandRunner
from deployment.emission import Emission, Emitter, Value
from deployment.emit import emit, exporter_of
from deployment.emitters import add_emitter
from deployment.kernels import KINDS, Kernel, KernelTable, Lowering
from deployment.kit_runner import DeviceError, KitRunner
from deployment.memory import MemoryReading, activation_peak
from deployment.quantised import quantise
from deployment.quantised_accuracy import QuantisedEvaluator, int8_accuracy
from deployment.ray_runner import RayRunner
from deployment.runner import LocalRunner, Runner, Timing
from deployment.runtime import open_session, session_options
from deployment.space_proof import verify_space
from deployment.space_report import SpaceCheck, SpaceReport
from deployment.target_file import Quantised, target_file, verify_quantised
from deployment.timing import noise_floor
from deployment.torch_export import ExportError
from deployment.verify import Agreement, VerificationError, verify

__all__ = [
    "KINDS",
    "Agreement",
    "Bundle",
    "CommandRunner",
    "DeviceError",
    "Emission",
    "Emitter",
    "ExportError",
    "Kernel",
    "KernelTable",
    "KitRunner",
    "LocalRunner",
    "Lowering",
    "MemoryReading",
    "Quantised",
    "QuantisedEvaluator",
    "RayRunner",
    "Runner",
    "SpaceCheck",
    "SpaceReport",
    "Timing",
    "Value",
    "VerificationError",
    "activation_peak",
    "add_emitter",
    "deploy",
    "describe_target",
    "emit",
    "exporter_of",
    "int8_accuracy",
    "noise_floor",
    "open_session",
    "quantise",
    "session_options",
    "target_file",
    "verify",
    "verify_quantised",
    "verify_space",
]
