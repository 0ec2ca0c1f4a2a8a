"""Training an architecture by itself, as a trainable of Ray Tune.

    trainable = training_trainable(space, data, epochs=20)

A trial trains for one epoch at a time and reports its accuracy on the validation split, so that a
scheduler such as ASHA can stop it. What it needs to go on is a checkpoint of the training run,
which is Tune's checkpoint too: a trial that was paused, or whose node was lost, goes on where it
was and comes to the same weights. Its learning rate follows the schedule of all `epochs`, also
where it is stopped before.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from ray import tune

from records import BadInputError
from search_spaces import Graph, SearchSpace
from strategies.executor_shipment import use_threads
from strategies.tune_config import genes_of
from supernet import ImageData, Recipe, Split, Subnet, accuracy
from supernet.alone import calibration
from supernet.network import ElasticNetwork
from supernet.training import Options, Step, batches_per_epoch, check_data, train_network
from supernet.training.source import OneNetwork

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

METRIC = "accuracy"
CHECKPOINT = "training.safetensors"


def training_trainable(
    space: SearchSpace,
    data: ImageData,
    *,
    epochs: int,
    recipe: Recipe | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
) -> type[tune.Trainable]:
    """A trainable that trains the architecture of its config, as `train_alone` does.

    It reports `accuracy` and `epoch` after each epoch and is done after the last. Images lie in
    Ray's object store, once on each node; the test split is not sent.

    Args:
        space: The space of the architectures.
        data: `train` is trained on, `validation` gives the accuracy.
        epochs: Passes over the training images, if nobody stops it.
        recipe: How; the default is that of `train`. With a moving average of the weights, it is
            the accuracy of the weights themselves that is reported before the last epoch.
        seed: Derives weights, batches and augmentation.
        device: Where it trains, `cpu` or `cuda`; ask for the accelerator by `tune.with_resources`.
        threads: How many threads a trial uses on a CPU.

    Raises:
        BadInputError: Data that do not fit the space; no epochs.
    """
    check_data(space, data)
    if epochs < 1:
        raise BadInputError(f"epochs must be >= 1, got {epochs}")
    trainable: type[tune.Trainable] = tune.with_parameters(
        TrainingTrial,
        space=space,
        arrays=_arrays(data),
        names=(data.name, data.class_names, data.flip),
        epochs=epochs,
        recipe=recipe or Recipe(),
        seed=seed,
        device=device,
        threads=threads,
    )
    return trainable


class TrainingTrial(tune.Trainable):  # type: ignore[misc]
    """One architecture in training; use `training_trainable`."""

    def setup(
        self,
        config: dict[str, Any],
        *,
        space: SearchSpace,
        arrays: Arrays,
        names: tuple[str, tuple[str, ...], bool],
        epochs: int,
        recipe: Recipe,
        seed: int,
        device: str,
        threads: int,
    ) -> None:
        """Takes the images and the architecture."""
        use_threads(threads)
        torch.set_num_threads(threads)
        self.space, self.epochs, self.recipe = space, epochs, recipe
        self.seed, self.device = seed, device
        self.data = _data(arrays, *names)
        self.folder = Path(tempfile.mkdtemp(prefix="hwnas-tune-"))
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes another architecture, to be trained from the start."""
        self.graph = self.space.graph(genes_of(new_config, self.space)[0])
        for path in self.folder.iterdir():
            path.unlink()
        return True

    def step(self) -> dict[str, Any]:
        """Trains one more epoch."""
        epoch = self.training_iteration + 1
        network = trained_until(
            self.graph,
            self.data,
            epoch=epoch,
            epochs=self.epochs,
            recipe=self.recipe,
            seed=self.seed,
            checkpoint=self.folder / CHECKPOINT,
            device=self.device,
        )
        share = accuracy(network, self.data.validation)
        return {METRIC: share, "epoch": epoch, "done": epoch >= self.epochs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the training run as it is after the last epoch."""
        if (self.folder / CHECKPOINT).exists():
            shutil.copy(self.folder / CHECKPOINT, checkpoint_dir)

    def load_checkpoint(self, checkpoint: str) -> None:
        """Goes on from what `save_checkpoint` wrote."""
        self.reset_config(self.config)
        if Path(checkpoint, CHECKPOINT).exists():
            shutil.copy(Path(checkpoint, CHECKPOINT), self.folder)

    def cleanup(self) -> None:
        """Removes what the trial wrote on its node."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _EpochDoneError(Exception):
    """Leaves the training loop between two epochs."""


def trained_until(
    graph: Graph,
    data: ImageData,
    *,
    epoch: int,
    epochs: int,
    recipe: Recipe,
    seed: int,
    checkpoint: Path,
    device: str = "cpu",
) -> Subnet:
    """A network as it is after some epochs of the training that `train_alone` does.

    Args:
        graph: The architecture's layers.
        data: Only `data.train` is read.
        epoch: After which epoch, from 1.
        epochs: How many the whole training has.
        recipe: How.
        seed: Derives weights, batches and augmentation.
        checkpoint: The run so far, if the file exists; after the call it is that of `epoch`.
        device: Where it trains.
    """
    every = batches_per_epoch(data.train, recipe)

    def stop(step: Step) -> None:
        if step.number == epoch * every and epoch < epochs:
            raise _EpochDoneError

    layers = [(layer.name, layer.operator, [layer]) for layer in graph.layers[1:]]
    network = ElasticNetwork(layers, seed=seed)
    options = Options(checkpoint=checkpoint, checkpoint_every=every, on_step=stop, device=device)
    try:
        train_network(
            network, OneNetwork(graph), data, epochs=epochs, recipe=recipe, seed=seed,
            options=options,
        )  # fmt: skip
    except _EpochDoneError:
        network.to("cpu").eval()
    return network.extract_graph(graph, network.recalibrate_graph(graph, calibration(data)))


def _arrays(data: ImageData) -> dict[str, npt.NDArray[Any]]:
    return {
        f"{name}/{what}": np.ascontiguousarray(getattr(split, what).numpy())
        for name, split in (("train", data.train), ("validation", data.validation))
        for what in ("images", "labels")
    }


def _data(arrays: Arrays, name: str, class_names: tuple[str, ...], flip: bool) -> ImageData:
    """The images that were sent; nothing here reads a test split, and there is none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        train, validation = (
            Split(torch.from_numpy(arrays[f"{s}/images"]), torch.from_numpy(arrays[f"{s}/labels"]))
            for s in ("train", "validation")
        )
    return ImageData(
        name=name, train=train, validation=validation, test=validation, class_names=class_names,
        flip=flip,
    )  # fmt: skip
