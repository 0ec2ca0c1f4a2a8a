"""Predictor-guided search: a predictor of accuracy, and costs that are known.

Each round: (1) fit the predictor to everything measured; (2) evolve a population on the predicted
error, less a little optimism, and the known latencies, starting from the best measured networks;
(3) of all networks met on the way, take one after the other that with the largest expected gain in
hypervolume, over all targets, as if the ones taken had their predicted error; (4) add a share of
random networks, which keep the predictor honest.

Deviations from LINAS (1): only unseen networks are taken, uncertainty counts, and all networks of
the inner search are candidates, not its last population alone. Step 3 follows (2).

References:
    1. Cummings et al., A hardware-aware framework for accelerating neural architecture search
       across modalities (DyNAS-T), arXiv 2205.10358.
    2. Ginsbourger et al., Kriging is well-suited to parallelize optimization, 2010 (the believer).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from predictors import BoostedTrees
from records import BadInputError
from search_spaces import Genes
from strategies.allowances import allowances, ranked_objectives
from strategies.dominance import constrained_rank
from strategies.feasibility import sample_feasible
from strategies.forecasts import Forecasts
from strategies.held_out import PredictorQuality
from strategies.improvement import expected_gain
from strategies.known_rows import row_keys
from strategies.least_gain import checked_least_gain, why_finished
from strategies.nsga2 import NSGA2
from strategies.problem import Problem, target_weights
from strategies.protocols import Floats, Predictor
from strategies.strategy import Strategy, floats_from_json, floats_to_json

_BEYOND = 1.1
"""Volume counts up to this many times the slowest latency."""

_LEAST_MEASURED = 8
"""With fewer measured networks than this a predictor knows nothing; proposals are random."""


class PredictorGuided(Strategy):
    """Spends expensive evaluations where a predictor expects them to move the front.

    Proposals keep the problem's limits. With several targets a network is expected to gain on
    each that allows it, and gains are summed with the targets' weights.

    Args:
        problem: The space, costs and limits.
        predictor: Learns accuracy; boosted trees by default.
        seed: See `Strategy`.
        initial: See `Strategy`.
        population_size: Of the inner evolution.
        generations: Of the inner evolution.
        optimism: How many standard deviations the inner evolution takes off the predicted error.
        random_share: The share of proposals that are random feasible networks.
        least_gain: Where the largest expected gain is below this share of the hypervolume found,
            nothing more is proposed, and `finished` says so.

    Raises:
        BadInputError: A share outside 0..1 or a negative optimism.
    """

    judges_targets: ClassVar[bool] = True

    _attempts: ClassVar[int] = 1
    _random_attempts: ClassVar[int] = 0  # they would not keep the limits

    def __init__(
        self,
        problem: Problem,
        predictor: Predictor | None = None,
        *,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
        population_size: int = 200,
        generations: int = 15,
        optimism: float = 0.5,
        random_share: float = 0.125,
        least_gain: float = 0.0,
    ) -> None:
        if not 0 <= random_share <= 1:
            raise BadInputError(f"random_share must be within 0 and 1, got {random_share}")
        if optimism < 0:
            raise BadInputError(f"optimism must be at least 0, got {optimism}")
        super().__init__(problem.space, seed=seed, initial=initial)
        self.problem = problem
        self.predictor: Predictor = predictor or BoostedTrees(problem.space, seed=seed)
        self.population_size = population_size
        self.generations = generations
        self.optimism = optimism
        self.random_share = random_share
        self.least_gain = checked_least_gain(least_gain)
        targets = len(problem.targets)
        self._genes = self._no_rows()
        self._objectives: Floats = np.zeros((0, 1 + targets))
        self._columns = 1 + targets
        self._violations: Floats = np.zeros(0)
        self._proposed = 0
        self._is_fitted = False
        self._forecasts = Forecasts(self.space)

    @property
    def quality(self) -> PredictorQuality:
        """How well accuracies were predicted before they were measured."""
        return self._forecasts.quality

    # ---- proposing ---------------------------------------------------------------------------

    def _propose(self, n: int) -> Genes:
        if self.finished:
            return self._no_rows()
        if not self._fit():
            return self._random(n)
        before, self._proposed = self._proposed, self._proposed + n
        share = self.random_share
        at_random = int(self._proposed * share) - int(before * share)
        pool = self._evolve()
        chosen = self._greedy(pool, n - at_random)
        left = self._no_rows() if self.finished else self._random(n)
        left = left[~np.isin(row_keys(left), row_keys(chosen))]
        rows = np.concatenate([chosen, left[: n - len(chosen)]])
        if len(rows):
            found = self.predictor.predict(self.space.without_platform(rows))
            self._forecasts.note(rows, found.mean, found.std)
        return rows

    def _fit(self) -> bool:
        """Fits the predictor unless it is up to date; says whether there was enough to learn."""
        measured = ~np.isnan(self._objectives[:, 0])
        if measured.sum() < _LEAST_MEASURED:
            return False
        if not self._is_fitted:
            networks = self.space.without_platform(self._genes[measured])
            self.predictor.fit(networks, 1 - self._objectives[measured, 0])
            self._is_fitted = True
        return True

    def _random(self, n: int) -> Genes:
        """Random feasible rows that are not known."""
        starts = self._genes[self._violations <= 0]
        rows = sample_feasible(self.problem, n + min(len(self._known), 256), self.rng, starts)
        return rows[self._known.is_new(rows)][:n]

    def _evolve(self) -> Genes:
        """All feasible and unseen networks that an evolution on the predictions meets."""
        evolution = NSGA2(
            self.space,
            population_size=self.population_size,
            seed=int(self.rng.integers(2**62)),
            initial=self._random(self.population_size),
        )
        slowest = _BEYOND * self._objectives[:, 1:].max(axis=0)
        told = ranked_objectives(self._objectives, self._allowed(), slowest)
        rank = constrained_rank(told, self._violations)
        best = np.argsort(rank, kind="stable")[: self.population_size // 2]
        evolution.tell(self._genes[best], told[best], self._violations[best])
        met = [self._no_rows()]
        for _ in range(self.generations):
            genes = evolution.ask(self.population_size)
            if len(genes) == 0:
                break
            predicted = self.predictor.predict(self.space.without_platform(genes))
            accuracy = predicted.mean + self.optimism * predicted.std
            missed = self.problem.target_violations(genes)
            violations = missed.min(axis=1)
            objectives = self.problem.objectives(genes, accuracy)
            evolution.tell(genes, ranked_objectives(objectives, missed <= 0, slowest), violations)
            met.append(genes[violations <= 0])
        genes = np.concatenate(met)
        return genes[self._known.is_new(genes)]

    def _greedy(self, pool: Genes, count: int) -> Genes:
        """Takes the rows with the largest expected gain, one after the other."""
        usable = (self._violations <= 0) & ~np.isnan(self._objectives[:, 0])
        if len(pool) == 0 or not usable.any():
            return pool[:0]
        fronts, counts = self._objectives[usable], self._allowed()[usable]
        allowed = allowances(self.problem, pool, np.zeros(len(pool)))
        weights = target_weights(self.problem.targets, self.problem.weights)
        predicted = self.predictor.predict(self.space.without_platform(pool))
        mean, std = 1 - predicted.mean, predicted.std
        latency = self.problem.cheap_objectives(pool)
        worst_error = float(np.quantile(fronts[:, 0], 0.9)) + 1e-6
        met = np.concatenate([
            np.where(counts, fronts[:, 1:], 0), np.where(allowed, latency, 0)
        ])  # fmt: skip
        slowest = _BEYOND * np.where(np.isfinite(met), met, 0).max(axis=0)
        chosen: list[int] = []
        for _ in range(min(count, len(pool))):
            gain = np.zeros(len(pool))
            for t in np.flatnonzero(allowed.any(axis=0)).tolist():
                fits, reference = allowed[:, t], (worst_error, float(slowest[t]))
                front = fronts[counts[:, t]][:, [0, t + 1]]
                gain[fits] += weights[t] * expected_gain(
                    front, mean[fits], std[fits], latency[fits, t], reference
                )
            gain[chosen] = -np.inf
            pick = int(gain.argmax())
            if self._is_done(float(gain[pick]), fronts, counts, (worst_error, slowest)):
                break
            chosen.append(pick)
            fronts = np.concatenate([fronts, [[mean[pick], *latency[pick]]]])
            counts = np.concatenate([counts, allowed[pick : pick + 1]])
        return pool[chosen]

    def _is_done(
        self,
        gain: float,
        fronts: Floats,
        counts: npt.NDArray[np.bool_],
        reference: tuple[float, Floats],
    ) -> bool:
        """Whether the largest gain is too small to go on; says so in `finished`."""
        slowest = np.log(np.maximum(reference[1], np.finfo(np.float64).tiny))
        logarithmic = [
            np.column_stack([fronts[kept, 0], np.log(fronts[kept, t + 1])])
            for t, kept in enumerate(counts.T)
        ]
        self.finished = why_finished(
            gain,
            self.least_gain,
            logarithmic,
            [(reference[0], float(s)) for s in slowest],
            target_weights(self.problem.targets, self.problem.weights).tolist(),
        )
        return bool(self.finished)

    def _allowed(self) -> npt.NDArray[np.bool_]:
        """Which targets allow which of the rows told."""
        return allowances(self.problem, self._genes, self._violations)

    # ---- learning ----------------------------------------------------------------------------

    def _learn(self, genes: Genes, objectives: Floats, violations: Floats) -> None:
        self.finished = ""
        self._forecasts.settle(genes, 1 - objectives[:, 0])
        self._genes = np.concatenate([self._genes, genes])
        self._objectives = np.concatenate([self._objectives, objectives])
        self._violations = np.concatenate([self._violations, violations])
        self._is_fitted = False

    def _learned(self) -> dict[str, Any]:
        return {
            "genes": self._genes.tolist(),
            "objectives": floats_to_json(self._objectives),
            "violations": floats_to_json(self._violations),
            "forecasts": self._forecasts.to_json(),
            "proposed": self._proposed,
            "finished": self.finished,
        }

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        self._genes = self._rows(learned["genes"])
        shape = (len(self._genes), self._objectives.shape[1])
        self._objectives = floats_from_json(learned["objectives"]).reshape(shape)
        self._violations = floats_from_json(learned["violations"], missing=np.inf)
        self._forecasts = Forecasts.from_json(self.space, learned["forecasts"])
        self._proposed = int(learned["proposed"])
        self.finished = learned.get("finished", "")
        self._is_fitted = False
