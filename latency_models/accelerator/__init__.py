"""What a network costs on a parametric accelerator: cycles, accesses, energy, in closed form."""

from latency_models.accelerator.counts import Counts, DoesNotFitError
from latency_models.accelerator.model import AcceleratorCostModel, LayerCost
from latency_models.accelerator.product import Product, count
from latency_models.accelerator.row_stationary import Mapping, mapping

__all__ = [
    "AcceleratorCostModel",
    "Counts",
    "DoesNotFitError",
    "LayerCost",
    "Mapping",
    "Product",
    "count",
    "mapping",
]
