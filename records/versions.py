"""Which versions of which packages a run used, read from their metadata without importing them."""

import platform
from importlib import metadata

_PACKAGES = ("hwnas", "numpy", "torch", "onnx", "onnxruntime", "scikit-learn", "optuna")


def versions() -> dict[str, str]:
    """Returns the version of Python and of each package that decides a result.

    A package that is not installed is left out. Nothing is imported, so this costs milliseconds
    even where importing torch would cost seconds.
    """
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
