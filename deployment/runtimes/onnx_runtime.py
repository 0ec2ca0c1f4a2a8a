"""onnxruntime beside the others: a serialised ONNX file, opened with the settings of a variant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import onnxruntime as ort

from deployment.emission.emit import emit
from deployment.kit.measure import WARM_RUNS
from deployment.runtime import open_session
from deployment.runtimes.runtime import Array, Opened, Runtime
from deployment.session_settings import SessionSettings
from records import BadInputError
from supernet import Subnet


class OnnxRuntimeNetwork(Opened):
    """A file in onnxruntime.

    A session whose threads spin is open for its visits alone, since the threads of an open one
    take the processor from all others.

    Args:
        name: How tables call it.
        data: The file, with one input of fixed shape.
        threads: Threads inside an operator.
        settings: How it is opened.
        open_with: Opens the file in another way than `open_session`.
        is_alone: Whether it is closed between visits; by default where its settings need that.

    Raises:
        BadInputError: An input whose shape is not fixed.
        CorruptFileError: onnxruntime refuses the file.
    """

    def __init__(
        self,
        name: str,
        data: bytes,
        threads: int = 1,
        settings: SessionSettings | None = None,
        *,
        open_with: Callable[[bytes], ort.InferenceSession] | None = None,
        is_alone: bool | None = None,
    ) -> None:
        how = settings or SessionSettings()
        self._open = open_with or (lambda file: open_session(file, threads, how))
        self._data = data
        self._is_alone = how.must_be_alone(threads) if is_alone is None else is_alone
        self._session: ort.InferenceSession | None = self._open(data)
        entry = self._session.get_inputs()[0]
        if not all(isinstance(size, int) for size in entry.shape):
            raise BadInputError(f"the input's shape must be fixed to be timed, got {entry.shape}")
        self._input = entry.name
        self._output = np.empty(0, np.float32)
        super().__init__(name, tuple(entry.shape), threads, len(data))
        if self._is_alone:
            self._session = None

    def bind(self, images: Array) -> None:
        self._feed = {self._input: images}

    @contextmanager
    def visiting(self) -> Iterator[None]:
        if self._is_alone:
            self._session = self._open(self._data)
            for _ in range(WARM_RUNS):
                self.run()
        yield
        if self._is_alone:
            self._session = None

    def run(self) -> None:
        self._output = self._session.run(None, self._feed)[0]  # type: ignore[union-attr]

    def logits(self) -> Array:
        return self._output


class OnnxRuntime(Runtime):
    """The file that `emit` writes, in fp32, as `LocalRunner` opens it."""

    name = "onnxruntime"
    title = "onnxruntime"
    package = "onnxruntime"

    def _open(
        self, subnet: Subnet, batch_size: int, threads: int, calibration: Array | None
    ) -> Opened:
        data = emit(subnet, batch_size).SerializeToString()
        return OnnxRuntimeNetwork(self.name, data, threads)
