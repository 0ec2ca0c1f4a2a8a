"""What `hwnas train` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.config import LARGEST_SEED
from experiments.executor_option import parse_resource
from records import BadInputError

if TYPE_CHECKING:
    from supernet import RayGroup, Recipe


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
        resources: What else each takes of its node, as `NAME=AMOUNT`.
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
    resources: tuple[str, ...] = ()
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
        from supernet import RayGroup

        return RayGroup(
            workers=self.workers,
            cpus=self.cpus,
            gpus=self.gpus,
            resources=dict(map(parse_resource, self.resources)),
            failures=self.failures,
            wait_s=self.wait_s,
            address=self.address,
        )

    @property
    def recipe(self) -> Recipe:
        """How the supernet is trained."""
        from supernet import Recipe

        return Recipe(shards=max(2, self.workers) if self.shards is None else self.shards)
