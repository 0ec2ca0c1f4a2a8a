"""Accuracy of networks as int8 files: what a search for an int8 target has to compare.

Each subnet is emitted, quantised by onnxruntime as its file would be (`deployment.quantised`), and
run over the search-validation split. The weights are the shared ones, rounded after training
(post-training quantisation); nothing is trained to bear the rounding. Scales depend on the
calibration images and not on how many are in a batch, so the file of a target that takes one
image a run computes the same.

A network that cannot be quantised is a failed evaluation, not an error.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from deployment.emit import emit
from deployment.quantised import MODES, quantise
from deployment.runtime import open_session
from deployment.torch_export import ExportError
from records import (
    BadInputError,
    CorruptFileError,
    Measured,
    array_hash,
    content_hash,
    unknown_name,
)
from search_spaces import Architecture, Genes, SearchSpace
from supernet import Split, Subnet
from supernet.evaluation import SupernetEvaluator, standard_error

if TYPE_CHECKING:
    from deployment.quantised_shipment import QuantisedRecipe, Whole

IMAGES = 256
"""Training images that set the scales of static int8 files."""

BATCH_SIZE = 64
"""Images a run."""


def int8_accuracy(
    subnet: Subnet,
    split: Split,
    *,
    mode: str = "static",
    images: npt.NDArray[np.float32] | None = None,
    batch_size: int = BATCH_SIZE,
    threads: int = 1,
) -> float:
    """The share of images whose class a network's int8 file predicts.

    Args:
        subnet: The network in eval mode.
        split: The images that count.
        mode: How the file is quantised, "static" or "dynamic".
        images: Training images that set the scales of the static way, at least a batch.
        batch_size: Images a run.
        threads: Threads inside an operator.

    Raises:
        CorruptFileError: onnxruntime cannot quantise the network.
        ExportError: It cannot be exported.
    """
    emitted = emit(subnet, batch_size).SerializeToString()
    session = open_session(quantise(emitted, mode=mode, images=images), threads)
    name = session.get_inputs()[0].name
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
        space: Their search space.
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
        return self.evaluator.subnet(architecture)

    def evaluate(self, genes: Genes) -> Sequence[Measured]:
        """Accuracy of the int8 files with its standard error, for each row of genes."""
        return [self._evaluate(row) for row in genes]

    def _evaluate(self, row: Genes) -> Measured:
        start = time.perf_counter()
        subnet = self.subnet(self.space.decode(row)[0])
        try:
            value = int8_accuracy(
                subnet,
                self.validation,
                mode=self.mode,
                images=self.scaling,
                batch_size=self.batch_size,
                threads=self.threads,
            )
        except (CorruptFileError, ExportError) as error:
            seconds = time.perf_counter() - start
            return Measured(value=None, status="failed", reason=str(error), seconds=seconds)
        return Measured(
            value=value,
            dispersion=standard_error(value, len(self.validation)),
            seconds=time.perf_counter() - start,
        )


class QuantisedEvaluator(Int8Evaluator):
    """Measures subnets of a trained supernet as int8 files, on the search-validation split.

    Args:
        evaluator: Hands out the subnets, with recalibrated batch norm, and has the data.
        mode: How files are quantised, "static" or "dynamic"; as the target's files will be.
        images: How many training images set the scales of the static way, the first ones.
        batch_size: Images a run; fewer where fewer set the scales.
        threads: Threads inside an operator; in other processes it is as the executor says.

    Raises:
        BadInputError: Numbers below 1, or fewer training images than `images`.
        UnknownNameError: Another mode.
    """

    def __init__(
        self,
        evaluator: SupernetEvaluator,
        *,
        mode: str = "static",
        images: int = IMAGES,
        batch_size: int = BATCH_SIZE,
        threads: int = 1,
    ) -> None:
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
        super().__init__(
            evaluator,
            evaluator.supernet.space,
            evaluator.data.validation,
            mode=mode,
            scaling=train[:images].numpy() if mode == "static" else None,
            batch_size=min(batch_size, images),
            threads=threads,
        )

    def shipment(self) -> tuple[QuantisedRecipe | Whole, dict[str, Any]]:
        """A recipe and the arrays it needs, for workers in other processes."""
        from deployment.quantised_shipment import shipment

        return shipment(self)
