"""The search part of the main job: from a dataset to a front of networks, without their files.

    python -m experiments.search --dataset digits --target raspberry-pi-4 --out runs/search

In order: the data; a cost model for each target; whether the limits can be kept at all; the
supernet, trained here or read from a file; the search, for all targets at once, on any executor.
The run's folder holds the ledger, which a run that was interrupted continues from with `--resume`,
the supernet, and at the end `front.json`. `experiments.quickstart` goes on from here to files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.closing import picture_of_limits
from experiments.cluster.job import check_outlives_job
from experiments.config import SearchConfig
from experiments.console import progress_bar, say
from experiments.datasets import load_dataset
from experiments.front_file import FRONT, SEARCH_FORMAT, read_front
from experiments.measuring import record_calibration
from experiments.mirror import Mirror
from experiments.precision_option import precision_hashes, searched_space
from experiments.quickstart_costs import THREADS, cost_models
from experiments.quickstart_problem import make_problem
from experiments.run_folder import (
    begin_run,
    check_hashes,
    check_ledger,
    claim_folder,
    continue_run,
    release_folder,
)
from experiments.run_fork import Origin, check_fork, copy_accuracies
from experiments.run_identity import input_hashes, target_hashes
from experiments.search_files import write_search
from experiments.spaces import make_space
from experiments.stopwatch import Stopwatch
from latency_models import CostModel, MeasuredCostModel
from records import BadInputError, Ledger, MissingFileError, unknown_name
from search_spaces import SearchSpace
from search_spaces.space_difference import described_space, first_difference
from strategies import Feasibility, Front, Progress, RayWorkers, check_feasible, search
from strategies.by_name import STRATEGIES, strategy_by_name
from supernet import ImageData, Recipe, Supernet, intra_op_threads, load_supernet, train

CHECKPOINT = "supernet.safetensors"


class SearchRun:
    """One run: the search, and whatever a kind of run makes of its front.

    Args:
        config: The options.
    """

    front_format = SEARCH_FORMAT
    """The format of the run's `front.json`."""

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self.watch = Stopwatch()
        self.executor = config.make_executor()

    def run(self) -> dict[str, Any]:
        """Does everything; returns what `front.json` holds.

        Raises:
            HwnasError: Whatever is wrong with the options, the data, the limits, the cluster or
                the disk.
        """
        config = self.config
        if config.strategy not in STRATEGIES:
            raise unknown_name("strategy", config.strategy, STRATEGIES)
        check_outlives_job(config.out if config.fork is None else config.fork)
        data = load_dataset(
            config.dataset,
            image_size=config.image_size,
            train_images=config.train_images,
            folder=config.data_folder,
            seed=config.seed,
        )
        space = make_space(config.space, data)
        with intra_op_threads(THREADS):
            hashes = {**input_hashes(data, space), **precision_hashes(config.precision, space)}
            if config.fork is not None:
                return self._fork(data, space, hashes)
            if config.resume:
                with continue_run(
                    config.out, config.to_json(), ledger=config.ledger, hashes=hashes
                ) as ledger:
                    return self._continue(data, space, ledger)
            return self._begin(data, space, hashes)

    def finish(
        self,
        data: ImageData,
        supernet: Supernet,
        costs: Sequence[CostModel],
        front: Front,
        ledger: Ledger,
    ) -> dict[str, Any]:
        """Makes of the front what the run is for; writes `front.json` last and returns it."""
        Mirror(self.config.out, front.problem.space, ledger, costs).write()
        return write_search(self.config, data, supernet, costs, front, self.watch)

    def say_complete(self) -> None:
        """Says that there is nothing left to do."""
        say(f"{self.config.out} is complete: see {self.config.out / FRONT}")

    # ---- before anything is written ----------------------------------------------------------

    def _begin(
        self,
        data: ImageData,
        space: SearchSpace,
        hashes: Mapping[str, str],
        origin: Origin | None = None,
    ) -> dict[str, Any]:
        """A new run: nothing is written before the limits are known to be reachable."""
        config = self.config
        claim_folder(config.out, "--out" if origin is None else "--fork")
        try:
            check_ledger(config.out, config.ledger)
            known = origin.ledger if origin is not None and origin.has_timings else None
            supernet, costs, feasibility = self._prepare(data, space, known)
            with begin_run(
                config.out,
                config.to_json(),
                ledger=config.ledger,
                hashes={**hashes, **target_hashes(costs)},
                origin=None if origin is None else origin.record(),
            ) as ledger:
                if origin is not None:
                    origin.copy_timings(ledger)
                    origin.copy_checkpoint(CHECKPOINT, config.out)
                return self._run(data, supernet, costs, feasibility, ledger)
        finally:
            release_folder(config.out)

    def _fork(
        self, data: ImageData, space: SearchSpace, hashes: Mapping[str, str]
    ) -> dict[str, Any]:
        """A new run in another folder, with what still holds of the one in `out`."""
        config = self.config
        assert config.fork is not None
        check_fork(config.out, config.fork)
        origin = Origin(config.out, config.to_json(), hashes)
        with origin.ledger:
            say(f"forked from {config.out}: {'; '.join(origin.changes) or 'nothing has changed'}")
            self.config = replace(config, out=config.fork, fork=None, resume=False)
            return self._begin(data, space, hashes, origin)

    def _continue(self, data: ImageData, space: SearchSpace, ledger: Ledger) -> dict[str, Any]:
        """An interrupted run, or one that is complete."""
        out = self.config.out
        if (out / FRONT).exists():
            self.say_complete()
            return read_front(out / FRONT, self.front_format)
        supernet, costs, feasibility = self._prepare(data, space, ledger)
        check_hashes(out, ledger, target_hashes(costs))
        return self._run(data, supernet, costs, feasibility, ledger)

    def _prepare(
        self, data: ImageData, space: SearchSpace, ledger: Ledger | None
    ) -> tuple[Supernet, list[CostModel], Feasibility]:
        """The supernet before training, cost models, and whether the limits can be kept."""
        searched = searched_space(self.config.precision, space)
        say(
            f"{data.name}: {len(data.train)} train, {len(data.validation)} search-validation and "
            f"{len(data.test)} test images of {data.image_size}x{data.image_size}; "
            f"{space.name}: {len(searched.choices)} choices, {searched.cardinality:.3g} "
            f"architectures{'' if searched is space else ' in int8, fp32 or both'}"
        )
        if isinstance(self.executor, RayWorkers):
            self.executor.check()  # an hour of training later it would be too late
        config = self.config
        supernet = self._supernet(space)
        with self.watch.timed("calibration"):
            costs = cost_models(config, space, ledger)
        problem = make_problem(config, data, supernet, costs)
        feasibility = check_feasible(problem, config.seed)
        picture_of_limits(feasibility, problem)
        return supernet, costs, feasibility

    def _supernet(self, space: SearchSpace) -> Supernet:
        """The supernet of the options' file, or one that is still to be trained."""
        path = self.config.supernet
        return Supernet(space, seed=self.config.seed) if path is None else trained(path, space)

    # ---- the work ----------------------------------------------------------------------------

    def _run(
        self,
        data: ImageData,
        supernet: Supernet,
        costs: Sequence[CostModel],
        feasibility: Feasibility,
        ledger: Ledger,
    ) -> dict[str, Any]:
        for cost in costs:
            if isinstance(cost, MeasuredCostModel):
                record_calibration(ledger, cost)
        if self.config.supernet is None:
            self._train(data, supernet)
        front = self._search(data, supernet, costs, feasibility, ledger)
        return self.finish(data, supernet, costs, front, ledger)

    def _train(self, data: ImageData, supernet: Supernet) -> None:
        config = self.config
        bar = progress_bar("training the supernet", idle="the supernet is trained: taken over")
        with self.watch.timed("training"), bar as advance:
            train(
                supernet,
                data,
                epochs=config.training_epochs,
                recipe=Recipe(),
                seed=config.seed,
                checkpoint=config.out / CHECKPOINT,
                on_step=lambda s: advance(s.number, s.total, f"loss {s.losses[0]:.2f}"),
            )

    def _search(
        self,
        data: ImageData,
        supernet: Supernet,
        costs: Sequence[CostModel],
        feasibility: Feasibility,
        ledger: Ledger,
    ) -> Front:
        config = self.config
        where = "1 target" if len(costs) == 1 else f"{len(costs)} targets"
        problem = make_problem(config, data, supernet, costs)
        mirror = Mirror(config.out, problem.space, ledger, costs)
        by_worker: Mapping[str, int] = {}
        with self.watch.timed("search"), progress_bar(f"searching, {where}") as advance:

            def on_progress(progress: Progress) -> None:
                nonlocal by_worker
                by_worker = progress.by_worker
                advance(progress.evaluations, progress.total, progress_text(progress))
                mirror.refresh()

            copy_accuracies(ledger, problem)
            front = search(
                problem,
                evaluations=config.evaluations,
                strategy=strategy_by_name(
                    config.strategy, problem, config.seed, config.least_gain or 0.0
                ),
                ledger=ledger,
                executor=self.executor,
                seed=config.seed,
                feasibility=feasibility,
                on_progress=on_progress,
            )
        assert front.result is not None
        if front.result.quality is not None:
            say(f"  accuracy predictor, on evaluations it had not seen: {front.result.quality}")
        if set(by_worker) - {""}:
            each = ", ".join(f"{name} {count}" for name, count in sorted(by_worker.items()))
            say(f"  networks measured by each worker: {each}")
        return front


def progress_text(progress: Progress) -> str:
    """What stands behind the bar of a search."""
    workers = set(progress.by_worker) - {""}
    parts = [f"best {progress.best_accuracy or 0:.1%}"]
    if workers:
        parts.append(f"{len(workers)} workers, {progress.pending} in flight")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    return ", ".join(parts)


def trained(path: str | Path, space: SearchSpace) -> Supernet:
    """The supernet of a path or URL, which must be one of this space.

    Raises:
        BadInputError: There is no such file, or it holds another space.
        CorruptFileError: Not a supernet.
    """
    try:
        supernet = load_supernet(path, (type(space),))
    except MissingFileError:
        raise BadInputError(f"--supernet {path}: there is no such file") from None
    if supernet.space.hash != space.hash:
        raise BadInputError(
            f"--supernet {path} holds weights of {described_space(supernet.space)}, and the "
            f"options ask for {described_space(space)}: "
            f"{first_difference(supernet.space, space)}; give the --space, dataset and "
            "--image-size that it was trained with"
        )
    return supernet


def run_search(config: SearchConfig) -> dict[str, Any]:
    """Runs the search; returns what `front.json` holds."""
    return SearchRun(config).run()


if __name__ == "__main__":
    from experiments.cli import search_main

    search_main()
