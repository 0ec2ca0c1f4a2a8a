"""A subnet as a file: ONNX emission, kernels of a runtime, timing, verification, the bundle."""

from deployment.block_errors import BlockError, BlockErrors, block_errors
from deployment.bundle import Bundle, deploy, describe_target
from deployment.bundle_input import Interface
from deployment.command_runner import CommandRunner
from deployment.emission import Emission, Emitter, Value
from deployment.emit import emit, exporter_of
from deployment.emitters import add_emitter
from deployment.family import Family, FamilyMember, check_family, deploy_family, load_family
from deployment.form_choices import choices_of
from deployment.forms import FORMS, Forms
from deployment.gelu_error import gelu_error
from deployment.kernels import KINDS, Kernel, KernelTable, Lowering
from deployment.kit_runner import DeviceError, KitRunner
from deployment.memory import MemoryReading, activation_peak
from deployment.network_blocks import block_of, blocks_of
from deployment.numerics import Numerics
from deployment.preprocessing import Preprocessing, preprocessing_of
from deployment.preprocessing_nodes import preprocessed
from deployment.providers import PROVIDERS, Provider, ProviderError, check_provider
from deployment.quantised import Quantiser, quantise
from deployment.quantised_accuracy import QuantisedEvaluator, int8_accuracy
from deployment.ray_runner import RayRunner
from deployment.runner import LocalRunner, Runner, Timing
from deployment.runtime import open_session, session_options
from deployment.selection import select_kernels
from deployment.selection_results import Selection, Tried
from deployment.selection_table import selection_table
from deployment.sensitive_blocks import SensitiveBlocks, most_sensitive
from deployment.session_settings import SessionSettings
from deployment.space_proof import verify_space
from deployment.space_report import SpaceCheck, SpaceReport
from deployment.target_file import Quantised, target_file, verify_quantised
from deployment.timing import noise_floor
from deployment.torch_export import ExportError
from deployment.variant import Variant
from deployment.variant_files import variant_file
from deployment.verify import Agreement, VerificationError, verify

__all__ = [
    "FORMS",
    "KINDS",
    "PROVIDERS",
    "Agreement",
    "BlockError",
    "BlockErrors",
    "Bundle",
    "CommandRunner",
    "DeviceError",
    "Emission",
    "Emitter",
    "ExportError",
    "Family",
    "FamilyMember",
    "Forms",
    "Interface",
    "Kernel",
    "KernelTable",
    "KitRunner",
    "LocalRunner",
    "Lowering",
    "MemoryReading",
    "Numerics",
    "Preprocessing",
    "Provider",
    "ProviderError",
    "Quantised",
    "QuantisedEvaluator",
    "Quantiser",
    "RayRunner",
    "Runner",
    "Selection",
    "SensitiveBlocks",
    "SessionSettings",
    "SpaceCheck",
    "SpaceReport",
    "Timing",
    "Tried",
    "Value",
    "Variant",
    "VerificationError",
    "activation_peak",
    "add_emitter",
    "block_errors",
    "block_of",
    "blocks_of",
    "check_family",
    "check_provider",
    "choices_of",
    "deploy",
    "deploy_family",
    "describe_target",
    "emit",
    "exporter_of",
    "gelu_error",
    "int8_accuracy",
    "load_family",
    "most_sensitive",
    "noise_floor",
    "open_session",
    "preprocessed",
    "preprocessing_of",
    "quantise",
    "select_kernels",
    "selection_table",
    "session_options",
    "target_file",
    "variant_file",
    "verify",
    "verify_quantised",
    "verify_space",
]
