"""What a subnet costs on a target: latency, energy and memory, with an interval and coverage."""

from latency_models.accelerator import AcceleratorCostModel, DoesNotFitError
from latency_models.calibration import (
    CalibrationError,
    calibrate,
    calibrate_together,
    calibration_networks,
    random_weights_model,
    target_model,
)
from latency_models.calibration_timing import time_models
from latency_models.ceiling import Ceiling
from latency_models.cost_records import Costs, Part
from latency_models.costs import METRICS, CostModel
from latency_models.energy import with_measured_energy
from latency_models.kernel_costs import KernelTableCostModel, MeasuredKernels, measure_kernels
from latency_models.measured import MeasuredCostModel
from latency_models.memory import MemoryModel, device_limits
from latency_models.memory_patches import PatchCosts, PatchPlan
from latency_models.patched import PatchedCosts
from latency_models.pipeline import (
    EndToEndCosts,
    PipelineCost,
    encoded_image,
    measure_pipeline,
)
from latency_models.quality import LatencyQuality, latency_quality
from latency_models.roofline import RooflineCostModel
from latency_models.saved_target import SavedTarget, load_target, save_target, saved_targets

__all__ = [
    "METRICS",
    "AcceleratorCostModel",
    "CalibrationError",
    "Ceiling",
    "CostModel",
    "Costs",
    "DoesNotFitError",
    "EndToEndCosts",
    "KernelTableCostModel",
    "LatencyQuality",
    "MeasuredCostModel",
    "MeasuredKernels",
    "MemoryModel",
    "Part",
    "PatchCosts",
    "PatchPlan",
    "PatchedCosts",
    "PipelineCost",
    "RooflineCostModel",
    "SavedTarget",
    "calibrate",
    "calibrate_together",
    "calibration_networks",
    "device_limits",
    "encoded_image",
    "latency_quality",
    "load_target",
    "measure_kernels",
    "measure_pipeline",
    "random_weights_model",
    "save_target",
    "saved_targets",
    "target_model",
    "time_models",
    "with_measured_energy",
]
