"""The kit: networks and a script to time them on a machine without hwnas, and what comes back."""

from deployment.kit.manifest import Kit, KitModel, TimingProtocol, manifest_id, write_kit
from deployment.kit.results import Measurement, Results, Spread, Sustained, read_results

__all__ = [
    "Kit",
    "KitModel",
    "Measurement",
    "Results",
    "Spread",
    "Sustained",
    "TimingProtocol",
    "manifest_id",
    "read_results",
    "write_kit",
]
