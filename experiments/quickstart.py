"""The main job: from a dataset to exported, verified and measured networks for your devices.

    python -m experiments.quickstart --dataset digits --space hybrid --out runs/quickstart

In order: the data; a cost model for each target, calibrated on timed networks of this machine (one
thread, batch 1 and batch 16, where nothing else is named), measured before, or modelled; whether
the limits can be kept at all; the supernet; the search, for all targets at once; the chosen
networks, exported, verified and timed where a runner reaches the target, beside a hand-made
baseline of the same latency; the report. Everything that is measured goes to the ledger first, so
a run that was interrupted continues with `--resume`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.closing import picture_of_limits
from experiments.config import QuickstartConfig
from experiments.console import progress_bar, say
from experiments.datasets import load_dataset
from experiments.delivery import Delivery
from experiments.executor_option import executor_by_name
from experiments.front_file import FRONT, read_front
from experiments.measuring import record_calibration
from experiments.quickstart_costs import THREADS, cost_models
from experiments.quickstart_files import mirror, write_files
from experiments.quickstart_problem import make_problem
from experiments.run_folder import begin_run, claim_folder, continue_run, release_folder
from experiments.spaces import make_space
from experiments.stopwatch import Stopwatch
from latency_models import CostModel, MeasuredCostModel
from records import Ledger, unknown_name
from search_spaces import SearchSpace
from strategies import Feasibility, Front, check_feasible, search
from strategies.by_name import STRATEGIES, strategy_by_name
from supernet import ImageData, Recipe, Supernet, intra_op_threads, train

CHECKPOINT = "supernet.safetensors"


class Quickstart:
    """One run of the main job.

    Args:
        config: The options.
    """

    def __init__(self, config: QuickstartConfig) -> None:
        self.config = config
        self.watch = Stopwatch()

    def run(self) -> dict[str, Any]:
        """Does everything; returns what `front.json` holds.

        Raises:
            HwnasError: Whatever is wrong with the options, the data, the limits or the disk.
        """
        config = self.config
        if config.strategy not in STRATEGIES:
            raise unknown_name("strategy", config.strategy, STRATEGIES)
        data = load_dataset(
            config.dataset,
            image_size=config.image_size,
            train_images=config.train_images,
            folder=config.data_folder,
            seed=config.seed,
        )
        space = make_space(config.space, data)
        with intra_op_threads(THREADS):
            if config.resume:
                with continue_run(config.out, config.to_json()) as ledger:
                    return self._continue(data, space, ledger)
            claim_folder(config.out)
            try:
                return self._begin(data, space)
            finally:
                release_folder(config.out)

    def _begin(self, data: ImageData, space: SearchSpace) -> dict[str, Any]:
        """A new run: nothing is written before the limits are known to be reachable."""
        supernet, costs, feasibility = self._prepare(data, space, None)
        with begin_run(self.config.out, self.config.to_json()) as ledger:
            return self._run(data, supernet, costs, feasibility, ledger)

    def _continue(self, data: ImageData, space: SearchSpace, ledger: Ledger) -> dict[str, Any]:
        """An interrupted run, or one that is complete."""
        out = self.config.out
        if (out / FRONT).exists():
            say(f"{out} is complete: see {out / 'report.html'}")
            return read_front(out / FRONT)
        supernet, costs, feasibility = self._prepare(data, space, ledger)
        return self._run(data, supernet, costs, feasibility, ledger)

    def _prepare(
        self, data: ImageData, space: SearchSpace, ledger: Ledger | None
    ) -> tuple[Supernet, list[CostModel], Feasibility]:
        """The untrained supernet, cost models, and whether the limits can be kept."""
        say(
            f"{data.name}: {len(data.train)} train, {len(data.validation)} search-validation and "
            f"{len(data.test)} test images of {data.image_size}x{data.image_size}; "
            f"{space.name}: {len(space.choices)} choices, {space.cardinality:.3g} architectures"
        )
        config = self.config
        with self.watch.timed("calibration"):
            costs = cost_models(config, space, ledger)
        supernet = Supernet(space, seed=config.seed)
        problem = make_problem(config, data, supernet, costs)
        feasibility = check_feasible(problem, config.seed)
        picture_of_limits(feasibility, problem)
        return supernet, costs, feasibility

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
        self._train(data, supernet)
        front = self._search(data, supernet, costs, feasibility, ledger)
        delivered = Delivery(self.config, data, ledger, self.watch).deliver(front, costs)
        mirror(self.config, supernet.space, ledger)
        return write_files(self.config, data, supernet, delivered, self.watch)

    def _train(self, data: ImageData, supernet: Supernet) -> None:
        config = self.config
        with self.watch.timed("training"), progress_bar("training the supernet") as advance:
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
        with self.watch.timed("search"), progress_bar(f"searching, {where}") as advance:
            problem = make_problem(config, data, supernet, costs)
            front = search(
                problem,
                evaluations=config.evaluations,
                strategy=strategy_by_name(config.strategy, problem, config.seed),
                ledger=ledger,
                executor=executor_by_name(config.executor, config.workers, config.address),
                seed=config.seed,
                feasibility=feasibility,
                on_progress=lambda p: advance(
                    p.evaluations, p.total, f"best {p.best_accuracy or 0:.1%}"
                ),
            )
        assert front.result is not None
        if front.result.quality is not None:
            say(f"  accuracy predictor, on evaluations it had not seen: {front.result.quality}")
        return front


def quickstart(config: QuickstartConfig) -> dict[str, Any]:
    """Runs the main job; returns what `front.json` holds."""
    return Quickstart(config).run()


if __name__ == "__main__":
    from experiments.cli import quickstart_main

    quickstart_main()
