"""How the images of a run are loaded again: what a bundle keeps to be reproduced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config import SearchConfig
from experiments.datasets import load_dataset
from supernet import ImageData


def data_source(config: SearchConfig) -> dict[str, Any]:
    """How to load a run's images again, JSON-ready; a bundle keeps it."""
    is_path = Path(config.dataset).exists()
    return {
        "dataset": str(Path(config.dataset).absolute()) if is_path else config.dataset,
        "image_size": config.image_size,
        "train_images": config.train_images,
        "data_folder": config.data_folder,
        "seed": config.seed,
    }


def load_source(source: Mapping[str, Any]) -> ImageData:
    """The images of a `data_source`.

    Raises:
        HwnasError: They are not here.
    """
    return load_dataset(
        source["dataset"],
        image_size=source["image_size"],
        train_images=source["train_images"],
        folder=source["data_folder"],
        seed=source["seed"],
    )
