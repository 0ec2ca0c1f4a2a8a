"""Bayesian search: Gaussian processes, and the network with the largest expected gain.

After a few networks spread over the sizes, each further one is that whose evaluation is expected
to add most hypervolume to the front (`strategies.improvement`), under a Gaussian process of the
error. Gains are summed over the targets that allow a network, times the targets' weights. Latency
counts in logarithms, errors as `ErrorScale` sees them.

Where latency is known before a network is evaluated, the gain is exact in it, and only networks
that keep the limits are proposed. With `learns_latency` a latency is known of evaluated networks
alone: it is learned by a process of its own, and a gain is weighed by the probability that the
limits on it are kept.

What is pending is believed to get its expected values (Ginsbourger et al., Kriging is well-suited
to parallelize optimization, 2010), and so is each row of a batch before the next one is chosen. A
failed evaluation counts as a bad error, so that the next one is sought elsewhere.

In a space of up to `MOST_LISTED` architectures all of them are candidates. In a larger one
candidates are mutants and crossings of the best networks and of random ones, bred for a few
generations towards a larger gain.

References:
    Emmerich et al., Hypervolume-based expected improvement, CEC 2011; Daulton et al.,
    Differentiable expected hypervolume improvement, NeurIPS 2020, arXiv 2006.05078.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from predictors.gaussian_process import feature_groups
from predictors.gaussian_process_fit import Hyperparameters
from predictors.kernels import Groups
from records import BadInputError, json_text
from search_spaces import Genes
from strategies.bayesian_candidates import Candidates, cheap_front, describe
from strategies.bayesian_models import SETTINGS, Belief
from strategies.bayesian_round import Round
from strategies.feasibility import sample_feasible
from strategies.forecasts import Forecasts
from strategies.held_out import PredictorQuality
from strategies.known_rows import row_keys
from strategies.least_gain import checked_least_gain
from strategies.problem import Problem
from strategies.protocols import Floats
from strategies.strategy import Strategy, floats_from_json, floats_to_json

RECIPE = 3
"""Raised with each change by which other networks are proposed; see `Bayesian.settings`."""

MOST_LISTED = 50_000
"""A space with more architectures is not listed."""


class Bayesian(Strategy):
    """Proposes the networks with the largest expected gain in hypervolume.

    Args:
        problem: The space, costs and limits.
        seed: See `Strategy`.
        initial: See `Strategy`.
        candidates: Rows to choose from; all of the space, or what is bred, by default.
        learns_latency: Whether latencies are known of evaluated networks alone. `problem` is
            then never asked for them, they are told with the errors.
        design_size: How many networks are proposed before anything is learned, at least 2.
        pool_size: Candidates of each generation in a space that is not listed.
        generations: How many there are.
        least_gain: Where the largest expected gain is below this share of the hypervolume found,
            nothing more is proposed, and `finished` says so.

    Raises:
        BadInputError: A number out of range, genes that are none of the space.
    """

    judges_targets: ClassVar[bool] = True

    _attempts: ClassVar[int] = 1
    _random_attempts: ClassVar[int] = 0  # they would not keep the limits

    def __init__(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
        candidates: npt.ArrayLike | None = None,
        learns_latency: bool = False,
        design_size: int = 8,
        pool_size: int = 500,
        generations: int = 4,
        least_gain: float = 0.0,
    ) -> None:
        for name, value, least in (
            ("design_size", design_size, 2),
            ("pool_size", pool_size, 2),
            ("generations", generations, 1),
        ):
            if value < least:
                raise BadInputError(f"{name} must be at least {least}, got {value}")
        super().__init__(problem.space, seed=seed, initial=initial)
        self.problem = problem
        self.learns_latency = learns_latency
        self.design_size = design_size
        self.pool_size = pool_size
        self.generations = generations
        self.least_gain = checked_least_gain(least_gain)
        self._given = None if candidates is None else self.space.gene_space.check(candidates)
        self._list: Candidates | None = None
        self._seed = seed
        self._cheap: Genes | None = None
        self._genes = self._no_rows()
        self._columns = 1 + len(problem.targets)
        self._objectives: Floats = np.zeros((0, 1 + len(problem.targets)))
        self._violations: Floats = np.zeros(0)
        self._features: Groups = ()
        self._design: Genes | None = None
        self._forecasts = Forecasts(self.space)
        names = feature_groups(self.space).names
        network = [g for g, name in enumerate(names) if name != "genes"]
        self._error = Belief(network or range(len(names)))
        self._latency = [Belief(range(len(names))) for _ in problem.targets * learns_latency]

    @property
    def has_design(self) -> bool:
        """It begins with the largest network and others along the front of latency and size."""
        return True

    @property
    def quality(self) -> PredictorQuality:
        """How well accuracies were predicted before they were measured."""
        return self._forecasts.quality

    @property
    def settings(self) -> str:
        """What decides the proposals, but for the problem, the candidates and the seed.

        Results that are kept of one text may be compared with results of the same.
        """
        own = {
            "strategy": type(self).__name__,
            "recipe": RECIPE,
            "learns_latency": self.learns_latency,
            "design_size": self.design_size,
            "pool_size": self.pool_size,
            "generations": self.generations,
            "least_gain": self.least_gain,
        }
        return json_text({**own, **SETTINGS}).strip()

    # ---- proposing ---------------------------------------------------------------------------

    def _propose(self, n: int) -> Genes:
        if self.finished:
            return self._no_rows()
        designed = self._next_design(n)
        if len(designed) == n:
            return designed
        usable = ~np.isnan(self._objectives).any(axis=1)
        if not usable.any():
            rest = self._random(2 * n)
            rest = rest[~np.isin(row_keys(rest), row_keys(designed))][: n - len(designed)]
            return np.concatenate([designed, rest])
        pending = np.concatenate([self._pending, designed])
        return np.concatenate([designed, Round(self, pending).choose(n - len(designed))])

    def _next_design(self, n: int) -> Genes:
        """The next of the design's rows while it is not done; none afterwards."""
        done = len(self._genes) + len(self._pending)
        missing = min(n, self.design_size - done)
        if missing <= 0:
            return self._no_rows()
        if self._design is None:
            pool = self._candidates()
            if pool is None:
                rows = np.concatenate([self._cheap_front(), self._random(self.pool_size)])
                rows = rows[np.sort(np.unique(row_keys(rows), return_index=True)[1])]
                pool = Candidates(self.problem, rows, costs_known=not self.learns_latency)
            free = np.flatnonzero(pool.is_feasible & ~self._known.holds(pool.keys))
            places = pool.design(free, self.rng, self.design_size - done)
            self._design = self.rng.permutation(pool.genes[places])
        chosen, self._design = self._design[:missing], self._design[missing:]
        return chosen

    def _candidates(self) -> Candidates | None:
        """The list of all candidates; None where they are bred."""
        if self._list is None:
            if self._given is not None:
                first = np.sort(np.unique(row_keys(self._given), return_index=True)[1])
                rows = self._given[first]
            elif self.space.cardinality <= MOST_LISTED:
                rows = self.space.enumerate(MOST_LISTED)
            else:
                return None
            self._list = Candidates(self.problem, rows, costs_known=not self.learns_latency)
        return self._list

    def _cheap_front(self) -> Genes:
        """Rows of a space that is not listed that do most work in their time (made once)."""
        if self._cheap is None:
            known = not self.learns_latency
            self._cheap = cheap_front(self.problem, self._seed, costs_known=known)
        return self._cheap

    def _random(self, n: int) -> Genes:
        """Random rows that are not known; they keep the limits where costs are known."""
        listed = self._candidates()
        if listed is not None:
            free = np.flatnonzero(listed.is_feasible & ~self._known.holds(listed.keys))
            return self._rows(listed.genes[self.rng.permutation(free)[:n]])
        wanted = n + min(len(self._known), 256)
        if self.learns_latency:
            rows = self.space.sample(wanted, self.rng, "architectures")
        else:
            starts = self._genes[self._violations <= 0]
            rows = sample_feasible(self.problem, wanted, self.rng, starts)
        rows = rows[np.sort(np.unique(row_keys(rows), return_index=True)[1])]
        return rows[self._known.is_new(rows)][:n]

    # ---- learning ----------------------------------------------------------------------------

    def _learn(self, genes: Genes, objectives: Floats, violations: Floats) -> None:
        self.finished = ""
        self._forecasts.settle(genes, 1 - objectives[:, 0])
        kept = ~np.isin(row_keys(self._genes), row_keys(genes))
        if not kept.all():
            self._genes = self._genes[kept]
            self._objectives = self._objectives[kept]
            self._violations = self._violations[kept]
            self._features = ()
        self._genes = np.concatenate([self._genes, genes])
        self._objectives = np.concatenate([self._objectives, objectives])
        self._violations = np.concatenate([self._violations, violations])

    def _described(self, genes: Genes) -> Groups:
        """The features of rows, looked up where they are known."""
        if self._list is not None:
            places = self._list.places(genes)
            if (places >= 0).all():
                return tuple(group[places] for group in self._list.features)
        return describe(self.space, genes)

    def _told_features(self) -> Groups:
        """The features of all rows told; those of earlier calls are kept."""
        have = len(self._features[0]) if self._features else 0
        new = self._described(self._genes[have:])
        if have:
            new = tuple(np.concatenate(p) for p in zip(self._features, new, strict=True))
        self._features = new
        return new

    def _learned(self) -> dict[str, Any]:
        beliefs = [self._error, *self._latency]
        return {
            "genes": self._genes.tolist(),
            "objectives": floats_to_json(self._objectives),
            "violations": floats_to_json(self._violations),
            "design": None if self._design is None else self._design.tolist(),
            "forecasts": self._forecasts.to_json(),
            "finished": self.finished,
            "seed": self._seed,
            "hyperparameters": [
                None if belief.known is None else belief.known.logarithms().tolist()
                for belief in beliefs
            ],
            "learned_from": [belief.learned_from for belief in beliefs],
        }

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        self._genes = self._rows(learned["genes"])
        shape = (len(self._genes), 1 + len(self.problem.targets))
        self._objectives = floats_from_json(learned["objectives"]).reshape(shape)
        self._violations = floats_from_json(learned["violations"], missing=np.inf)
        self._features = ()
        design = learned["design"]
        self._design = None if design is None else self._rows(design)
        self._forecasts = Forecasts.from_json(self.space, learned["forecasts"])
        self.finished = learned["finished"]
        self._seed, self._cheap = int(learned["seed"]), None
        found, rows = learned["hyperparameters"], learned.get("learned_from")
        beliefs = [self._error, *self._latency]
        for belief, values, n in zip(beliefs, found, rows or [0] * len(beliefs), strict=True):
            belief.known = None if values is None else Hyperparameters.of(np.array(values))
            belief.learned_from = n
