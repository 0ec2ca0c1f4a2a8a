"""One family of spaces against the hand-made networks: find, train, export, time, test."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deployment import LocalRunner, Timing, emit, verify
from deployment.intervals import wilson_interval
from experiments.baselines import hand_made
from experiments.benchmarks.hand_made_sizes import Size, matched_sizes
from experiments.benchmarks.quality_jobs import Budget, Job, run_jobs, space_of
from experiments.measuring import Reference, calibrated, record_calibration, time_with_reference
from hardware_profiles import Target, local_target
from latency_models import MeasuredCostModel
from records import BadInputError, Ledger, content_hash, versions
from search_spaces import Genes
from strategies import FrontPoint, Problem, check_feasible, search
from supernet import Recipe, Subnet, Supernet, SupernetEvaluator, accuracy, load_supernet

logger = logging.getLogger(__name__)

SIZES = "sizes"
"""What a ledger calls the sizes that were chosen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contestant:
    """A network of the comparison.

    Attributes:
        title: How the tables name it.
        weights: Where its weights are from: `inherited` or `alone`.
        jobs: Its trainings by rate; none for inherited weights.
        subnet: The network with inherited weights.
        validation_accuracy: Of these.
    """

    title: str
    weights: str
    jobs: Mapping[float, Job]
    subnet: Subnet | None = None
    validation_accuracy: float = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What stands against each other under one limit, and what is too slow for it."""

    limit_ms: float
    point: FrontPoint
    contestants: tuple[Contestant, ...]
    too_slow: tuple[Size, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """A contestant with the weights of its best learning rate.

    Attributes:
        contestant: What it was chosen from.
        network: With its weights.
        tuned: Accuracies on search-validation by learning rate; empty for inherited weights.
        learning_rate: The chosen one.
        validation_accuracy: On search-validation.
    """

    contestant: Contestant
    network: Subnet
    tuned: Mapping[float, float]
    learning_rate: float | None
    validation_accuracy: float

    @staticmethod
    def of(contestant: Contestant, reached: Mapping[str, float]) -> Chosen:
        """The choice among the trainings, whose accuracies are given by the jobs' keys."""
        tuned = {rate: reached[job.key] for rate, job in contestant.jobs.items()}
        if contestant.subnet is not None:
            return Chosen(
                contestant=contestant, network=contestant.subnet, tuned=tuned, learning_rate=None,
                validation_accuracy=contestant.validation_accuracy,
            )  # fmt: skip
        rate = best_rate(tuned)
        network = Subnet.load(contestant.jobs[rate].network_folder)
        return Chosen(
            contestant=contestant, network=network, tuned=tuned, learning_rate=rate,
            validation_accuracy=tuned[rate],
        )  # fmt: skip


