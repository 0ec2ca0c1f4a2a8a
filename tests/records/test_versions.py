import platform
import subprocess
import sys
from importlib import metadata

import numpy as np

from records import versions


def test_versions_are_those_in_use():
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert found["hwnas"] == metadata.version("hwnas")


def test_a_missing_package_is_left_out(monkeypatch):
    original = metadata.version

    def version(name):
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "onnxruntime" not in versions()
    assert "torch" in versions()


def test_reading_versions_imports_no_torch():
    script = "import sys, records; records.versions(); print('torch' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "False"
