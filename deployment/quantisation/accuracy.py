"""Accuracy of networks as int8 files: what a search for an int8 target has to compare.

Each subnet is emitted, quantised by onnxruntime as its file would be
(`deployment.quantisation.quantised`), and run over the search-validation split. The weights are
the shared ones, rounded after training (post-training quantisation); nothing is trained to bear
the rounding. Scales depend on the calibration images and not on how many are in a batch, so the
file of a target that takes one image a run computes the same.

Where the precision of each stage or block is a choice (`search_spaces.WithBlockPrecision`), files
are of mixed precision, as the row of genes says. What files of one network have in common, its
weights, batch-norm statistics and scales, is made once.

A network that cannot be quantised is a failed evaluation, not an error.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from deployment.emission.emit import emit
from deployment.emission.torch_export import ExportError
from deployment.quantisation.quantised import MODES, Quantiser, quantise
from deployment.runtime import open_session
from records import (
    BadInputError,
    CorruptFileError,
    Measured,
    array_hash,
    content_hash,
    unknown_name,
)
from search_spaces import Architecture, Genes, SearchSpace, WithBlockPrecision
from supernet import Split, Subnet
from supernet.evaluation import SupernetEvaluator, standard_error

if TYPE_CHECKING:
    from deployment.quantisation.shipment import QuantisedRecipe, Whole

IMAGES = 256
"""Training images that set the scales of static int8 files."""

BATCH_SIZE = 64
"""Images a run."""

MOST_REMEMBERED = 4
"""Networks whose scales an evaluator keeps, for further precisions of theirs."""


def int8_accuracy(
    subnet: Subnet,
    split: Split,
    *,
    mode: str = "static",
    images: npt.NDArray[np.float32] | None = None,
    batch_size: int = BATCH_SIZE,
    threads: int = 1,
    fp32_blocks: Sequence[str] = (),
) -> float:
    """The share of images whose class a network's int8 file predicts.

    Args:
        subnet: The network in eval mode.
        split: The images that count.
        mode: How the file is quantised, "static" or "dynamic".
        images: Training images that set the scales of the static way, at least a batch.
        batch_size: Images a run.
        threads: Threads inside an operator.
        fp32_blocks: Names of layers, blocks or stages that the file leaves in fp32.

    Raises:
        CorruptFileError: onnxruntime cannot quantise the network.
        ExportError: It cannot be exported.
    """
    emitted = emit(subnet, batch_size).SerializeToString()
    data = quantise(emitted, mode=mode, images=images, fp32_blocks=fp32_blocks, threads=threads)
    return file_accuracy(data, split, threads)


def file_accuracy(data: bytes, split: Split, threads: int = 1) -> float:
    """The share of images whose class a file predicts; its batch size is fixed in it."""
    session = open_session(data, threads)
    entry = session.get_inputs()[0]
    name, batch_size = entry.name, int(entry.shape[0])
    right = 0
    for start in range(0, len(split), batch_size):
        batch = split.images[start : start + batch_size].numpy()
        short = batch_size - len(batch)  # the file's batch is fixed: fill the last one
        full = np.concatenate([batch, np.zeros((short, *batch.shape[1:]), batch.dtype)])
        logits = session.run(None, {name: full})[0][: len(batch)]
        labels = split.labels[start : start + batch_size].numpy()
        right += int((logits.argmax(1) == labels).sum())
    return right / len(split)


class NetworkSource(Protocol):
    """Hands out fp32 networks; evaluators do."""

    @property
    def metric(self) -> str:
        """The name of what they are measured by."""
        ...

    @property
    def weights_hash(self) -> str:
        """Identifies their weights."""
        ...

    def subnet(self, architecture: Architecture) -> Subnet:
        """The plain network of one architecture."""
        ...


class Int8Evaluator:
    """Measures the networks of another evaluator as int8 files; what a worker holds.

    Args:
        evaluator: Hands out the networks.
        space: Their search space; with the precision of each block where files are mixed.
        validation: The images that count.
        mode: How files are quantised, "static" or "dynamic".
        scaling: Training images that set the scales of the static way, at least a batch.
        batch_size: Images a run.
        threads: Threads inside an operator.
    """

    def __init__(
        self,
        evaluator: NetworkSource,
        space: SearchSpace,
        validation: Split,
        *,
        mode: str,
        scaling: npt.NDArray[np.float32] | None,
        batch_size: int,
        threads: int,
    ) -> None:
        self.evaluator = evaluator
        self.space = space
        self.validation = validation
        self.mode = mode
        self.scaling = scaling
        self.batch_size = batch_size
        self.threads = threads
        self._quantisers: OrderedDict[str, Quantiser] = OrderedDict()

    @property
    def metric(self) -> str:
        """What is measured: that of the evaluator."""
        return self.evaluator.metric

    @property
    def weights_hash(self) -> str:
        """Identifies the weights, the way of quantising and the images that set the scales."""
        images = "" if self.scaling is None else array_hash({"images": self.scaling})
        return content_hash([self.evaluator.weights_hash, "int8", self.mode, images])

    def subnet(self, architecture: Architecture) -> Subnet:
        """The network in fp32, which its target's file is made from."""
        space = self.space
        if isinstance(space, WithBlockPrecision):
            architecture = space.base.decode(space.to_base(space.encode(architecture)))[0]
        return self.evaluator.subnet(architecture)

    def evaluate(self, genes: Genes) -> Sequence[Measured]:
        """Accuracy of the int8 files with its standard error, for each row of genes."""
        return [self._evaluate(row) for row in genes]

    def _evaluate(self, row: Genes) -> Measured:
        start = time.perf_counter()
        try:
            value = file_accuracy(self.file(row), self.validation, self.threads)
        except (CorruptFileError, ExportError) as error:
            seconds = time.perf_counter() - start
            return Measured(value=None, status="failed", reason=str(error), seconds=seconds)
        return Measured(
            value=value,
            dispersion=standard_error(value, len(self.validation)),
            seconds=time.perf_counter() - start,
        )

    def file(self, row: Genes) -> bytes:
        """The int8 or mixed file of one row of genes, for `batch_size` images a run.

        Raises:
            CorruptFileError: onnxruntime cannot quantise the network.
            ExportError: It cannot be exported.
        """
        if not isinstance(self.space, WithBlockPrecision):
            return self._quantiser(self.space.decode(row)[0]).file()
        base = self.space.base.decode(self.space.to_base(row))[0]
        quantiser = self._quantiser(base)
        return quantiser.file(quantiser.present(self.space.fp32_blocks(row)))

    def _quantiser(self, architecture: Architecture) -> Quantiser:
        """What makes the files of one network, with its scales."""
        key = content_hash(architecture.to_json())
        if key not in self._quantisers:
            emitted = emit(self.evaluator.subnet(architecture), self.batch_size)
            self._quantisers[key] = Quantiser(
                emitted.SerializeToString(),
                mode=self.mode,
                images=self.scaling,
                threads=self.threads,
            )
        self._quantisers.move_to_end(key)
        if len(self._quantisers) > MOST_REMEMBERED:
            self._quantisers.popitem(last=False)
        return self._quantisers[key]


