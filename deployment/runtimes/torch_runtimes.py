"""The runtimes of users who stay in torch: eager, compiled, and as an exported program.

- *eager*: the subnet as it is;
- *compiled*: `torch.compile` with its default settings for fixed shapes, which writes C++ and
  takes tens of seconds; it needs a C++ compiler;
- *program*: `torch.export` writes the graph of operators to a `.pt2` file, which is opened again;
  it runs without the code of hwnas, at the speed of eager.

A `.pt2` file may hold pickled objects, which run code when they are opened. So only a file that
was written here just before is opened; none comes from elsewhere.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deployment.runtimes.runtime import Array, Opened, Runtime, batch_shape
from supernet import Subnet, intra_op_threads

PROGRAM = "program.pt2"

COMPILERS = ("g++", "clang++")


class TorchNetwork(Opened):
    """A module or a program of torch."""

    def __init__(
        self,
        name: str,
        forward: Callable[[torch.Tensor], torch.Tensor],
        shape: tuple[int, ...],
        threads: int,
        file_bytes: int | None = None,
    ) -> None:
        self._forward = forward
        self._output = torch.empty(0)
        super().__init__(name, shape, threads, file_bytes)

    def bind(self, images: Array) -> None:
        self._images = torch.from_numpy(np.ascontiguousarray(images))

    def run(self) -> None:
        with torch.inference_mode():
            self._output = self._forward(self._images)

    def logits(self) -> Array:
        return np.asarray(self._output.numpy())

    def running(self) -> AbstractContextManager[None]:
        return intra_op_threads(self.threads)


class TorchEager(Runtime):
    """The subnet as it is."""

    name = "torch"
    title = "torch eager"

    def _open(
        self, subnet: Subnet, batch_size: int, threads: int, calibration: Array | None
    ) -> Opened:
        return TorchNetwork(self.name, subnet, batch_shape(subnet, batch_size), threads)


class TorchCompile(Runtime):
    """`torch.compile`; opening it compiles."""

    name = "torch-compile"
    title = "torch.compile"

    def missing(self) -> str:
        return "" if any(map(shutil.which, COMPILERS)) else f"a C++ compiler ({COMPILERS[0]})"

    @property
    def cure(self) -> str:
        return "install the system's C++ compiler"

    def _open(
        self, subnet: Subnet, batch_size: int, threads: int, calibration: Array | None
    ) -> Opened:
        compiled: Any = torch.compile(subnet, dynamic=False)
        shape = batch_shape(subnet, batch_size)
        opened = TorchNetwork(self.name, compiled, shape, threads)
        with opened.running():  # the number of threads is written into the code
            opened.run()
        return opened


class TorchProgram(Runtime):
    """A `torch.export` program that was saved and opened again."""

    name = "torch-program"
    title = "torch.export program"

    def _open(
        self, subnet: Subnet, batch_size: int, threads: int, calibration: Array | None
    ) -> Opened:
        shape = batch_shape(subnet, batch_size)
        with tempfile.TemporaryDirectory() as folder:
            path = write_program(subnet, Path(folder) / PROGRAM, batch_size)
            size = path.stat().st_size
            module: Any = torch.export.load(path).module()
        return TorchNetwork(self.name, module, shape, threads, size)


def write_program(subnet: Subnet, path: str | Path, batch_size: int = 1) -> Path:
    """Writes a network as a `torch.export` program, which `torch.export.load` opens.

    The batch size is fixed: the layers on tokens read it as a plain number.

    Args:
        subnet: The network in eval mode.
        path: The file, which should end in `.pt2`.
        batch_size: Images a run.
    """
    path = Path(path)
    images = torch.zeros(batch_shape(subnet, batch_size))
    with torch.no_grad():
        subnet(images)  # constants that are made on the first call are then there
        program = torch.export.export(subnet, (images,))
    torch.export.save(program, path)
    return path
