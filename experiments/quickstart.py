"""The main job: from a dataset to exported, verified and measured networks for this machine.

    python -m experiments.quickstart --dataset digits --space hybrid --out runs/quickstart

In order: the data; a cost model of this machine for two targets (one thread, batch 1 and batch
16), calibrated on timed networks, or that of one target measured before; whether the limits can be
kept at all; the supernet; the search, for all targets at once; the chosen networks, exported,
verified and timed where a runner reaches the target, beside a hand-made baseline of the same
latency; the report. Everything that is measured goes to the ledger first, so a run that was
interrupted continues with `--resume`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from deployment import Bundle
from deployment.command_file import read_command_file
from experiments.baselines import scaled_to
from experiments.closing import closing_table, picture_of_limits, warned_already
from experiments.config import QuickstartConfig
from experiments.console import console, progress_bar, say
from experiments.datasets import load_dataset
from experiments.diagrams import save_front_picture
from experiments.export import (
    CALIBRATION_IMAGES,
    Chosen,
    Timed,
    choose,
    point_record,
    time_chosen,
    write_bundle,
)
from experiments.front_file import (
    FORMAT,
    FRONT,
    compromise_record,
    dataset_record,
    read_front,
    search_record,
    space_record,
    target_record,
)
from experiments.measuring import calibrated, record_calibration
from experiments.refit import Refit, median_error, refitted_costs
from experiments.report import write_report
from experiments.run_folder import begin_run, claim_folder, continue_run, release_folder
from experiments.spaces import baseline_space, make_space
from hardware_profiles import local_target
from latency_models import MeasuredCostModel, calibrate, load_target
from records import Ledger, mirror_to_optuna, unknown_name, versions, write_json
from search_spaces import SearchSpace
from strategies import Front, Problem, check_feasible, pareto_front, search
from strategies.by_name import STRATEGIES, strategy_by_name
from supernet import (
    ImageData,
    Recipe,
    Subnet,
    Supernet,
    accuracy,
    intra_op_threads,
    train,
    train_alone,
)

BATCH_SIZES = (1, 16)
THREADS = 1
CHECKPOINT = "supernet.safetensors"


class Quickstart:
    """One run of the main job.

    Args:
        config: The options.
    """

    def __init__(self, config: QuickstartConfig) -> None:
        self.config = config
        self.seconds: dict[str, float] = {}
        self.began = time.monotonic()

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
        supernet, costs = self._prepare(data, space, None)
        with begin_run(self.config.out, self.config.to_json()) as ledger:
            return self._run(data, supernet, costs, ledger)

    def _continue(self, data: ImageData, space: SearchSpace, ledger: Ledger) -> dict[str, Any]:
        """An interrupted run, or one that is complete."""
        out = self.config.out
        if (out / FRONT).exists():
            say(f"{out} is complete: see {out / 'report.html'}")
            return read_front(out / FRONT)
        supernet, costs = self._prepare(data, space, ledger)
        return self._run(data, supernet, costs, ledger)

    def _prepare(
        self, data: ImageData, space: SearchSpace, ledger: Ledger | None
    ) -> tuple[Supernet, list[MeasuredCostModel]]:
        """Cost models, and whether the limits can be kept."""
        say(
            f"{data.name}: {len(data.train)} train, {len(data.validation)} search-validation and "
            f"{len(data.test)} test images of {data.image_size}x{data.image_size}; "
            f"{space.name}: {len(space.choices)} choices, {space.cardinality:.3g} architectures"
        )
        costs = self._calibrate(space, ledger)
        supernet = Supernet(space, seed=self.config.seed)
        self._check_limits(data, supernet, costs)
        return supernet, costs

    def _run(
        self,
        data: ImageData,
        supernet: Supernet,
        costs: list[MeasuredCostModel],
        ledger: Ledger,
    ) -> dict[str, Any]:
        for cost in costs:
            record_calibration(ledger, cost)
        self._train(data, supernet)
        front = self._search(data, supernet, costs, ledger)
        front, costs, timed, refit = self._export(data, front, costs, ledger)
        self._mirror(supernet.space, ledger)
        return self._write(data, supernet, front, costs, timed, refit)

    def _calibrate(self, space: SearchSpace, ledger: Ledger | None) -> list[MeasuredCostModel]:
        if self.config.target is not None:
            return [self._saved(space, self.config.target)]
        costs = []
        with self._timed("calibration"):
            with console.status("measuring this machine (once)"):
                targets = [local_target(threads=THREADS, batch_size=b) for b in BATCH_SIZES]
            for target in targets:
                with progress_bar(f"timing networks, batch {target.batch_size}") as advance:
                    cost = calibrated(
                        space,
                        target,
                        ledger,
                        networks=self.config.calibration_networks,
                        seed=self.config.seed,
                        on_progress=lambda what, i, n, advance=advance: advance(i, n, what),  # type: ignore[misc]
                    )
                costs.append(cost)
                say(
                    f"  {target.name}: {len(cost.genes)} networks timed, cross-validated "
                    f"error {cost.quality.mape:.1%} (median {cost.quality.median_error:.1%}), "
                    f"Spearman {cost.quality.spearman:.3f}"
                )
        return costs

    def _saved(self, space: SearchSpace, name: str) -> MeasuredCostModel:
        """The cost model of a target that was measured before."""
        file = self.config.command_file
        runner = None if file is None else read_command_file(file)
        cost = load_target(name).cost_model(space, runner)
        say(
            f"  {cost.target_name}: {len(cost.genes)} networks timed before, cross-validated "
            f"error {cost.quality.mape:.1%}, Spearman {cost.quality.spearman:.3f}; "
            + (
                f"exported files are timed by {runner.name}"
                if runner is not None
                else "no runner reaches it, so exported files are not timed: costs only"
            )
        )
        return cost

    def _check_limits(
        self, data: ImageData, supernet: Supernet, costs: list[MeasuredCostModel]
    ) -> None:
        problem = self._problem(data, supernet, costs)
        feasibility = check_feasible(problem, self.config.seed)
        picture_of_limits(feasibility, problem)

    def _problem(
        self, data: ImageData, supernet: Supernet, costs: list[MeasuredCostModel]
    ) -> Problem:
        limits = self.config.limits(costs[0].target_name)  # of all: the targets are one device
        with warned_already():
            return Problem(supernet.space, supernet.evaluator(data), costs, limits, together=True)

    def _train(self, data: ImageData, supernet: Supernet) -> None:
        config = self.config
        with self._timed("training"), progress_bar("training the supernet") as advance:
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
        costs: list[MeasuredCostModel],
        ledger: Ledger,
    ) -> Front:
        config = self.config
        with self._timed("search"), progress_bar("searching, both targets") as advance:
            problem = self._problem(data, supernet, costs)
            front = search(
                problem,
                evaluations=config.evaluations,
                strategy=strategy_by_name(config.strategy, problem, config.seed),
                ledger=ledger,
                seed=config.seed,
                on_progress=lambda p: advance(
                    p.evaluations, p.total, f"best {p.best_accuracy or 0:.1%}"
                ),
            )
        assert front.result is not None
        if front.result.quality is not None:
            say(f"  accuracy predictor, on evaluations it had not seen: {front.result.quality}")
        return front

    def _export(
        self,
        data: ImageData,
        front: Front,
        costs: list[MeasuredCostModel],
        ledger: Ledger,
    ) -> tuple[Front, list[MeasuredCostModel], dict[str, list[Timed]], Refit]:
        config = self.config
        with self._timed("export"):
            timed = self._time_fronts(data, front, costs, ledger)
            error = median_error(timed)
            refit = Refit(threshold=config.refit_threshold, median_error=error, refitted=False)
            if error is not None and error > config.refit_threshold:
                say(
                    f"  predicted latencies are off by {error:.1%} (median), more than "
                    f"{config.refit_threshold:.1%}: refitting and ranking again"
                )
                better, refit = refitted_costs(
                    costs, timed, ledger, threshold=config.refit_threshold, seed=config.seed
                )
                again = self._ranked_again(front, better)
                if all(len(again.for_target(cost.target_name)) for cost in better):
                    front, costs = again, better
                    timed = self._time_fronts(data, front, costs, ledger, before=timed)
                else:
                    say(
                        "  under the refitted model no measured network is sure to keep the "
                        "limits: the first ranking stays, judge it by the measured values"
                    )
        with self._timed("baseline"):
            trained: dict[str, Subnet] = {}
            for cost in costs:
                timed[cost.target_name].append(
                    self._baseline(data, cost, timed[cost.target_name], ledger, trained)
                )
        return front, costs, timed, refit

    def _time_fronts(
        self,
        data: ImageData,
        front: Front,
        costs: list[MeasuredCostModel],
        ledger: Ledger,
        before: dict[str, list[Timed]] | None = None,
    ) -> dict[str, list[Timed]]:
        """Times each target's chosen networks; keeps predictions made before a first timing."""
        timed: dict[str, list[Timed]] = {}
        for cost in costs:
            chosen = choose(front, cost.target_name, cost, self.config.points)
            known = {t.chosen.genes.tobytes(): t for t in (before or {}).get(cost.target_name, [])}
            timed[cost.target_name] = [
                t.predicted_as(known.get(t.chosen.genes.tobytes(), t))
                for t in self._time(data, chosen, ledger)
            ]
        return timed

    def _time(self, data: ImageData, chosen: list[Chosen], ledger: Ledger) -> list[Timed]:
        images = data.train.images[:CALIBRATION_IMAGES]
        return time_chosen(chosen, ledger, seed=self.config.seed, calibration_images=images)

    def _ranked_again(self, front: Front, costs: list[MeasuredCostModel]) -> Front:
        assert front.result is not None
        before = front.problem
        with warned_already():
            problem = replace(before, costs=costs)
        return pareto_front(problem, front.result.observations, front.result)

    def _baseline(
        self,
        data: ImageData,
        cost: MeasuredCostModel,
        timed: list[Timed],
        ledger: Ledger,
        trained: dict[str, Subnet],
    ) -> Timed:
        """A ResNet scaled to the latency of the target's most accurate network, timed like it.

        Each size is trained once, for whatever targets it serves.
        """
        best = max(timed, key=lambda t: t.chosen.validation_accuracy)
        space = baseline_space(data)
        if cost.runner is None:  # kernels are the same in every space
            own = cost.in_space(space)
        else:
            own = calibrate(
                space,
                cost.target,
                networks=len(space.multipliers),
                seed=self.config.seed,
                budget_s=20,
                runner=cost.runner,
                quantisation=cost.quantisation,
            )
        genes = scaled_to(own, best.latency_ms)
        title = space.title(genes)
        if title not in trained:
            with progress_bar(f"training the baseline {title}") as advance:
                trained[title] = train_alone(
                    space.graph(genes),
                    data,
                    epochs=self.config.training_epochs,
                    seed=self.config.seed,
                    on_step=lambda s: advance(s.number, s.total, f"loss {s.losses[0]:.2f}"),
                )
        subnet = trained[title]
        chosen = Chosen(
            name=f"{cost.target_name}-baseline",
            title=title,
            kind="baseline",
            genes=genes,
            subnet=subnet,
            cost=own,
            validation_accuracy=accuracy(subnet, data.validation),
        )
        return self._time(data, [chosen], ledger)[0]

    def _write(
        self,
        data: ImageData,
        supernet: Supernet,
        front: Front,
        costs: list[MeasuredCostModel],
        timed: dict[str, list[Timed]],
        refit: Refit,
    ) -> dict[str, Any]:
        out = self.config.out
        weights_hash = supernet.weights_hash()
        points = []
        with self._timed("bundles"), progress_bar("verifying and writing bundles") as advance:
            everything = [one for own in timed.values() for one in own]
            for index, one in enumerate(everything):
                bundle = self._bundle(one, data, weights_hash)
                points.append(point_record(one, bundle, out))
                advance(index + 1, len(everything), one.chosen.name)
        self.seconds["total"] = time.monotonic() - self.began
        assert front.result is not None
        record = {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": self.config.seed,
            "config": self.config.to_json(),
            "versions": versions(),
            "seconds": self.seconds,
            "dataset": dataset_record(data),
            "space": space_record(supernet.space),
            "supernet": {
                "epochs": self.config.training_epochs,
                "parameters": sum(p.numel() for p in supernet.parameters()),
                "weights_hash": weights_hash,
            },
            "targets": [target_record(cost, front) for cost in costs],
            "search": search_record(front, costs),
            "compromise": compromise_record(front, points),
            "points": points,
            "refit": refit.to_json(),
        }
        write_report(record, out / "report.html")
        save_front_picture(record, out / "front.png")
        write_json(out / FRONT, record)
        closing_table(record)
        say(f"\nreport: {out / 'report.html'}   networks: {out / 'models'}   data: {out / FRONT}")
        return record

    def _bundle(self, one: Timed, data: ImageData, weights_hash: str) -> Bundle:
        folder = self.config.out / "models"
        return write_bundle(one, data, folder, weights_hash=weights_hash, seed=self.config.seed)

    def _mirror(self, space: SearchSpace, ledger: Ledger) -> None:
        mirror_to_optuna(
            ledger,
            self.config.out / "optuna-journal.log",
            study_name="hwnas",
            gene_names=[choice.name for choice in space.choices],
            gene_labels=lambda column, code: space.choices[column].values[code],
            objectives=[("accuracy", "", "maximize")],
            space_hash=space.hash,
        )

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[what] = time.monotonic() - start


def quickstart(config: QuickstartConfig) -> dict[str, Any]:
    """Runs the main job; returns what `front.json` holds."""
    return Quickstart(config).run()


if __name__ == "__main__":
    from experiments.cli import quickstart_main

    quickstart_main()
