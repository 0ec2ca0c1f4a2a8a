"""Training on a Ray cluster: the one training loop, run by Ray Train's workers."""

from supernet.on_ray.driver import train_on_ray
from supernet.on_ray.group import RayGroup
from supernet.on_ray.notes import RayTrainingError

__all__ = ["RayGroup", "RayTrainingError", "train_on_ray"]
