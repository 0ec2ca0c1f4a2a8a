"""From a front to files: choose, time, refit where predictions were wrong, add a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from experiments.baselines import scaled_to
from experiments.baselines.scaled import Scaled
from experiments.closing import warned_already
from experiments.config import QuickstartConfig
from experiments.console import progress_bar, say
from experiments.export import (
    CALIBRATION_IMAGES,
    Chosen,
    Timed,
    choose,
    file_accuracy,
    time_chosen,
)
from experiments.refit import Refit, median_error, refitted_costs
from experiments.spaces import baseline_space
from experiments.stopwatch import Stopwatch
from latency_models import CostModel, MeasuredCostModel, RooflineCostModel, calibrate
from records import Ledger
from strategies import Front, pareto_front
from supernet import ImageData, Subnet, train_alone

TimedByTarget = dict[str, list[Timed]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What is to become files.

    Attributes:
        front: The front that the networks were chosen from, under the last cost models.
        costs: These cost models.
        timed: For each target the chosen networks, then the baseline.
        refit: Whether the cost models were refitted, and what that brought.
    """

    front: Front
    costs: Sequence[CostModel]
    timed: Mapping[str, Sequence[Timed]]
    refit: Refit


class Delivery:
    """Chooses the networks of a front and times their files.

    Args:
        config: The options.
        data: Training images set the scales of int8 files; the baselines are trained on them.
        ledger: Where timings go.
        watch: Notes the seconds.
    """

    def __init__(
        self, config: QuickstartConfig, data: ImageData, ledger: Ledger, watch: Stopwatch
    ) -> None:
        self.config = config
        self.data = data
        self.ledger = ledger
        self.watch = watch

    def deliver(self, front: Front, costs: Sequence[CostModel]) -> Delivered:
        """Times what each target's front offers, and a baseline beside it."""
        with self.watch.timed("export"):
            front, costs, timed, refit = self._searched(front, costs)
        with self.watch.timed("baseline"):
            trained: dict[str, Subnet] = {}
            for cost in costs:
                own = timed[cost.target_name]
                own.append(self._baseline(cost, own, trained))
        return Delivered(front=front, costs=costs, timed=timed, refit=refit)

    def _searched(
        self, front: Front, costs: Sequence[CostModel]
    ) -> tuple[Front, Sequence[CostModel], TimedByTarget, Refit]:
        """The chosen networks timed; chosen and timed again after a refit, if one is needed."""
        config = self.config
        timed = self._time_fronts(front, costs)
        error = median_error(timed)
        if error is None or error <= config.refit_threshold:
            refit = Refit(threshold=config.refit_threshold, median_error=error, refitted=False)
            return front, costs, timed, refit
        say(
            f"  predicted latencies are off by {error:.1%} (median), more than "
            f"{config.refit_threshold:.1%}: refitting and ranking again"
        )
        better, refit = refitted_costs(
            costs, timed, self.ledger, threshold=config.refit_threshold, seed=config.seed
        )
        again = _ranked_again(front, better)
        if all(len(again.for_target(cost.target_name)) for cost in better):
            return again, better, self._time_fronts(again, better, before=timed), refit
        say(
            "  under the refitted model no measured network is sure to keep the limits: the "
            "first ranking stays, judge it by the measured values"
        )
        return front, costs, timed, refit

    def _time_fronts(
        self, front: Front, costs: Sequence[CostModel], before: TimedByTarget | None = None
    ) -> TimedByTarget:
        """Times each target's chosen networks; keeps predictions made before a first timing."""
        timed: TimedByTarget = {}
        for cost in costs:
            chosen = choose(front, cost.target_name, cost, self.config.points)
            known = {t.chosen.genes.tobytes(): t for t in (before or {}).get(cost.target_name, [])}
            timed[cost.target_name] = [
                t.predicted_as(known.get(t.chosen.genes.tobytes(), t)) for t in self._time(chosen)
            ]
        return timed

    def _time(self, chosen: list[Chosen]) -> list[Timed]:
        images = self.data.train.images[:CALIBRATION_IMAGES]
        return time_chosen(chosen, self.ledger, seed=self.config.seed, calibration_images=images)

    def _baseline(self, cost: CostModel, timed: list[Timed], trained: dict[str, Subnet]) -> Timed:
        """A ResNet scaled to the latency of the target's most accurate network, timed like it.

        Each size is trained once, for whatever targets it serves.
        """
        best = max(timed, key=lambda t: t.chosen.validation_accuracy)
        space = baseline_space(self.data)
        own = self._baseline_costs(cost, space)
        genes = scaled_to(own, best.latency_ms)
        title = space.title(genes)
        if title not in trained:
            with progress_bar(f"training the baseline {title}") as advance:
                trained[title] = train_alone(
                    space.graph(genes),
                    self.data,
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
            validation_accuracy=file_accuracy(subnet, self.data.validation, own, self.data),
        )
        return self._time([chosen])[0]

    def _baseline_costs(self, cost: CostModel, space: Scaled) -> CostModel:
        """The costs of the baseline's sizes on a target, timed where they can be."""
        if not isinstance(cost, MeasuredCostModel):
            return RooflineCostModel(space, cost.target)
        if cost.runner is None:  # kernels are the same in every space
            return cost.in_space(space)
        return calibrate(
            space,
            cost.target,
            networks=len(space.multipliers),
            seed=self.config.seed,
            budget_s=20,
            runner=cost.runner,
            quantisation=cost.quantisation,
        )


def _ranked_again(front: Front, costs: Sequence[CostModel]) -> Front:
    """The front of what was evaluated, under other cost models."""
    assert front.result is not None
    with warned_already():
        problem = replace(front.problem, costs=costs)
    return pareto_front(problem, front.result.observations, front.result)
