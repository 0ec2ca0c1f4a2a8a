"""Trains a supernet by workers of a Ray cluster, and leaves it at a path or URL.

    python -m experiments.cluster.train --dataset digits --space hybrid \\
        --checkpoint s3://bucket/supernet.safetensors --workers 4

Started again with the same options it continues, and when all is trained it ends at once. Then:

    python -m experiments.search --dataset digits --space hybrid \\
        --supernet s3://bucket/supernet.safetensors
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from experiments.cluster.job import check_outlives_job
from experiments.config import EPOCHS, LARGEST_SEED
from experiments.console import progress_bar, say
from experiments.datasets import load_dataset
from experiments.spaces import make_space
from records import BadInputError
from records.stored_file import absolute
from supernet import RayGroup, Recipe, Supernet, train_on_ray


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What `hwnas train` is asked to do.

    Attributes:
        checkpoint: Where the supernet is kept: a path that all nodes share, or a URL that fsspec
            knows.
        dataset: See `SearchConfig`, like those that follow.
        space: A search space's name.
        epochs: Passes over the training images; None takes what suits the dataset.
        seed: Derives everything random.
        shards: Parts of a batch, normalised each by itself and spread over the workers; None
            takes the workers, and 2 for one. It belongs to the recipe: with another number the
            weights are others.
        workers: How many workers train together.
        cpus: Processors of each.
        gpus: 1 for a GPU of its own each.
        resources: What else each takes of its node.
        failures: How often lost workers are replaced.
        wait_s: How long to wait for room after a loss.
        checkpoint_every: Steps between two checkpoints.
        address: The Ray cluster.
        image_size: Resizes images to this side.
        train_images: Uses only so many.
        data_folder: Where a named dataset's files are.
    """

    checkpoint: str
    dataset: str = "digits"
    space: str = "hybrid"
    epochs: int | None = None
    seed: int = 0
    shards: int | None = None
    workers: int = 2
    cpus: float = 1.0
    gpus: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    failures: int = 3
    wait_s: float = 600.0
    checkpoint_every: int = 100
    address: str = "auto"
    image_size: int | None = None
    train_images: int | None = None
    data_folder: str | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise BadInputError(f"--epochs must be at least 1, got {self.epochs}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise BadInputError(f"--seed must be within 0 and {LARGEST_SEED}, got {self.seed}")
        if not self.checkpoint.strip():
            raise BadInputError("--checkpoint needs a path or URL, got an empty one")

    @property
    def group(self) -> RayGroup:
        """The workers."""
        return RayGroup(
            workers=self.workers,
            cpus=self.cpus,
            gpus=self.gpus,
            resources=self.resources,
            failures=self.failures,
            wait_s=self.wait_s,
            address=self.address,
        )

    @property
    def recipe(self) -> Recipe:
        """How the supernet is trained."""
        return Recipe(shards=max(2, self.workers) if self.shards is None else self.shards)


def train_supernet(options: TrainOptions) -> Supernet:
    """Trains, or continues, and says how to go on.

    Raises:
        HwnasError: Whatever is wrong with the options, the data, the cluster or the storage.
    """
    group, recipe = options.group, options.recipe
    if "://" not in options.checkpoint:
        check_outlives_job(Path(options.checkpoint), "--checkpoint")
    data = load_dataset(
        options.dataset,
        image_size=options.image_size,
        train_images=options.train_images,
        folder=options.data_folder,
        seed=options.seed,
    )
    space = make_space(options.space, data)
    epochs = options.epochs or EPOCHS.get((options.dataset, options.space), 3)
    say(
        f"{data.name}: {len(data.train)} training images of {data.image_size}x{data.image_size}, "
        f"{epochs} passes; {space.name}: {space.cardinality:.3g} architectures; "
        f"{group.workers} workers"
    )
    with progress_bar("training the supernet") as advance:
        supernet = train_on_ray(
            Supernet(space, seed=options.seed),
            data,
            group,
            checkpoint=options.checkpoint,
            epochs=epochs,
            recipe=recipe,
            seed=options.seed,
            checkpoint_every=options.checkpoint_every,
            on_step=lambda s: advance(s.number, s.total, f"loss {s.losses[0]:.2f}"),
        )
    say(
        f"trained: {absolute(options.checkpoint)}, weights {supernet.weights_hash()}\n"
        f"to search in it: hwnas search --dataset {options.dataset} --space {options.space} "
        f"--supernet {absolute(options.checkpoint)}"
    )
    return supernet


if __name__ == "__main__":
    from experiments.cluster.train_cli import main

    main()
