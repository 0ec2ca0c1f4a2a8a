"""The options of the main job, typed and checked."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from records import BadInputError

LARGEST_SEED = 2**63 - 1
"""What a random number generator of torch takes."""

LARGEST_IMAGE = 1024
"""Side in pixels; whole datasets are held in memory."""

EPOCHS = {("digits", "hybrid"): 55, ("digits", "cnn"): 55, ("digits", "vit"): 110}
"""Epochs of training that suit the time of a demonstration, by dataset and space; others 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartConfig:
    """What `hwnas quickstart` is asked to do.

    Attributes:
        dataset: A dataset's name, a folder of images by class, or a MedMNIST `.npz` file.
        space: A search space's name: `cnn`, `vit`, `hybrid`.
        out: The run's folder, new or empty.
        target: A target that was measured before (`hwnas profile import`): its name or folder;
            None takes this machine, at batch 1 and 16.
        command_file: How commands reach that target (`deployment.command_file`), so that exported
            files are timed there; without it they are not timed.
        max_latency_ms: Limit on the latency of one image at batch 1.
        max_energy_mj: Limit on the (modelled) energy of one image at batch 1.
        max_memory_kb: Limit on weights and activations at batch 1, in KiB.
        seed: Derives everything random.
        resume: Whether to continue the run in `out`.
        epochs: Passes over the training images; None takes what suits the dataset.
        evaluations: Subnets whose accuracy is measured.
        strategy: How to search, a name of `strategies.by_name`.
        points: Networks to export for each target.
        calibration_networks: Networks to time for each target's cost model.
        refit_threshold: Median relative error of predicted latencies above which the cost model is
            refitted with what was measured.
        image_size: Side to which images are resized; None keeps the native size.
        train_images: Uses only that many training images.
        data_folder: Where a named dataset's files are.
    """

    dataset: str = "digits"
    space: str = "hybrid"
    out: Path = Path("runs/quickstart")
    target: str | None = None
    command_file: Path | None = None
    max_latency_ms: float | None = None
    max_energy_mj: float | None = None
    max_memory_kb: float | None = None
    seed: int = 0
    resume: bool = False
    epochs: int | None = None
    evaluations: int = 120
    strategy: str = "predictor-guided"
    points: int = 4
    calibration_networks: int = 100
    refit_threshold: float = 0.05
    image_size: int | None = None
    train_images: int | None = None
    data_folder: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_latency_ms", "max_energy_mj", "max_memory_kb"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                option = "--" + name.replace("_", "-")
                raise BadInputError(f"{option} must be a positive number, got {value:g}")
        for name, least in (
            ("evaluations", 20),
            ("points", 3),
            ("calibration_networks", 20),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if value < least:
                option = "--" + name.replace("_", "-")
                raise BadInputError(f"{option} must be at least {least}, got {value}")
        if self.command_file is not None and self.target is None:
            raise BadInputError(
                "--command-file says how to reach a target that was measured before: name it with "
                "--target"
            )
        if self.seed > LARGEST_SEED:
            raise BadInputError(f"--seed must be at most {LARGEST_SEED}, got {self.seed}")
        if self.image_size is not None and not 8 <= self.image_size <= LARGEST_IMAGE:
            raise BadInputError(
                f"--image-size must be 8 to {LARGEST_IMAGE} pixels, got {self.image_size}"
            )
        if self.epochs is not None and self.epochs < 1:
            raise BadInputError(f"--epochs must be at least 1, got {self.epochs}")
        if not self.refit_threshold >= 0:
            raise BadInputError(f"--refit-threshold must be >= 0, got {self.refit_threshold}")

    @property
    def training_epochs(self) -> int:
        """Passes over the training images."""
        return (
            self.epochs if self.epochs is not None else EPOCHS.get((self.dataset, self.space), 3)
        )

    def to_json(self) -> dict[str, Any]:
        """The options as JSON-ready values."""
        found = {**asdict(self), "out": str(self.out), "epochs": self.training_epochs}
        if self.command_file is not None:
            found["command_file"] = str(self.command_file)
        for name in ("target", "command_file"):
            if found[name] is None:  # as runs of this machine have always said
                del found[name]
        return found

    def limits(self, target: str) -> dict[str | tuple[str, str], float]:
        """The limits that are set, as a `Problem` takes them.

        They hold for one image, on the target with batch 1; every network of every front keeps
        them.
        """
        given = {
            "latency_ms": self.max_latency_ms,
            "energy_mj": self.max_energy_mj,
            "peak_memory_bytes": None if self.max_memory_kb is None else self.max_memory_kb * 1024,
        }
        return {(metric, target): v for metric, v in given.items() if v is not None}
