"""What people run: the main job, datasets, the command line, reports, benchmarks.

The names below are imported when they are asked for: the command line is in this package too, and
has to answer Ctrl-C while torch is being imported (`experiments.cli`).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.datasets import DATASETS, load_dataset
    from experiments.spaces import SPACES, make_space
else:
    _MODULES = {
        "DATASETS": "experiments.datasets",
        "load_dataset": "experiments.datasets",
        "SPACES": "experiments.spaces",
        "make_space": "experiments.spaces",
    }

    def __getattr__(name: str) -> object:
        """One of the names in `__all__`, from the module that has it."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


__all__ = ["DATASETS", "SPACES", "load_dataset", "make_space"]
