"""The command `hwnas train`: a supernet, trained on a Ray cluster."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from experiments.console import say
from experiments.datasets import DATASETS
from experiments.executor_option import parse_resource
from experiments.spaces import SPACES

INTERRUPTED = 130


def train_command(
    checkpoint: Annotated[
        str,
        typer.Option(
            help="where the supernet is kept and continued from: a path that all nodes share, or "
            "a URL as s3://bucket/supernet.safetensors"
        ),
    ],
    dataset: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(DATASETS)}, a folder with a subfolder per class, or a MedMNIST .npz"
        ),
    ] = "digits",
    space: Annotated[str, typer.Option(help=", ".join(SPACES))] = "hybrid",
    epochs: Annotated[
        int | None, typer.Option(help="passes over the training images; by dataset if not given")
    ] = None,
    seed: Annotated[int, typer.Option(help="derives everything random")] = 0,
    workers: Annotated[int, typer.Option(help="workers that train together")] = 2,
    address: Annotated[
        str, typer.Option(help="the Ray cluster: auto, host:6379, or local for one of its own")
    ] = "auto",
    gpus: Annotated[int, typer.Option(help="1 for a GPU of its own for each worker")] = 0,
    cpus: Annotated[float, typer.Option(help="processors of each worker")] = 1.0,
    resource: Annotated[
        list[str] | None,
        typer.Option(help="what else a worker takes, as device:rpi4=1; again for further"),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            help="parts of a batch, a multiple of the workers; their number if not given"
        ),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="steps between two checkpoints")] = 100,
    failures: Annotated[int, typer.Option(help="how often lost workers are replaced")] = 3,
    wait: Annotated[float, typer.Option(help="seconds to wait for room after a loss")] = 600.0,
    image_size: Annotated[int | None, typer.Option(help="resize images to this side")] = None,
    train_images: Annotated[int | None, typer.Option(help="use only that many")] = None,
    data_folder: Annotated[
        str | None, typer.Option(help="where a named dataset's files are")
    ] = None,
) -> None:
    """Trains a supernet by workers of a Ray cluster; started again, it continues."""
    from experiments.cluster.train import TrainOptions, train_supernet

    options = TrainOptions(
        checkpoint=checkpoint,
        dataset=dataset,
        space=space,
        epochs=epochs,
        seed=seed,
        shards=shards,
        workers=workers,
        cpus=cpus,
        gpus=gpus,
        resources=dict(map(parse_resource, resource or ())),
        failures=failures,
        wait_s=wait,
        checkpoint_every=checkpoint_every,
        address=address,
        image_size=image_size,
        train_images=train_images,
        data_folder=data_folder,
    )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        train_supernet(options)
    except KeyboardInterrupt:
        say(f"interrupted; the same command continues from {checkpoint}")
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A cluster stops a job by SIGTERM."""
    raise KeyboardInterrupt


def main() -> None:
    """The command `python -m experiments.cluster.train`."""
    from experiments.cli import run

    run(["train", *sys.argv[1:]])