class Comparison:
    """One family of spaces against the hand-made networks.

    Args:
        family: A name of `experiments.spaces`.
        arguments: The command line's.

    Raises:
        BadInputError: Images that are too small for a hand-made network.
    """

    def __init__(self, family: str, arguments: argparse.Namespace) -> None:
        self.family = family
        self.arguments = arguments
        self.budget = Budget(
            dataset=arguments.dataset, images=arguments.images, epochs=arguments.epochs
        )
        self.data = self.budget.data()
        self.space = space_of(family, self.data)
        self.target: Target = local_target(threads=1, batch_size=arguments.batch_size)
        self.networks = [(n, r) for n in arguments.hand_made for r in arguments.reductions]
        for name, reduction in self.networks:
            hand_made(name, self.data, reduction=reduction)  # refuses images that are too small
        ends = [self.space.extremes(which) for which in ("smallest", "largest")]
        self.supernet_job = self._job(arguments.seed, np.concatenate(ends))

    def run(self) -> list[dict[str, Any]]:
        """The figures of every limit.

        Raises:
            InfeasibleConstraintError: A limit below what the space reaches, before any training.
        """
        arguments = self.arguments
        arguments.folder.mkdir(parents=True, exist_ok=True)
        with self._ledger() as ledger:
            cost = self._cost(ledger)
            limits = self._limits(cost)
            run_jobs([self.supernet_job], workers=1)
            supernet = load_supernet(self.supernet_job.checkpoint)
            evaluator = supernet.evaluator(self.data)
            found = [self._find(limit, evaluator, cost, ledger) for limit in limits]
        jobs = [job for f in found for c in f.contestants for job in c.jobs.values()]
        known = {job.key: job for job in jobs}  # limits may share a network
        results = run_jobs(list(known.values()), arguments.workers)
        reached = {
            key: result["accuracies"][0] for key, result in zip(known, results, strict=True)
        }
        return [self._judged(f, reached, cost) for f in found]

    def _job(self, seed: int, rows: Genes) -> Job:
        return Job(
            family=self.family,
            budget=self.budget,
            recipe=Recipe(),
            seed=seed,
            rows=tuple(tuple(row) for row in rows.tolist()),
            alone=False,
            folder=self.arguments.folder,
        )

    def _ledger(self) -> Ledger:
        """What was timed and measured for this supernet on this machine."""
        key, target = self.supernet_job.key, self.target
        place = content_hash([target.name, target.profile.machine])[:6]
        path = self.arguments.folder / f"{key}-{place}.sqlite"
        if path.exists():
            return Ledger.open(path)
        return Ledger.create(path, {"supernet": key, "versions": versions()})

    def _cost(self, ledger: Ledger) -> MeasuredCostModel:
        cost = calibrated(
            self.space, self.target, ledger,
            networks=self.arguments.calibration_networks, seed=self.arguments.seed,
        )  # fmt: skip
        record_calibration(ledger, cost)
        logger.info("%s: %s", self.family, cost.latency_source)
        return cost

    def _limits(self, cost: MeasuredCostModel) -> list[float]:
        """The limits, checked before anything is trained."""
        untrained = Supernet(self.space).evaluator(self.data)
        reach = check_feasible(Problem(self.space, untrained, [cost]), self.arguments.seed)
        span = reach.range("latency_ms", cost.target_name)
        limits: list[float] = self.arguments.limits_ms or limits_between(
            span.lowest, span.highest, self.arguments.fractions
        )
        for limit in limits:
            problem = Problem(self.space, untrained, [cost], {"latency_ms": limit})
            check_feasible(problem, self.arguments.seed)
        return limits

    # ---- finding -----------------------------------------------------------------------------

    def _find(
        self, limit: float, evaluator: SupernetEvaluator, cost: MeasuredCostModel, ledger: Ledger
    ) -> Found:
        """The best subnet under the limit, and the hand-made networks as fast as that."""
        problem = Problem(self.space, evaluator, [cost], {"latency_ms": limit})
        front = search(
            problem,
            evaluations=self.arguments.evaluations,
            ledger=ledger,
            seed=self.arguments.seed,
        )
        best = max(front, key=lambda point: point.accuracy)
        subnet = evaluator.subnet(best.architecture)
        logger.info("%s, %.4g ms: best of the search %.4f", self.family, limit, best.accuracy)
        sizes = self._sizes(best.genes, subnet, ledger)
        inherited = Contestant(
            title=f"{self.family} subnet", weights="inherited", jobs={}, subnet=subnet,
            validation_accuracy=best.accuracy,
        )  # fmt: skip
        row = np.array([best.genes], np.int16)
        single = replace(self._job(self.arguments.alone_seed, row), alone=True, keep=True)
        alone = Contestant(title=inherited.title, weights="alone", jobs=self._rates(single))
        others = [self._hand_made(size, single) for size in sizes if size.is_comparable]
        return Found(
            limit_ms=limit,
            point=best,
            contestants=(inherited, alone, *others),
            too_slow=tuple(size for size in sizes if not size.is_comparable),
        )

    def _sizes(self, genes: tuple[int, ...], subnet: Subnet, ledger: Ledger) -> list[Size]:
        """The sizes that match the subnet; those chosen by an interrupted run are kept."""
        what = content_hash([list(genes), self.networks])
        for noted in ledger.notes(SIZES):
            if noted["of"] == what:
                return [Size(**value) for value in noted["sizes"]]
        model = self._exported(subnet)
        sizes = matched_sizes(
            model, self.networks, self.data, self.target, LocalRunner(), seed=self.arguments.seed
        )
        ledger.note(SIZES, {"of": what, "sizes": [size.to_json() for size in sizes]})
        return sizes

    def _hand_made(self, size: Size, single: Job) -> Contestant:
        graph = size.graph(self.data)
        job = replace(single, family=size.name, rows=((size.index,),), graph=graph)
        return Contestant(title=size.title(self.data), weights="alone", jobs=self._rates(job))

    def _rates(self, job: Job) -> dict[float, Job]:
        """The training with every learning rate."""
        rates = [factor * job.recipe.learning_rate for factor in self.arguments.rates]
        return {r: replace(job, recipe=replace(job.recipe, learning_rate=r)) for r in rates}

    # ---- judging -----------------------------------------------------------------------------

    def _judged(
        self, found: Found, reached: Mapping[str, float], cost: MeasuredCostModel
    ) -> dict[str, Any]:
        """Exports, times and tests what has been chosen."""
        chosen = [Chosen.of(contestant, reached) for contestant in found.contestants]
        timings, drift = time_with_reference(
            [self._exported(one.network) for one in chosen],
            self.target, LocalRunner(), Reference.of(cost), seed=self.arguments.seed,
        )  # fmt: skip
        first = timings[0].latency_ms
        records = [
            {**self._record(one, timing), "latency_ratio": timing.latency_ms / first}
            for one, timing in zip(chosen, timings, strict=True)
        ]
        return {
            "limit_ms": found.limit_ms,
            "genes": list(found.point.genes),
            "architecture": found.point.architecture.to_json(),
            "predicted_ms": found.point.latency_ms,
            "drift": drift,
            "test_images": len(self.data.test),
            "networks": records,
            "too_slow": [
                {"network": size.title(self.data), "latency_ratio": size.ratio}
                for size in found.too_slow
            ],
        }

    def _record(self, one: Chosen, timing: Timing) -> dict[str, Any]:
        """What is told of a network; reads the test split."""
        test = accuracy(one.network, self.data.test)
        return {
            "network": one.contestant.title,
            "weights": one.contestant.weights,
            "learning_rate": one.learning_rate,
            "validation_accuracy": one.validation_accuracy,
            "validation_accuracy_by_rate": [list(pair) for pair in one.tuned.items()],
            "test_accuracy": test,
            "test_interval_95": list(wilson_interval(test, len(self.data.test))),
            "latency_ms": timing.latency_ms,
            "dispersion_ms": timing.dispersion_ms,
            "parameters": one.network.graph.parameters,
            "macs": one.network.graph.macs,
        }

    def _exported(self, network: Subnet) -> bytes:
        """The network's file, checked against torch."""
        model = emit(network, self.target.batch_size)
        verify(network, model, self.data.validation.images[:32])
        return bytes(model.SerializeToString())


def best_rate(accuracies: Mapping[float, float]) -> float:
    """The learning rate with the highest accuracy, the first of equal ones."""
    return max(accuracies, key=lambda rate: accuracies[rate])


def limits_between(lowest: float, highest: float, fractions: Sequence[float]) -> list[float]:
    """Latencies at fractions of the way from the lowest to the highest, as ratios.

    Raises:
        BadInputError: A fraction outside 0 and 1.
    """
    wrong = [fraction for fraction in fractions if not 0 < fraction <= 1]
    if wrong:
        raise BadInputError(f"fractions must be above 0 and at most 1, got {wrong}")
    return [lowest * (highest / lowest) ** fraction for fraction in fractions]
