"""A Ray cluster of three nodes on this machine loses its driver, workers and nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch

from experiments.benchmarks.fault_rows import FaultRow, Moment, has_paid, row_of
from experiments.benchmarks.faults_of_checkpoints import few_images
from experiments.benchmarks.faults_of_processes import (
    FEW,
    FIRST,
    killed_driver,
    killed_workers,
)
from experiments.benchmarks.faulty_search import FaultySearch, small_space
from experiments.benchmarks.ray_here import add_node, cluster_of_nodes
from supernet import RayGroup, Recipe, Supernet, train_on_ray
from supernet.training import Step

NODES = 3
_STEPS_BEFORE = 4


def cluster_faults(folder: Path, kills: int, training: bool = True) -> list[FaultRow]:
    """All that happens to a cluster, one after the other."""
    few = min(kills, FEW)
    with cluster_of_nodes(NODES) as cluster:
        task = FaultySearch(
            folder=folder / "drivers",
            evaluations=60,
            executor="ray",
            address=cluster.address,
            seconds=0.1,
        )
        rows = [
            killed_driver("kill -9 of the driver, Ray", task, few, after=FIRST),
            killed_workers(
                "kill -9 of a worker, Ray", replace(task, folder=folder / "workers"), few
            ),
            killed_nodes(cluster, replace(task, folder=folder / "nodes", workers=NODES), few - 1),
        ]
        if training:
            rows.append(node_in_training(cluster, folder))
    return rows


def killed_nodes(cluster: Any, task: FaultySearch, kills: int) -> FaultRow:
    """Kills nodes on which somebody evaluates; another one joins each time."""
    process = task.start()
    moments: list[Moment] = []
    while len(moments) < kills and has_paid(task, 8, process):
        victim = _busy_node(cluster, {pid for pid, _ in task.payments()})
        if victim is None:
            continue
        moments.append(Moment.of(task))
        cluster.remove_node(victim, allow_graceful=False)
        add_node(cluster)
    process.join()
    return row_of("kill -9 of a node, search (Ray)", task, moments)


def _busy_node(cluster: Any, pids: set[int]) -> Any:
    """A node, not the head, that one of some processes runs on; None if there is none."""
    for node in list(cluster.worker_nodes):
        if pids & {process.pid for process in _processes_of(node)}:
            return node
    return None


def _processes_of(node: Any) -> Iterator[psutil.Process]:
    """The workers of a node: the children of its raylet."""
    raylet = node.all_processes["raylet"][0].process.pid
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from psutil.Process(raylet).children()


# ---- training ----------------------------------------------------------------------------------


def node_in_training(cluster: Any, folder: Path) -> FaultRow:
    """Trains a small supernet on two nodes, twice; in one of them a node is killed."""
    steps: list[list[int]] = []
    weights = []
    struck: list[int] = []
    for name in ("whole", "struck"):
        told: list[int] = []

        def on_step(step: Step, name: str = name, told: list[int] = told) -> None:
            told.append(step.number)
            if name == "struck" and not struck and step.number >= _STEPS_BEFORE:
                victim = _training_node(cluster)
                if victim is not None:
                    struck.append(step.number)
                    cluster.remove_node(victim, allow_graceful=False)
                    add_node(cluster)

        trained = _trained(cluster.address, folder / f"{name}.safetensors", on_step)
        weights.append(trained.weights_hash())
        steps.append(told)
    again = len(steps[1]) - len(set(steps[1]))
    return FaultRow(
        fault="kill -9 of a node, training (Ray Train)",
        times=len(struck),
        equal="yes" if weights[0] == weights[1] else "NO",
        seen=f"nothing; {again} steps after the last checkpoint are told again",
    )


def _trained(address: str, checkpoint: Path, on_step: Any) -> Supernet:
    """A supernet of few images, by two workers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        supernet = Supernet(small_space())
    return train_on_ray(
        supernet,
        few_images(192),
        RayGroup(workers=2, address=address),
        checkpoint=checkpoint,
        checkpoint_every=2,
        epochs=3,
        recipe=Recipe(batch_size=32, shards=2),
        on_step=on_step,
    )


def _training_node(cluster: Any) -> Any:
    """A node, not the head, that trains; None if there is none."""
    for node in list(cluster.worker_nodes):
        for process in _processes_of(node):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "TrainWorker" in " ".join(process.cmdline()):
                    return node
    return None
