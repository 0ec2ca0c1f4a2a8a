"""Starting a training on a Ray cluster, following it, and bringing the weights home.

Ray Train places the workers, joins them to a process group and starts all of them anew when one
is lost. Each of them runs `supernet.train`, which continues from the last checkpoint and ends with
the weights that it would have ended with; so Ray Train's own checkpoints are not used.

Ray is imported only when a training is started.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from records import BadInputError, HwnasError
from records.stored_file import absolute, stored_file
from supernet.checkpoint import load_trained
from supernet.data import ImageData
from supernet.on_ray.group import RayGroup, check_room, connected
from supernet.on_ray.notes import Notes, RayTrainingError
from supernet.on_ray.worker import Job, arrays_of, work
from supernet.supernet import Supernet
from supernet.training.batches import check_data
from supernet.training.parallel import Ranks
from supernet.training.recipe import Recipe
from supernet.training.run import Options, Run, Step
from supernet.training.source import SpaceMembers

logger = logging.getLogger(__name__)

FOLLOW_S = 0.5
"""Seconds between two looks at what the workers tell."""

STOP_S = 60.0
"""How long workers may take to stop when they are told to."""


def train_on_ray(
    supernet: Supernet,
    data: ImageData,
    group: RayGroup,
    *,
    checkpoint: str | Path,
    epochs: int = 10,
    recipe: Recipe | None = None,
    seed: int = 0,
    teacher: nn.Module | None = None,
    teacher_weight: float = 1.0,
    checkpoint_every: int = 100,
    on_step: Callable[[Step], None] | None = None,
    watch_gradients: bool = False,
    compiled: bool = False,
) -> Supernet:
    """Trains a supernet by workers of a Ray cluster; returns it in eval mode.

    It is `train`, spread over workers as torchrun spreads it: with the same recipe they give what
    one process gives, up to the order in which floating-point numbers are added. When a worker or
    a node is lost, all workers are started anew and continue from the last checkpoint; the run
    ends with the same weights, bit for bit, as one that lost nothing. When this process ends, so
    does the training; called again, it continues. Nothing is started for a run that is complete.

    Args:
        supernet: The supernet; its weights are sent, and replaced by the trained ones.
        data: Only `data.train` is sent, once to each node.
        group: The workers.
        checkpoint: A path in a folder that all nodes share, or a URL that fsspec knows, such as
            `s3://bucket/supernet.safetensors`. `load_supernet` reads it.
        epochs: Passes over the training images.
        recipe: How. Its `shards` must be a multiple of the workers.
        seed: Derives batches, augmentation and sampled networks.
        teacher: See `train`.
        teacher_weight: See `train`.
        checkpoint_every: Steps between two checkpoints, which is what a lost worker costs at most.
        on_step: Called in this process after steps that the first worker made, some at a time.
            Steps that are made again after a loss are told again.
        watch_gradients: See `train`.
        compiled: See `train`.

    Raises:
        BadInputError: No cluster, no room for the workers, shards that cannot be spread over them,
            a folder that a node does not share, data that do not fit the space, or a checkpoint of
            another run.
        RayTrainingError: Workers were lost more often than the group allows.
        TrainingError: Many steps in a row went wrong.
    """
    recipe = recipe or Recipe()
    check_data(supernet.space, data)
    Ranks(0, group.workers).own(recipe.shards)
    where = absolute(checkpoint)
    if where.startswith("memory:"):
        raise BadInputError(f"{where} is the memory of one process, which workers do not share")
    options = Options(
        checkpoint=where, checkpoint_every=checkpoint_every, teacher=teacher,
        teacher_weight=teacher_weight,
    )  # fmt: skip
    if _is_complete(supernet, data, recipe, seed, epochs, options):
        load_trained(where, supernet)
        return supernet.eval()
    with connected(group) as ray, _marker(where) as marker:
        check_room(ray, group)
        job = Job(
            space=supernet.space, data_name=data.name, class_names=data.class_names,
            flip=data.flip, epochs=epochs, recipe=recipe, seed=seed, teacher=teacher,
            teacher_weight=teacher_weight, checkpoint=where, checkpoint_every=checkpoint_every,
            marker=marker, device="cuda" if group.gpus else "cpu",
            threads=max(1, int(group.cpus)), watch_gradients=watch_gradients, compiled=compiled,
        )  # fmt: skip
        arrays = ray.put(arrays_of(supernet, data))
        _Training(ray, group, job, arrays).follow(on_step)
    load_trained(where, supernet)
    return supernet.eval()


class _Training:
    """A training that runs: Ray Train in a thread, followed in this one.

    Args:
        ray: The package.
        group: The workers.
        job: What they do.
        arrays: A reference to what they need.
    """

    def __init__(self, ray: Any, group: RayGroup, job: Job, arrays: Any) -> None:
        self._ray = ray
        self._group = group
        here = ray.get_runtime_context().get_node_id()
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        self._notes = ray.remote(Notes).options(num_cpus=0, scheduling_strategy=affinity).remote()
        self._config = {"job": job, "arrays": arrays, "notes": self._notes}
        self._error: Exception | None = None
        self._done = 0

    def follow(self, on_step: Callable[[Step], None] | None) -> None:
        """Waits for the end, and tells of the steps meanwhile."""
        try:
            self._follow(on_step)
        except self._ray.exceptions.RayError as error:  # the cluster itself is lost
            raise self._lost(error) from error

    def _follow(self, on_step: Callable[[Step], None] | None) -> None:
        prefix = "hwnas-ray-train-"
        with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
            thread = threading.Thread(target=self._fit, args=(folder,), daemon=True)
            thread.start()
            try:
                while thread.is_alive():
                    thread.join(FOLLOW_S)
                    self._tell(on_step)
                self._tell(on_step)  # what was noted while it ended
            except BaseException:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._ray.get(self._notes.stop.remote(), timeout=STOP_S)
                    thread.join(STOP_S)
                raise
        refusal = self._ray.get(self._notes.refusal.remote())
        self._ray.kill(self._notes)
        if refusal is not None:
            raise refusal
        if self._error is not None:
            raise self._lost(self._error) from self._error

    def _fit(self, folder: str) -> None:
        """Runs Ray Train; it writes its own notes into a folder that is thrown away."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        group = self._group
        try:
            trainer = TorchTrainer(
                work,
                train_loop_config=self._config,
                scaling_config=ScalingConfig(
                    num_workers=group.workers,
                    use_gpu=bool(group.gpus),
                    resources_per_worker={k: v for k, v in group.needs.items() if v > 0},
                ),
                run_config=RunConfig(
                    name=f"hwnas-{secrets.token_hex(4)}",
                    storage_path=folder,
                    failure_config=FailureConfig(
                        max_failures=group.failures, controller_failure_limit=group.tries
                    ),
                ),
            )
            trainer.fit()
        except Exception as error:  # whatever it is, the thread that waits raises it
            self._error = error

    def _tell(self, on_step: Callable[[Step], None] | None) -> None:
        for step in self._ray.get(self._notes.take.remote()):
            if step.number <= self._done:
                logger.warning(
                    "workers were lost after step %d; going on from step %d of %d",
                    self._done, step.number - 1, step.total,
                )  # fmt: skip
            self._done = step.number
            if on_step is not None:
                on_step(step)

    def _lost(self, error: Exception) -> HwnasError:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = "; ".join(lines[:1] + lines[1:][-2:]) or type(error).__name__
        if "No module named" in said:
            said += "; every node needs this hwnas: install it, or send it by `ray job submit`"
        return RayTrainingError(
            f"training on Ray ended after step {self._done}: {said}. {self._group.failures} "
            f"failures are allowed and {self._group.wait_s:g} s to wait for room; called again, "
            f"it continues from {self._config['job'].checkpoint}"
        )


def _is_complete(
    supernet: Supernet, data: ImageData, recipe: Recipe, seed: int, epochs: int, options: Options
) -> bool:
    """Whether the checkpoint is that of the whole run; refuses one of another run, in seconds."""
    own = copy.deepcopy(supernet)
    run = Run(own, SpaceMembers(own, recipe, seed), data, recipe, seed, epochs, options)
    return run.resume() == run.total


@contextlib.contextmanager
def _marker(where: str) -> Iterator[str]:
    """A file beside the checkpoint, by which workers see whether they share its folder."""
    file = stored_file(where)
    marker = file.beside(f".{file.name}.shared-{secrets.token_hex(4)}")
    marker.write(b"hwnas\n")
    try:
        yield marker.where
    finally:
        marker.remove()
