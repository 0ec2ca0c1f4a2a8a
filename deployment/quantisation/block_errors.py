"""What 8 bits cost each block of a network.

One block after the other is quantised alone and compared with the network in fp32, on the same
images: how far the logits move, relative to their spread, how many images change their class, and
how far the block's own output moves. A block that is wrong itself and moves no logits is corrected
by what follows, so the logits count. `deployment.quantisation.sensitive_blocks` leaves the worst
in fp32.

The scales of all files come from one calibration (`deployment.quantisation.quantised.Quantiser`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from deployment.emission.emit import emit
from deployment.network_blocks import is_within
from deployment.quantisation.accuracy import BATCH_SIZE
from deployment.quantisation.quantised import Quantiser
from deployment.runtime import open_session
from records import BadInputError
from supernet import Subnet

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockError:
    """What it costs to quantise one block alone.

    Attributes:
        block: Its name.
        relative_error: Root mean square of the logits' difference over their deviation.
        top1_changes: Share of images whose predicted class is another one.
        output_error: The same as `relative_error` for what the block itself puts out.
        weights: How many weights it has in 8 bits.
    """

    block: str
    relative_error: float
    top1_changes: float
    output_error: float
    weights: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockErrors:
    """What 8 bits cost a network, block by block.

    Attributes:
        mode: "static" or "dynamic" (`deployment.quantisation.quantised`).
        images: How many were compared.
        calibration_images: How many set the scales; 0 for the dynamic way.
        together: With all blocks quantised; its `block` is empty.
        blocks: With one block quantised, in the order in which they run.
    """

    mode: str
    images: int
    calibration_images: int
    together: BlockError
    blocks: tuple[BlockError, ...]

    @property
    def by_error(self) -> tuple[str, ...]:
        """The names of the blocks, those that move the logits most first."""
        ordered = sorted(self.blocks, key=lambda b: (-b.relative_error, b.block))
        return tuple(block.block for block in ordered)

    def to_json(self) -> dict[str, Any]:
        """Everything by name."""
        return {**asdict(self), "blocks": [asdict(block) for block in self.blocks]}

    def __str__(self) -> str:
        """A table, a row a block."""
        width = max(len(b.block) for b in (*self.blocks, BlockError(**_ALL)))
        head = f"{'block':{width}}  logits  classes  output  weights"
        rows = [
            f"{b.block or 'all':{width}}  {b.relative_error:6.1%}  {b.top1_changes:7.1%}  "
            f"{b.output_error:6.1%}  {b.weights:7,}"
            for b in (*self.blocks, self.together)
        ]
        return "\n".join([head, *rows])


_ALL: Mapping[str, Any] = {
    "block": "block", "relative_error": 0, "top1_changes": 0, "output_error": 0, "weights": 0,
}  # fmt: skip


def block_errors(
    subnet: Subnet,
    *,
    mode: str = "static",
    calibration_images: Array | None = None,
    images: Array,
    batch_size: int = BATCH_SIZE,
    threads: int = 1,
) -> BlockErrors:
    """The error of quantising each block of a network alone, and all of them.

    Args:
        subnet: The network in eval mode.
        mode: "static" or "dynamic".
        calibration_images: Training images that set the scales of the static way.
        images: Real images that are compared, `n x channels x height x width`.
        batch_size: Images a run; fewer where there are fewer.
        threads: Threads inside an operator.

    Raises:
        BadInputError: No images, static quantisation without calibration images, or a network
            with nothing to quantise.
        CorruptFileError: onnxruntime cannot quantise the network.
    """
    check_images(mode, images, calibration_images)
    given = [len(images)] if calibration_images is None else [len(images), len(calibration_images)]
    batch_size = min(batch_size, *given)
    quantiser = quantiser_of(subnet, mode, calibration_images, batch_size, threads)
    if not quantiser.blocks:
        raise BadInputError(f"the network has nothing that {mode} quantisation takes to 8 bits")
    ends = {block: _end_of(quantiser.proto, block) for block in quantiser.blocks}
    exact = open_session(_with_outputs(quantiser.model, [*ends.values()]), threads)
    files = {block: quantiser.only(block) for block in quantiser.blocks} | {"": quantiser.file()}
    compared = {
        block: _Comparison(data, ends.get(block), threads) for block, data in files.items()
    }
    for batch, used in _batches(exact, images):
        answers = _run(exact, batch, used)
        for comparison in compared.values():
            comparison.add(answers, batch, used)
    *blocks, together = (one.error(block) for block, one in compared.items())
    return BlockErrors(
        mode=mode,
        images=len(images),
        calibration_images=0 if calibration_images is None else len(calibration_images),
        together=together,
        blocks=tuple(blocks),
    )


def check_images(mode: str, images: Array, calibration_images: Array | None) -> None:
    """Refuses to compare nothing, and static quantisation without images for its scales.

    Raises:
        BadInputError: Says what to give.
    """
    if len(images) == 0:
        raise BadInputError("no images to compare; give data.validation.images.numpy()")
    if mode == "static" and calibration_images is None:
        raise BadInputError(
            "the scales of static quantisation come from training images: pass "
            "calibration_images=data.train.images[:256].numpy(), or mode='dynamic'"
        )


def quantiser_of(
    subnet: Subnet, mode: str, scaling: Array | None, batch_size: int, threads: int
) -> Quantiser:
    """What makes the files of a network in eval mode, for a number of images a run."""
    emitted = emit(subnet, batch_size).SerializeToString()
    return Quantiser(emitted, mode=mode, images=scaling, threads=threads)


def _end_of(model: onnx.ModelProto, block: str) -> str:
    """What the last node of a block writes."""
    last = [node for node in model.graph.node if is_within(node.name, block)][-1]
    return str(last.output[0])


def _with_outputs(data: bytes, names: Sequence[str]) -> bytes:
    """The file with some tensors as outputs beside its own, behind its own."""
    model = onnx.load_from_string(data)
    own = {value.name for value in model.graph.output}
    for name in dict.fromkeys(names):
        if name not in own:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return bytes(model.SerializeToString())


def _batches(
    session: ort.InferenceSession, images: Array
) -> Iterator[tuple[dict[str, Array], int]]:
    """Images cut into whole batches, the last one filled up, and how many of each count."""
    entry = session.get_inputs()[0]
    size = int(entry.shape[0])
    for start in range(0, len(images), size):
        part = np.asarray(images[start : start + size], np.float32)
        filling = np.zeros((size - len(part), *part.shape[1:]), np.float32)
        yield {entry.name: np.concatenate([part, filling])}, len(part)


def _run(session: ort.InferenceSession, batch: Mapping[str, Array], used: int) -> dict[str, Array]:
    """All outputs by name, a row an image (tokens stand as a matrix `(n * tokens) x channels`)."""
    size = len(next(iter(batch.values())))
    names = [value.name for value in session.get_outputs()]
    values = session.run(None, dict(batch))
    return {n: v.reshape(size, -1)[:used] for n, v in zip(names, values, strict=True)}


class _Comparison:
    """Compares a file with the one in fp32, batch by batch.

    Args:
        data: The file.
        end: The tensor that its block puts out; None for the logits alone.
        threads: Threads inside an operator.
    """

    def __init__(self, data: bytes, end: str | None, threads: int) -> None:
        model = onnx.load_from_string(data)
        self.end = end
        self.rounded = None if end is None else _rounded(model, end)
        self.weights = sum(
            int(np.prod(entry.dims))
            for entry in model.graph.initializer
            if entry.data_type == TensorProto.INT8 and len(entry.dims) > 1
        )
        outputs = [] if self.rounded is None else [self.rounded]
        self.session = open_session(_with_outputs(data, outputs), threads)
        self.logits = self.session.get_outputs()[0].name
        self._of_logits, self._of_output = _Spread(), _Spread()
        self._changes = 0

    def add(self, exact: Mapping[str, Array], batch: Mapping[str, Array], used: int) -> None:
        """Takes in a batch with the answers in fp32."""
        answers = _run(self.session, batch, used)
        ours, theirs = exact[self.logits], answers[self.logits]
        self._of_logits.add(ours, theirs)
        self._changes += int((ours.argmax(1) != theirs.argmax(1)).sum())
        if self.end is not None and self.rounded is not None:
            self._of_output.add(exact[self.end], answers[self.rounded])

    def error(self, block: str) -> BlockError:
        """What was found, under the name of a block."""
        of_output = self._of_logits if self.end is None else self._of_output
        return BlockError(
            block=block,
            relative_error=self._of_logits.relative_error,
            top1_changes=self._changes / self._of_logits.images,
            output_error=of_output.relative_error,
            weights=self.weights,
        )


class _Spread:
    """The error of a tensor and its deviation, over batches."""

    def __init__(self) -> None:
        self.images = 0
        self._sums = np.zeros(4)

    def add(self, exact: Array, rough: Array) -> None:
        x = exact.astype(np.float64)
        self.images += len(x)
        self._sums += (x.size, x.sum(), (x**2).sum(), ((x - rough) ** 2).sum())

    @property
    def relative_error(self) -> float:
        """Root mean square of the difference over the deviation of the exact values."""
        count, total, squares, differences = self._sums
        variance = max(squares / count - (total / count) ** 2, 0.0)
        return float(np.sqrt(differences / count) / max(np.sqrt(variance), 1e-30))


def _rounded(model: onnx.ModelProto, tensor: str) -> str:
    """The tensor as what follows reads it: rounded to 8 bits, where the file rounds it."""
    name = f"{tensor}_DequantizeLinear_Output"
    return name if any(name in node.output for node in model.graph.node) else tensor
