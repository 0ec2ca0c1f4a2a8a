"""One batch of a Bayesian search: what is believed when it begins, and what is chosen.

See `strategies.bayesian` for what is done and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from predictors.kernels import Groups
from search_spaces import Genes
from strategies.allowances import allowances
from strategies.bayesian_candidates import Candidates
from strategies.bayesian_models import ErrorScale, log_latency
from strategies.bayesian_pool import Pool, joined
from strategies.dominance import constrained_rank
from strategies.improvement import staircase_gain
from strategies.known_rows import row_keys
from strategies.least_gain import why_finished
from strategies.problem import target_weights
from strategies.protocols import LATENCY, Floats

if TYPE_CHECKING:
    from strategies.bayesian import Bayesian

_BEYOND = 0.1  # of the range of log latency, as far as volume counts beyond the slowest
_MOST_LEARNED = 500  # rows; the effort grows with their third power
_PARENTS = 64
_LEAST_STD = 1e-9
_TINY = float(np.finfo(np.float64).tiny)


class Round:
    """One batch: what is believed, and the rows that are chosen for it.

    Args:
        search: The strategy, with at least one measured row.
        pending: Rows that are being evaluated.
    """

    def __init__(self, search: Bayesian, pending: Genes) -> None:
        self.search = search
        self.problem = search.problem
        objectives, violations = search._objectives, search._violations
        measured = ~np.isnan(objectives).any(axis=1)
        failed = ~measured & (violations <= 0)
        self.scale = ErrorScale.of(objectives[measured, 0])
        listed = search._candidates()
        known = None if listed is None else listed.latency_ms
        self.typical = _medians(objectives[:, 1:] if known is None else known)
        told = search._told_features()
        learned = self._best_of(measured | failed)
        measured = measured & learned
        self.features = tuple(group[learned] for group in told)
        self.errors = self.scale.transform(objectives[learned, 0])
        search._error.fit(self.features, self.errors)
        self.latency_features = tuple(group[measured] for group in told)
        self.latencies = self._logarithms(objectives[measured, 1:])
        for t, belief in enumerate(search._latency):
            belief.fit(self.latency_features, self.latencies[:, t])
        self.weights = target_weights(self.problem.targets, self.problem.weights)
        on_front = measured & (violations <= 0)
        counted = self._counted(search._genes[on_front], objectives[on_front, 1:])
        self.front = np.column_stack([
            self.scale.transform(objectives[on_front, 0]), self._logarithms(counted)
        ])  # fmt: skip
        self.references = [(0.0, 0.0) for _ in self.weights]
        if len(pending):
            costs = None if search.learns_latency else self.problem.cheap_objectives(pending)
            if costs is not None:
                costs = self._counted(pending, costs)
            self._believe(search._described(pending), costs)

    def _counted(self, genes: Genes, latency_ms: Floats) -> Floats:
        """Latencies of rows that some target allows, infinite where a target does not."""
        problem = self.problem
        if not self.search.learns_latency:
            allowed = allowances(problem, genes, np.zeros(len(genes)))
            return np.where(allowed, latency_ms, np.inf)
        kept = latency_ms.copy()
        if problem.is_apart:
            for c in problem.constraints:
                if c.metric == LATENCY:
                    t = problem.targets.index(c.target)
                    kept[kept[:, t] > c.limit, t] = np.inf
        return kept

    def _best_of(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """The mask, but for the worst rows where there are more than can be learned from."""
        if mask.sum() <= _MOST_LEARNED:
            return mask
        rank = constrained_rank(self.search._objectives, self.search._violations)
        kept = np.zeros(len(mask), np.bool_)
        rows = np.flatnonzero(mask)
        kept[rows[np.argsort(rank[rows], kind="stable")[:_MOST_LEARNED]]] = True
        return kept

    def choose(self, n: int) -> Genes:
        """Up to `n` rows, one after the other; fewer where no more are found."""
        pool = self._pool()
        free = np.ones(len(pool.genes), np.bool_)
        chosen: list[int] = []
        while len(chosen) < n and free.any():
            rows = np.flatnonzero(free)
            gain = self._gains(pool.part(rows))
            best = int(gain.argmax())
            if self._is_done(float(gain[best])):
                break
            pick = int(rows[best])
            chosen.append(pick)
            free[pick] = False
            row = pool.part(np.array([pick]))
            self._forecast(row)
            if len(chosen) < n:
                self._believe(row.described(), row.latency_ms)
        return pool.genes[chosen]

    def _pool(self) -> Pool:
        """Candidates that are not known."""
        listed = self.search._candidates()
        if listed is None:
            return self._breed()
        return listed.pool(listed.is_feasible & ~self.search._known.holds(listed.keys))

    def _breed(self) -> Pool:
        """Candidates by a short evolution towards larger gains."""
        search = self.search
        rank = constrained_rank(search._objectives, search._violations)
        best = search._genes[np.argsort(rank, kind="stable")[:_PARENTS]]
        rows = np.concatenate([
            search._cheap_front(), search._random(search.pool_size), self._children(best)
        ])  # fmt: skip
        rows = rows[np.sort(np.unique(row_keys(rows), return_index=True)[1])]
        met = self._new(rows)
        for _ in range(search.generations - 1):
            order = np.argsort(-self._gains(met), kind="stable")
            rows = self._children(met.genes[order[:_PARENTS]])
            met = met.joined(self._new(rows[~np.isin(row_keys(rows), row_keys(met.genes))]))
        return met

    def _new(self, rows: Genes) -> Pool:
        """Those of the rows that are not known and keep the limits, each once."""
        rows = rows[self.search._known.is_new(rows)]
        made = Candidates(self.problem, rows, costs_known=not self.search.learns_latency)
        return made.pool(made.is_feasible).alone()

    def _children(self, parents: Genes) -> Genes:
        """Mutants of crossings of the parents, `pool_size` of them."""
        search = self.search
        if len(parents) == 0:
            return search._no_rows()
        picks = search.rng.integers(len(parents), size=(2, search.pool_size))
        crossed = search.space.crossover(parents[picks[0]], parents[picks[1]], search.rng)
        half = search.pool_size // 2
        crossed[:half] = parents[picks[0][:half]]
        return search.space.mutate(crossed, search.rng, 1.5 / len(search.space.choices))

    def _gains(self, pool: Pool) -> Floats:
        """The expected gain of each candidate, an array of length `n`."""
        latency_ms = pool.latency_ms
        total = np.zeros(len(pool.genes))
        if len(total) == 0:
            return total
        mean, std = pool.predict(self.search._error)
        worst = float(self.scale.transform(np.array([np.nan]))[0])
        learned = [pool.predict(belief) for belief in self.search._latency]
        for t in range(len(self.typical)):
            if latency_ms is None:
                cost, cost_std = learned[t]
            else:
                cost, cost_std = log_latency(latency_ms[:, t], self.typical[t]), None
            everything = np.concatenate([cost, self.front[:, 1 + t]])
            everything = everything[np.isfinite(everything)]
            if len(everything) == 0:
                continue
            slowest = float(everything.max() + _BEYOND * np.ptp(everything)) + 1e-9
            self.references[t] = (worst + 1e-9, slowest)
            front = self.front[:, [0, 1 + t]]
            gain = staircase_gain(front, mean, std, cost, self.references[t], cost_std)
            if learned:
                gain = gain * self._chance(t, learned)
            total += self.weights[t] * gain
        return total

    def _chance(self, t: int, learned: Sequence[tuple[Floats, Floats]]) -> Floats:
        """The probability that the limits on latency that count for a target are kept."""
        chance = np.ones(len(learned[t][0]))
        for limit in self.problem.constraints:
            place = self.problem.targets.index(limit.target)
            if limit.metric == LATENCY and (self.problem.together or place == t):
                mean, std = learned[place]
                margin = np.log(max(limit.limit, _TINY)) - mean
                chance *= ndtr(margin / np.maximum(std, _LEAST_STD))
        return chance

    def _believe(self, features: Groups, latency_ms: Floats | None) -> None:
        """Takes rows for measured with their expected values."""
        search = self.search
        error = search._error.predict(features)[0]
        if latency_ms is None:
            cost = np.column_stack([belief.predict(features)[0] for belief in search._latency])
            self.latency_features = joined(self.latency_features, features)
            self.latencies = np.concatenate([self.latencies, cost])
            for t, belief in enumerate(search._latency):
                belief.believe(self.latency_features, self.latencies[:, t])
        else:
            cost = self._logarithms(latency_ms)
        self.features = joined(self.features, features)
        self.errors = np.concatenate([self.errors, error])
        search._error.believe(self.features, self.errors)
        self.front = np.concatenate([self.front, np.column_stack([error, cost])])

    def _forecast(self, row: Pool) -> None:
        """Notes what is expected of a chosen row."""
        error, std = self.scale.errors(*self.search._error.predict(row.described()))
        self.search._forecasts.note(row.genes, 1 - error, std)

    def _logarithms(self, latency_ms: Floats) -> Floats:
        columns = [log_latency(latency_ms[:, t], m) for t, m in enumerate(self.typical)]
        return np.column_stack(columns)

    def _is_done(self, gain: float) -> bool:
        """Whether the largest gain is too small to go on; says so in `finished`."""
        fronts = [self.front[:, [0, 1 + t]] for t in range(len(self.weights))]
        self.search.finished = why_finished(
            gain, self.search.least_gain, fronts, self.references, self.weights.tolist()
        )
        return bool(self.search.finished)


def _medians(latency_ms: Floats) -> Floats:
    """The median of each column's finite values; 0 where there are none."""
    finite = (column[np.isfinite(column)] for column in latency_ms.T)
    return np.array([np.median(column) if len(column) else 0.0 for column in finite])
