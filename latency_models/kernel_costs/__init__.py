"""Latencies from kernels measured one by one: one table a target, for every space."""

from latency_models.kernel_costs.calibration import Calibration
from latency_models.kernel_costs.measuring import measure_kernels
from latency_models.kernel_costs.model import KernelTableCostModel
from latency_models.kernel_costs.regression import KernelRegression, Known, Sums, sums_of
from latency_models.kernel_costs.table import MeasuredKernels, TimedFile, identity_of

__all__ = [
    "Calibration",
    "KernelRegression",
    "KernelTableCostModel",
    "Known",
    "MeasuredKernels",
    "Sums",
    "TimedFile",
    "identity_of",
    "measure_kernels",
    "sums_of",
]
