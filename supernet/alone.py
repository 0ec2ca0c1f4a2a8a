"""Training one network by itself, with the recipe of the supernet: baselines and references."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from records import BadInputError
from search_spaces import Graph
from supernet.channels_last import channels_last
from supernet.data import ImageData
from supernet.network import ElasticNetwork
from supernet.subnet import Subnet
from supernet.training import Options, Recipe, Step
from supernet.training.loop import train_network
from supernet.training.source import OneNetwork

CALIBRATION_BATCHES = 4
CALIBRATION_BATCH_SIZE = 128


def train_alone(
    graph: Graph,
    data: ImageData,
    *,
    epochs: int,
    recipe: Recipe | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    on_step: Callable[[Step], None] | None = None,
    device: str = "cpu",
    compiled: bool = False,
) -> Subnet:
    """Trains one architecture from scratch on the labels; returns it in eval mode.

    The loop, batches, augmentation, optimiser, schedule and the way in which batch-norm statistics
    are found are those of `supernet.train`; only there is no distillation, since there is no
    larger network to learn from.

    Args:
        graph: The architecture's layers.
        data: Only `data.train` is read.
        epochs: Passes over the training images.
        recipe: How; the default is that of `train`. Its members are not used.
        seed: Derives weights, batches and augmentation.
        checkpoint: A file to continue from if it exists, and to write on the way and at the end:
            a path, or a URL that fsspec knows, such as `s3://bucket/run.safetensors`. The one
            before the last is kept beside it, as `run.previous.safetensors`.
        checkpoint_every: Steps between two checkpoints.
        on_step: Called after every step.
        device: Where the network is trained.
        compiled: Whether it runs through `torch.compile`.

    Raises:
        BadInputError: Data that do not fit the network; no epochs; a checkpoint of another run.
        TrainingError: Many steps in a row went wrong, also from weights that were good before.
    """
    check_fits(graph, data)
    recipe = recipe or Recipe()
    layers = [(layer.name, layer.operator, [layer]) for layer in graph.layers[1:]]
    network = ElasticNetwork(layers, seed=seed)
    options = Options(
        checkpoint=checkpoint, checkpoint_every=checkpoint_every, on_step=on_step, device=device,
        compiled=compiled,
    )  # fmt: skip
    train_network(
        network, OneNetwork(graph), data, epochs=epochs, recipe=recipe, seed=seed, options=options
    )
    return network.extract_graph(graph, network.recalibrate_graph(graph, calibration(data)))


def check_fits(graph: Graph, data: ImageData) -> None:
    """Refuses data of another image size, channel or class count than the network's."""
    first, last = graph.layers[0], graph.layers[-1]
    made_for = (first.channels, first.height, first.width, last.channels)
    given = (data.channels, data.image_size, data.image_size, data.num_classes)
    if made_for != given:
        raise BadInputError(
            "the network is made for channels x height x width and classes {} x {} x {} and {}, "
            "dataset {!r} has {} x {} x {} and {}".format(*made_for, data.name, *given)
        )


def calibration(
    data: ImageData,
    batches: int = CALIBRATION_BATCHES,
    batch_size: int = CALIBRATION_BATCH_SIZE,
) -> list[Tensor]:
    """Training images for batch-norm statistics: a fixed draw, for the first may be of one class.

    Returns:
        Up to `batches` tensors of `batch_size` images, channels last in memory.
    """
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    images = data.train.images[order[: batches * batch_size]]
    return [channels_last(part) for part in torch.split(images, batch_size) if len(part) > 1]
