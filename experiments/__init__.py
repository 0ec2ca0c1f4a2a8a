"""What people run: the main job, datasets, the command line, reports, benchmarks."""

from experiments.datasets import DATASETS, load_dataset
from experiments.spaces import SPACES, make_space

__all__ = ["DATASETS", "SPACES", "load_dataset", "make_space"]
