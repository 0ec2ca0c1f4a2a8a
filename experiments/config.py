"""The options of a search and of the main job, typed and checked."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from experiments.executor_option import ExecutorOptions
from experiments.precision_option import check_precision
from experiments.target_options import LIMITS, TargetOption, limits_by_metric, parse_target
from records import BadInputError, without_secrets

if TYPE_CHECKING:
    from strategies import Executor

LARGEST_SEED = 2**63 - 1
"""What a random number generator of torch takes."""

LARGEST_IMAGE = 1024
"""Side in pixels; whole datasets are held in memory."""

EPOCHS = {("digits", "hybrid"): 55, ("digits", "cnn"): 55, ("digits", "vit"): 110}
"""Epochs of training that suit the time of a demonstration, by dataset and space; others 3."""

OMITTED = (
    "ledger", "target", "command_file", "together", "supernet", "least_gain", "threads",
    "timeout_s", "retries", "cpus", "gpus", "resources", "precision", "epochs",
)  # fmt: skip
"""Options that a run does not mention where they are not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """What `hwnas search` is asked to do.

    Attributes:
        dataset: A dataset's name, a folder of images by class, or a MedMNIST `.npz` file.
        space: A search space's name: `cnn`, `vit`, `hybrid`.
        out: The run's folder, new or empty.
        targets: Where networks are to run, as `experiments.target_options` reads them; none takes
            this machine, at batch 1 and 16.
        command_file: How commands reach the only target (`deployment.runners.command_file`), so
            that exported files are timed there; without it they are not timed.
        together: Whether every network must keep the limits of all targets; of this machine's
            two it always must.
        precision: `mixed` makes the precision of each stage a choice of the search; None leaves
            files in the precision of their target.
        max_latency_ms: Limit on the latency of one image at batch 1; with targets, on each of
            them that has none of its own, for one run of its batch. So with the others.
        max_energy_mj: Limit on the (modelled) energy of one image at batch 1.
        max_memory_kb: Limit on weights and activations at batch 1, in KiB.
        seed: Derives everything random.
        resume: Whether to continue the run in `out`.
        ledger: Where the run's ledger is, a file or a database URL; None is its folder.
        fork: The folder of a new run with what still holds of the one in `out`.
        epochs: Passes over the training images; None takes what suits the dataset. A search in
            the weights of `supernet` trains nothing and has none.
        evaluations: Subnets whose accuracy is measured.
        strategy: How to search, a name of `strategies.by_name`.
        least_gain: Ends the search where the expected gain is below this share of the hypervolume
            found, for strategies that know it; None goes on to the last evaluation.
        supernet: A file of trained weights (`supernet.save_supernet`, or a checkpoint), as a path
            or a URL that fsspec knows; None trains a supernet first.
        executor: Where subnets are measured, a name of `experiments.executor_option`.
        workers: How many workers measure them, in processes or on a Ray cluster.
        address: The Ray cluster.
        threads: How many threads a worker uses; with the following ones, None takes what
            the executor has by itself.
        timeout_s: How long a worker may take for one subnet.
        retries: How often a subnet is tried again.
        cpus: Processors that a Ray worker takes.
        gpus: Accelerators that it takes.
        resources: What else it takes, as `NAME=AMOUNT`.
        calibration_networks: Networks to time for each target's cost model.
        image_size: Side to which images are resized; None keeps the native size.
        train_images: Uses only that many training images.
        data_folder: Where a named dataset's files are.
    """

    has_baseline: ClassVar[bool] = False
    """Whether a network is trained alone, to compare with."""

    dataset: str = "digits"
    space: str = "hybrid"
    out: Path = Path("runs/search")
    targets: tuple[str, ...] = ()
    command_file: Path | None = None
    together: bool = False
    precision: str | None = None
    max_latency_ms: float | None = None
    max_energy_mj: float | None = None
    max_memory_kb: float | None = None
    seed: int = 0
    resume: bool = False
    ledger: str | None = None
    fork: Path | None = None
    epochs: int | None = None
    evaluations: int = 120
    strategy: str = "bayesian"
    least_gain: float | None = None
    supernet: str | Path | None = None
    executor: str = "in-process"
    workers: int = 2
    address: str = "auto"
    threads: int | None = None
    timeout_s: float | None = None
    retries: int | None = None
    cpus: float | None = None
    gpus: float | None = None
    resources: tuple[str, ...] = ()
    calibration_networks: int = 100
    image_size: int | None = None
    train_images: int | None = None
    data_folder: str | None = None

    def __post_init__(self) -> None:
        for name in LIMITS:
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                option = "--" + name.replace("_", "-")
                raise BadInputError(f"{option} must be a positive number, got {value:g}")
        for name, least in (("evaluations", 20), ("calibration_networks", 20), ("seed", 0)):
            self._check_least(name, least)
        object.__setattr__(self, "resources", tuple(self.resources))
        self.executor_options.check()
        self._check_targets()
        if self.seed > LARGEST_SEED:
            raise BadInputError(f"--seed must be at most {LARGEST_SEED}, got {self.seed}")
        if self.image_size is not None and not 8 <= self.image_size <= LARGEST_IMAGE:
            raise BadInputError(
                f"--image-size must be 8 to {LARGEST_IMAGE} pixels, got {self.image_size}"
            )
        if self.least_gain is not None and not 0 < self.least_gain < 1:
            raise BadInputError(
                f"--least-gain must be above 0 and below 1, got {self.least_gain:g}"
            )
        if self.epochs is not None and self.epochs < 1:
            raise BadInputError(f"--epochs must be at least 1, got {self.epochs}")
        if self.epochs is not None and not self.trains:
            raise BadInputError(
                "--epochs is for training, and --supernet brings trained weights: leave one of "
                "the two out"
            )

    def _check_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value < least:
            option = "--" + name.replace("_", "-")
            raise BadInputError(f"{option} must be at least {least}, got {value}")

    def _check_targets(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        if self.command_file is not None and len(self.targets) != 1:
            raise BadInputError(
                "--command-file says how to reach the target that one --target names; of several, "
                "each says so itself: --target NAME:command_file=board.yaml"
            )
        if self.together and len(self.targets) < 2:
            raise BadInputError("--together is about several targets: name them with --target")
        check_precision(self.precision, self.target_options)  # or whatever is wrong with these

    @property
    def target_options(self) -> tuple[TargetOption, ...]:
        """The targets, read."""
        found = tuple(parse_target(text) for text in self.targets)
        if self.command_file is not None:
            found = (replace(found[0], command_file=self.command_file),)
        return found

    @property
    def executor_options(self) -> ExecutorOptions:
        """The options of the executor together."""
        return ExecutorOptions(
            name=self.executor,
            workers=self.workers,
            address=self.address,
            threads=self.threads,
            timeout_s=self.timeout_s,
            retries=self.retries,
            cpus=self.cpus,
            gpus=self.gpus,
            resources=self.resources,
        )

    def make_executor(self) -> Executor:
        """The executor of the options."""
        return self.executor_options.make()

    @property
    def trains(self) -> bool:
        """Whether anything is trained: a supernet, or a baseline."""
        return self.supernet is None or self.has_baseline

    @property
    def training_epochs(self) -> int:
        """Passes over the training images, where anything is trained."""
        return (
            self.epochs if self.epochs is not None else EPOCHS.get((self.dataset, self.space), 3)
        )

    def to_json(self) -> dict[str, Any]:
        """The options as JSON-ready values."""
        found = {**asdict(self), "out": str(self.out)}
        found["epochs"] = self.training_epochs if self.trains else None
        del found["fork"]
        if self.ledger is not None:
            found["ledger"] = without_secrets(self.ledger)
        named = list(found.pop("targets"))
        found["target"] = named[0] if len(named) == 1 else named or None
        if self.command_file is not None:
            found["command_file"] = str(self.command_file)
        if self.supernet is not None:
            found["supernet"] = str(self.supernet)
        if self.executor == "in-process":
            for name in ("executor", "workers", "address"):
                del found[name]
        found["resources"] = list(self.resources) or None
        for name in OMITTED:
            if (
                found[name] is None or found[name] is False
            ):  # as runs of this machine have always said
                del found[name]
        return found

    @property
    def limits(self) -> dict[str, float]:
        """The limits that hold wherever a target has none of its own, by metric."""
        return limits_by_metric({name: getattr(self, name) for name in LIMITS})


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartConfig(SearchConfig):
    """What `hwnas quickstart` is asked to do: a search, and what becomes of its front.

    Attributes:
        points: Networks to export for each target.
        refit_threshold: Median relative error of predicted latencies above which the cost model is
            refitted with what was measured.
    """

    has_baseline: ClassVar[bool] = True

    out: Path = Path("runs/quickstart")
    points: int = 4
    refit_threshold: float = 0.05

    def __post_init__(self) -> None:
        SearchConfig.__post_init__(self)
        self._check_least("points", 3)
        if not self.refit_threshold >= 0:
            raise BadInputError(f"--refit-threshold must be >= 0, got {self.refit_threshold}")
