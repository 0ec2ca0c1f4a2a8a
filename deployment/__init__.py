"""A subnet as a file: ONNX emission, kernels of a runtime, timing, verification, the bundle."""

from deployment.bundles.bundle import Bundle, deploy, describe_target
from deployment.bundles.input import Interface
from deployment.emission.emission import Emission, Emitter, Value
from deployment.emission.emit import emit, exporter_of
from deployment.emission.emitters import add_emitter
from deployment.emission.form_choices import choices_of
from deployment.emission.forms import FORMS, Forms
from deployment.emission.gelu_error import gelu_error
from deployment.emission.preprocessing import Preprocessing, preprocessing_of
from deployment.emission.preprocessing_nodes import preprocessed
from deployment.emission.torch_export import ExportError
from deployment.families.family import (
    Family,
    FamilyMember,
    check_family,
    deploy_family,
    load_family,
)
from deployment.kernel_tables.kernels import KINDS, Kernel, KernelTable, Lowering
from deployment.memory.reading import MemoryReading, activation_peak
from deployment.network_blocks import block_of, blocks_of
from deployment.numerics import Numerics
from deployment.proofs.space_proof import verify_space
from deployment.proofs.space_report import SpaceCheck, SpaceReport
from deployment.proofs.verify import Agreement, VerificationError, verify
from deployment.providers import PROVIDERS, Provider, ProviderError, check_provider
from deployment.quantisation.accuracy import QuantisedEvaluator, int8_accuracy
from deployment.quantisation.block_errors import BlockError, BlockErrors, block_errors
from deployment.quantisation.quantised import Quantiser, quantise
from deployment.quantisation.sensitive_blocks import SensitiveBlocks, most_sensitive
from deployment.runners.command_runner import CommandRunner
from deployment.runners.kit_runner import DeviceError, KitRunner
from deployment.runners.ray_runner import RayRunner
from deployment.runners.runner import LocalRunner, Runner, Timing
from deployment.runners.timing import noise_floor
from deployment.runtime import open_session, session_options
from deployment.selection.results import Selection, Tried
from deployment.selection.select import select_kernels
from deployment.selection.table import selection_table
from deployment.session_settings import SessionSettings
from deployment.target_file import Quantised, target_file, verify_quantised
from deployment.variant import Variant
from deployment.variant_files import variant_file

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
