"""What a subnet costs on a target: latency, energy and memory, with an interval and coverage."""

from latency_models.ceiling import Ceiling
from latency_models.costs import METRICS, CostModel, Costs, Part
from latency_models.measured import (
    CalibrationError,
    MeasuredCostModel,
    calibrate,
    calibration_networks,
    random_weights_model,
    time_models,
)
from latency_models.quality import LatencyQuality, latency_quality
from latency_models.roofline import RooflineCostModel

__all__ = [
    "METRICS",
    "CalibrationError",
    "Ceiling",
    "CostModel",
    "Costs",
    "LatencyQuality",
    "MeasuredCostModel",
    "Part",
    "RooflineCostModel",
    "calibrate",
    "calibration_networks",
    "latency_quality",
    "random_weights_model",
    "time_models",
]
