"""Trains a supernet by workers of a Ray cluster, and leaves it at a path or URL.

    python -m experiments.cluster.train --dataset digits --space hybrid \\
        --checkpoint s3://bucket/supernet.safetensors --workers 4

Started again with the same options it continues, and when all is trained it ends at once. Then:

    python -m experiments.search --dataset digits --space hybrid \\
        --supernet s3://bucket/supernet.safetensors
"""

from __future__ import annotations

from pathlib import Path

from experiments.cluster.job import check_outlives_job
from experiments.cluster.train_options import TrainOptions
from experiments.config import EPOCHS
from experiments.console import progress_bar, say
from experiments.datasets import load_dataset
from experiments.spaces import make_space
from records.stored_file import absolute
from supernet import Supernet, train_on_ray


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
