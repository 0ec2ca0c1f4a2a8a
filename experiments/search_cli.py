"""The command `hwnas search`: the search alone, in this process or on a cluster."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from experiments.config import SearchConfig
from experiments.datasets import DATASETS
from experiments.executor_option import EXECUTORS
from experiments.spaces import SPACES


def search_command(
    dataset: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(DATASETS)}, a folder with a subfolder per class, or a MedMNIST .npz"
        ),
    ] = "digits",
    space: Annotated[str, typer.Option(help=", ".join(SPACES))] = "hybrid",
    out: Annotated[
        Path, typer.Option(help="the run's folder, new or empty; in a cluster job absolute")
    ] = Path("runs/search"),
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="a target of `hwnas profile import` or `measure` by name or folder, a device, "
            "or local; again for each further one, with options of its own behind a colon: "
            "raspberry-pi-4:threads=4,batch=1,max_latency_ms=5,weight=2; this machine at batch 1 "
            "and 16 if not given"
        ),
    ] = None,
    together: Annotated[
        bool,
        typer.Option("--together", help="every network has to keep the limits of all targets"),
    ] = False,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(help="limit on the latency of one image at batch 1, or on every --target"),
    ] = None,
    max_energy_mj: Annotated[
        float | None, typer.Option(help="limit on the modelled energy, likewise")
    ] = None,
    max_memory_kb: Annotated[
        float | None, typer.Option(help="limit on weights and activations in KiB, likewise")
    ] = None,
    seed: Annotated[int, typer.Option(help="derives everything random")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in --out")] = False,
    ledger: Annotated[
        str | None,
        typer.Option(
            help="where the ledger is: a file, or postgresql://user@host/database?run=NAME; in "
            "--out if not given"
        ),
    ] = None,
    fork: Annotated[
        Path | None,
        typer.Option(help="begin a run in this folder with what still holds of the one in --out"),
    ] = None,
    supernet: Annotated[
        str | None,
        typer.Option(help="a path or URL of trained weights; else a supernet is trained"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="passes over the training images; by dataset if not given")
    ] = None,
    evaluations: Annotated[int, typer.Option(help="subnets whose accuracy is measured")] = 120,
    strategy: Annotated[
        str,
        typer.Option(help="how to search: bayesian, predictor-guided, nsga2, local-search, ..."),
    ] = "bayesian",
    executor: Annotated[
        str, typer.Option(help=f"where subnets are measured: {', '.join(EXECUTORS)}")
    ] = "in-process",
    workers: Annotated[int, typer.Option(help="how many processes or Ray workers")] = 2,
    address: Annotated[
        str, typer.Option(help="the Ray cluster: auto, host:6379, ray://host:10001, local")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="threads of a worker; 1 if not given")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="seconds a worker may take for a subnet; 600 if not given")
    ] = None,
    retries: Annotated[
        int | None, typer.Option(help="how often a subnet is tried again; 2 if not given")
    ] = None,
    cpus: Annotated[
        float | None, typer.Option(help="processors that a Ray worker takes; 1 if not given")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="accelerators that a Ray worker takes; 0 if not given")
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option(help="what else a Ray worker takes, as device:rpi4=1; again for further"),
    ] = None,
    calibration_networks: Annotated[
        int, typer.Option(help="networks to time for each cost model")
    ] = 100,
    image_size: Annotated[int | None, typer.Option(help="resize images to this side")] = None,
    train_images: Annotated[int | None, typer.Option(help="use only that many")] = None,
    data_folder: Annotated[
        str | None, typer.Option(help="where a named dataset's files are")
    ] = None,
) -> None:
    """The search alone, on any executor: leaves the ledger and the fronts, and no files."""
    from experiments.search import run_search

    config = SearchConfig(
        dataset=dataset,
        space=space,
        out=out,
        targets=tuple(target or ()),
        together=together,
        max_latency_ms=max_latency_ms,
        max_energy_mj=max_energy_mj,
        max_memory_kb=max_memory_kb,
        seed=seed,
        resume=resume,
        ledger=ledger,
        fork=fork,
        supernet=supernet,
        epochs=epochs,
        evaluations=evaluations,
        strategy=strategy,
        executor=executor,
        workers=workers,
        address=address,
        threads=threads,
        timeout_s=timeout,
        retries=retries,
        cpus=cpus,
        gpus=gpus,
        resources=tuple(resource or ()),
        calibration_networks=calibration_networks,
        image_size=image_size,
        train_images=train_images,
        data_folder=data_folder,
    )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        run_search(config)
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A cluster stops a job by SIGTERM: what has arrived is committed first, as after Ctrl-C."""
    raise KeyboardInterrupt
