"""Latency on a new device from a handful of measured networks and other devices' tables."""

from latency_models.transfer.cells import cell_features, live_genes, longest_path
from latency_models.transfer.features import ArchitectureFeatures, space_features
from latency_models.transfer.transfer import (
    LEAST_SAMPLES,
    LatencyTransfer,
    TransferredLatencies,
)

__all__ = [
    "LEAST_SAMPLES",
    "ArchitectureFeatures",
    "LatencyTransfer",
    "TransferredLatencies",
    "cell_features",
    "live_genes",
    "longest_path",
    "space_features",
]