class QuantisedEvaluator(Int8Evaluator):
    """Measures subnets of a trained supernet as int8 files, on the search-validation split.

    Args:
        evaluator: Hands out the subnets, with recalibrated batch norm, and has the data.
        mode: How files are quantised, "static" or "dynamic"; as the target's files will be. By
            default as `space` says, and "static" without one.
        space: The evaluator's space with the precision of each stage or block, for mixed files.
        images: How many training images set the scales of the static way, the first ones.
        batch_size: Images a run; fewer where fewer set the scales.
        threads: Threads inside an operator; in other processes it is as the executor says.

    Raises:
        BadInputError: Numbers below 1, fewer training images than `images`, a space that is not
            made of the evaluator's, or quantises in another way.
        UnknownNameError: Another mode.
    """

    def __init__(
        self,
        evaluator: SupernetEvaluator,
        *,
        mode: str | None = None,
        space: WithBlockPrecision | None = None,
        images: int = IMAGES,
        batch_size: int = BATCH_SIZE,
        threads: int = 1,
    ) -> None:
        if mode is None:
            mode = "static" if space is None else space.quantisation
        if mode not in MODES:
            raise unknown_name("quantisation", mode, MODES)
        train = evaluator.data.train.images
        for name, number in (("images", images), ("batch_size", batch_size), ("threads", threads)):
            if number < 1:
                raise BadInputError(f"{name} must be at least 1, got {number}")
        if mode == "static" and images > len(train):
            raise BadInputError(
                f"images={images} is more than the {len(train)} training images; give fewer"
            )
        if space is not None:
            _check_mixed(space, evaluator.supernet.space, mode)
        super().__init__(
            evaluator,
            space or evaluator.supernet.space,
            evaluator.data.validation,
            mode=mode,
            scaling=train[:images].numpy() if mode == "static" else None,
            batch_size=min(batch_size, images),
            threads=threads,
        )

    def shipment(self) -> tuple[QuantisedRecipe | Whole, dict[str, Any]]:
        """A recipe and the arrays it needs, for workers in other processes."""
        from deployment.quantisation.shipment import shipment

        return shipment(self)


def _check_mixed(space: WithBlockPrecision, base: SearchSpace, mode: str) -> None:
    if space.base.hash != base.hash:
        raise BadInputError(
            f"the precisions are of {space.base.name!r} and the supernet is of {base.name!r}; use "
            "WithBlockPrecision(base=supernet.space)"
        )
    if mode != space.quantisation:
        raise BadInputError(
            f"mode={mode!r}, but the space says quantisation={space.quantisation!r}; leave the "
            "mode out"
        )
