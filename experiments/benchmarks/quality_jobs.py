"""The trainings of long benchmarks: each a job of its own, whose result is kept in a file.

A job is named by everything that its result depends on, so an interrupted benchmark continues
where it stopped, training checkpoints included, and a changed recipe starts anew. Jobs run in
processes of their own, side by side, one thread each unless a job says otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.datasets import load_dataset
from experiments.spaces import make_space
from records import content_hash, read_json, write_json
from search_spaces import Graph, SearchSpace
from supernet import (
    ImageData,
    Recipe,
    Step,
    Supernet,
    SupernetEvaluator,
    accuracy,
    train,
    train_alone,
)
from supernet.initialise import zero_residual_branches

logger = logging.getLogger(__name__)

OF_MEMBERS = ("members", "distillation", "gradients", "updates")
"""The parts of a recipe that say how a step's networks come together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What every training of a comparison may use.

    Attributes:
        dataset: The dataset's name.
        images: Training images.
        epochs: Passes over them.
    """

    dataset: str = "fashion-mnist"
    images: int = 20_000
    epochs: int = 3

    def data(self) -> ImageData:
        """The dataset with so many training images."""
        return _data(self)


@lru_cache(maxsize=2)
def _data(budget: Budget) -> ImageData:
    return load_dataset(budget.dataset, train_images=budget.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training.

    Attributes:
        family: `cnn`, `vit` or `hybrid`; with a `graph` any name.
        budget: Images and epochs.
        recipe: How.
        seed: Of weights, batches and draws.
        rows: For a supernet the genes whose inherited accuracy is read; for a single network its
            genes, one row.
        alone: Whether a single network is trained.
        zero_residuals: Whether the residual branches of a supernet start at zero.
        folder: Where results and checkpoints are kept.
        graph: The single network where it is of no family; `rows` then only names the result.
        keep: Whether a single network is kept with its weights, in `network_folder`.
        threads: That train a supernet; a single network has one. The result is the same.
    """

    family: str
    budget: Budget
    recipe: Recipe
    seed: int
    rows: tuple[tuple[int, ...], ...]
    alone: bool
    folder: Path
    zero_residuals: bool = False
    graph: Graph | None = None
    keep: bool = False
    threads: int = 2

    @property
    def key(self) -> str:
        """Names the training by all that it depends on (the rows read afterwards do not count)."""
        if self.graph is None:
            origin = _space(self.family, self.budget).hash
        else:
            origin = content_hash(self.graph.to_json())
        recipe = self.recipe.to_json()
        if self.alone:  # where there is one member, nothing depends on these
            recipe = {k: v for k, v in recipe.items() if k not in OF_MEMBERS}
        data = {"family": self.family, "dataset": self.budget.dataset, "seed": self.seed,
                "images": self.budget.images, "epochs": self.budget.epochs,
                "recipe": recipe, "zero": self.zero_residuals,
                "space": origin,
                "network": self.rows[0] if self.alone else "all"}  # fmt: skip
        return f"{self.family}-{'alone' if self.alone else 'supernet'}-{content_hash(data)[:12]}"

    @property
    def result(self) -> Path:
        """Where what was measured is kept."""
        return self.folder / f"{self.key}.json"

    @property
    def checkpoint(self) -> Path:
        """Where a training continues; that of a supernet stays, with its weights at the end."""
        return self.folder / f"{self.key}.safetensors"

    @property
    def network_folder(self) -> Path:
        """Where `Subnet.load` finds a single network that is kept."""
        return self.folder / self.key

    @property
    def is_kept(self) -> bool:
        """Whether what is to be kept is there."""
        return not (self.alone and self.keep) or self.network_folder.is_dir()

    def alone_graph(self) -> Graph:
        """The layers of the single network."""
        if self.graph is not None:
            return self.graph
        return _space(self.family, self.budget).graph(np.array(self.rows[0]))


def space_of(family: str, data: ImageData) -> SearchSpace:
    """The space of a family for a dataset, as the command line makes it."""
    return make_space(family, data)


@lru_cache(maxsize=8)
def _space(family: str, budget: Budget) -> SearchSpace:
    return space_of(family, budget.data())


def run_jobs(jobs: Sequence[Job], workers: int) -> list[dict[str, Any]]:
    """The results of all jobs in their order; those that are known are not trained again."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run_job, job) for job in jobs]
        results = []
        for i, future in enumerate(futures, start=1):
            results.append(future.result())
            logger.info("%d of %d trainings done", i, len(futures))
    return results


def run_job(job: Job) -> dict[str, Any]:
    """Trains, or reads what an earlier run left."""
    torch.set_num_threads(1 if job.alone else job.threads)
    path = job.result
    known = read_json(path, kind="training") if path.exists() else {"accuracies": {}}
    missing = [row for row in job.rows if _name(row) not in known["accuracies"]]
    if missing or not job.is_kept:
        job.folder.mkdir(parents=True, exist_ok=True)
        known = _train(job, known, missing or job.rows)
        write_json(path, known)
    values = [known["accuracies"][_name(row)] for row in job.rows]
    return {"accuracies": values, "seconds": known["seconds"], "steps": known["steps"]}


def _train(job: Job, known: dict[str, Any], missing: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    data = job.budget.data()
    start, steps = time.perf_counter(), list[Step]()
    options: dict[str, Any] = {"epochs": job.budget.epochs, "recipe": job.recipe, "seed": job.seed,
                               "checkpoint": job.checkpoint, "on_step": steps.append}  # fmt: skip
    if job.alone:
        network = train_alone(job.alone_graph(), data, **options)
        found = [accuracy(network, data.validation)]
        if not job.is_kept:
            network.save(job.network_folder)
        job.checkpoint.unlink()
    else:
        supernet = Supernet(space_of(job.family, data), seed=job.seed)
        if job.zero_residuals:
            zero_residual_branches(supernet)
        train(supernet, data, checkpoint_every=200, **options)
        rows = np.array(missing, np.int16)
        trained = time.perf_counter() - start
        found = [float(m.value or 0) for m in SupernetEvaluator(supernet, data).evaluate(rows)]
        start = time.perf_counter() - trained  # reading accuracies is no training
    accuracies = dict(zip(map(_name, missing), found, strict=True))
    return {
        "accuracies": {**known["accuracies"], **accuracies},
        "seconds": known.get("seconds", 0.0) + time.perf_counter() - start,
        "steps": known.get("steps", 0) + len(steps),
    }


def _name(row: Sequence[int]) -> str:
    return "-".join(map(str, row))
