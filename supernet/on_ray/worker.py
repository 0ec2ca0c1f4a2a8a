"""What a worker of Ray Train does: the training loop, as a rank of its process group."""

from __future__ import annotations

import socket
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from records import BadInputError, HwnasError, StorageError
from records.stored_file import stored_file
from search_spaces import SearchSpace
from supernet.data import ImageData, Split
from supernet.on_ray.notes import StoppedError
from supernet.supernet import Supernet
from supernet.training.loop import train
from supernet.training.recipe import Recipe
from supernet.training.run import Step

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

TELL_S = 0.5
"""Seconds between two messages about the steps done."""

WEIGHTS, IMAGES, LABELS = "weights/", "images", "labels"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """What every worker is told; large arrays travel beside it.

    Attributes:
        space: The search space.
        data_name: The dataset's name.
        class_names: Its classes.
        flip: Whether a mirrored image is of the same class.
        epochs: See `train`, like the others.
        recipe: How the networks are trained.
        seed: The run's seed.
        teacher: A frozen teacher.
        teacher_weight: The weight of its loss.
        checkpoint: The path or URL.
        checkpoint_every: Steps between two checkpoints.
        marker: A file that the driver wrote beside the checkpoint.
        device: Where the network is trained.
        threads: Of each worker.
        watch_gradients: See `train`.
        compiled: See `train`.
    """

    space: SearchSpace
    data_name: str
    class_names: tuple[str, ...]
    flip: bool
    epochs: int
    recipe: Recipe
    seed: int
    teacher: nn.Module | None
    teacher_weight: float
    checkpoint: str
    checkpoint_every: int
    marker: str
    device: str
    threads: int
    watch_gradients: bool
    compiled: bool


def arrays_of(supernet: Supernet, data: ImageData) -> dict[str, npt.NDArray[Any]]:
    """What is large and travels once: the first weights and the training images."""
    arrays = {
        f"{WEIGHTS}{name}": np.ascontiguousarray(value.detach().cpu().numpy())
        for name, value in supernet.state_dict().items()
    }
    return arrays | {IMAGES: data.train.images.numpy(), LABELS: data.train.labels.numpy()}


def work(config: Mapping[str, Any]) -> None:
    """Trains; called by Ray Train in each of its workers.

    Args:
        config: `job`, `arrays` (a reference to those of `arrays_of`) and `notes` (an actor).
    """
    import ray
    import ray.train

    notes, job = config["notes"], config["job"]
    if not ray.get(notes.goes_on.remote()):
        return  # a try before this one failed in a way that no other mends
    is_first = ray.train.get_context().get_world_rank() == 0
    try:
        run(job, ray.get(config["arrays"]), Teller(ray, notes) if is_first else None)
    except StorageError:
        raise  # a network or disk may recover
    except HwnasError as error:
        ray.get(notes.refuse.remote(error))
        raise


def run(job: Job, arrays: Arrays, on_step: Teller | None) -> None:
    """The training loop with what was sent."""
    torch.set_num_threads(job.threads)
    _check_shared(job)
    supernet = Supernet(job.space)
    supernet.load_state_dict(
        {
            name.removeprefix(WEIGHTS): _tensor(array)
            for name, array in arrays.items()
            if name.startswith(WEIGHTS)
        }
    )
    train(
        supernet,
        _data(job, arrays),
        epochs=job.epochs,
        recipe=job.recipe,
        seed=job.seed,
        teacher=job.teacher,
        teacher_weight=job.teacher_weight,
        checkpoint=job.checkpoint,
        checkpoint_every=job.checkpoint_every,
        on_step=on_step,
        device=job.device,
        watch_gradients=job.watch_gradients,
        compiled=job.compiled,
    )


class Teller:
    """Tells the driver of steps, now and then.

    Args:
        ray: The package.
        notes: The actor that keeps them.

    Raises:
        StoppedError: When called after the training was stopped.
    """

    def __init__(self, ray: Any, notes: Any) -> None:
        self._ray = ray
        self._notes = notes
        self._steps: list[Step] = []
        self._told = 0.0

    def __call__(self, step: Step) -> None:
        self._steps.append(step)
        now = time.monotonic()
        if now - self._told < TELL_S and step.number < step.total:
            return
        goes_on = self._ray.get(self._notes.tell.remote(self._steps))
        self._steps, self._told = [], now
        if not goes_on:
            raise StoppedError("the training was stopped by whoever started it")


def _check_shared(job: Job) -> None:
    """Finds out that this machine does not see the folder of the checkpoint.

    A run that lost its workers would otherwise begin again on another machine.
    """
    if not stored_file(job.marker).exists():
        raise BadInputError(
            f"{job.checkpoint} lies in a folder that {socket.gethostname()} does not share with "
            "the machine that started the training: choose a shared folder or a URL, such as "
            "s3://bucket/supernet.safetensors"
        )


def _data(job: Job, arrays: Arrays) -> ImageData:
    """The training images; training reads no others, so none are sent and one stands for them."""
    images = Split(_tensor(arrays[IMAGES]), _tensor(arrays[LABELS]))
    unread = Split(images.images[:1], images.labels[:1])
    return ImageData(
        name=job.data_name, train=images, validation=unread, test=unread,
        class_names=job.class_names, flip=job.flip,
    )  # fmt: skip


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)  # read only, and nothing here writes
