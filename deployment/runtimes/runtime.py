"""What a runtime is to hwnas: it opens a network, and an open network runs one batch.

onnxruntime runs the files of bundles. The runtimes of this folder run the same networks in other
ways, so that users who have a choice can see on their own machine what it is worth: each is opened
from the subnet, compared with torch, and timed beside the others in turns.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError, HwnasError
from supernet import Subnet

Array: TypeAlias = npt.NDArray[np.float32]


class MissingRuntimeError(HwnasError, ImportError):
    """A runtime that is not installed; the message names what installs it."""


class RuntimeRefusalError(HwnasError, RuntimeError):
    """A network that a runtime cannot take or run."""


class Opened(ABC):
    """A network in a runtime, ready for batches of one shape.

    Attributes:
        name: How tables call it.
        shape: Of a batch, `n x channels x height x width`.
        threads: That compute one batch.
        file_bytes: Size of the file that it was opened from; None where there is none.
        in_caller: Whether a run on one thread computes in the thread that calls it, which is
            where preemption can be seen.
    """

    in_caller: bool = True

    def __init__(
        self, name: str, shape: tuple[int, ...], threads: int, file_bytes: int | None = None
    ) -> None:
        self.name, self.shape, self.threads, self.file_bytes = name, shape, threads, file_bytes
        self.bind(np.zeros(shape, np.float32))

    @abstractmethod
    def bind(self, images: Array) -> None:
        """Sets the batch that `run` computes."""

    @abstractmethod
    def run(self) -> None:
        """Computes the batch, once; this is what is timed."""

    @abstractmethod
    def logits(self) -> Array:
        """What the last run gave, `n x classes`."""

    def running(self) -> AbstractContextManager[None]:
        """Settings of the process that runs need; to be entered around them."""
        return nullcontext()

    def visiting(self) -> AbstractContextManager[None]:
        """To be entered around the runs of a visit: opens what would disturb others between."""
        return nullcontext()

    def predict(self, images: Array) -> Array:
        """Logits `n x classes` of images, batch by batch; the last one is filled with zeros.

        Raises:
            BadInputError: Images of another shape than the network's, or none.
        """
        images = np.ascontiguousarray(images, np.float32)
        if images.ndim != 4 or images.shape[1:] != self.shape[1:] or not len(images):
            raise BadInputError(
                f"{self.name} takes images of shape n x {' x '.join(map(str, self.shape[1:]))}, "
                f"got an array of shape {images.shape}"
            )
        size, found = self.shape[0], []
        with self.running(), self.visiting():
            for start in range(0, len(images), size):
                batch = images[start : start + size]
                short = size - len(batch)
                empty = np.zeros((short, *batch.shape[1:]), np.float32)
                self.bind(np.concatenate([batch, empty]) if short else batch)
                self.run()
                found.append(np.array(self.logits(), np.float32)[: len(batch)])
        return np.concatenate(found)


class Runtime(ABC):
    """A way to run a network.

    Attributes:
        name: Its name in `RUNTIMES`.
        title: What it is, for tables.
        modules: What must be importable.
        package: What says its version.
        extra: Of hwnas, which installs it; "" for what is always there.
        tolerance: Largest difference of a logit from torch's, relative to the largest logit; None
            where numbers are rounded to 8 bits and the difference is only told.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    modules: ClassVar[tuple[str, ...]] = ()
    package: ClassVar[str] = "torch"
    extra: ClassVar[str] = ""
    tolerance: ClassVar[float | None] = 1e-4

    def missing(self) -> str:
        """What is not there that it needs, in words; "" where all is."""
        absent = [name for name in self.modules if importlib.util.find_spec(name) is None]
        return ", ".join(absent)

    @property
    def is_installed(self) -> bool:
        """Whether it can be opened here."""
        return not self.missing()

    def check_installed(self) -> None:
        """Refuses to go on where it cannot be opened.

        Raises:
            MissingRuntimeError: Names what is missing and what installs it.
        """
        absent = self.missing()
        if absent:
            raise MissingRuntimeError(f"{self.title} needs {absent}, not found here; {self.cure}")

    @property
    def version(self) -> str:
        """Of the package that runs; "" where it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return ""

    def open(
        self,
        subnet: Subnet,
        batch_size: int = 1,
        *,
        threads: int = 1,
        calibration: Array | None = None,
    ) -> Opened:
        """Opens a network.

        Args:
            subnet: The network in eval mode.
            batch_size: Images a run.
            threads: That compute one batch.
            calibration: Training images that set the scales of int8, at least a batch; random
                ones where there are none, which is enough for timing and not for accuracy.

        Raises:
            MissingRuntimeError: It is not installed.
            RuntimeRefusalError: It cannot take this network.
            BadInputError: A network in training mode, a batch size or threads below 1.
        """
        self.check_installed()
        if subnet.training:
            raise BadInputError("call subnet.eval() before opening it in a runtime")
        for what, number in (("batch_size", batch_size), ("threads", threads)):
            if number < 1:
                raise BadInputError(f"{what} must be >= 1, got {number}")
        try:
            return self._open(subnet, batch_size, threads, calibration)
        except (BadInputError, RuntimeRefusalError):
            raise
        except Exception as error:  # each runtime has classes of its own
            raise RuntimeRefusalError(f"{self.title} cannot take this network: {error}") from error

    @property
    def cure(self) -> str:
        """What to do where it is not installed."""
        return f"install it with: pip install 'hwnas[{self.extra}]'"

    @abstractmethod
    def _open(
        self, subnet: Subnet, batch_size: int, threads: int, calibration: Array | None
    ) -> Opened: ...


def batch_shape(subnet: Subnet, batch_size: int) -> tuple[int, int, int, int]:
    """The shape of a batch of images, `n x channels x height x width`."""
    first = subnet.graph.layers[0]
    return batch_size, first.channels, first.height, first.width
