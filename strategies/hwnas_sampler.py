"""Any of our strategies as a sampler of Optuna.

The space is what the user's trials suggest: after the first trial, the parameters of all trials so
far, each with its latest distribution (see `ParameterSpace`). Parameters that a trial did not
suggest count as inactive, the first value in its genes.

A strategy is made anew, and told of all trials, when the parameters change. A strategy does not
propose twice; where it has nothing new left to propose, values are drawn at random.

A strategy that is made with a problem gets one whose objectives are unknown before a trial has
ended (`strategies.study_problem`). `Bayesian` learns them all. What asks for costs beforehand, as
`PredictorGuided` does, can be used with a single objective.

References:
    https://optuna.readthedocs.io (BaseSampler: relative and independent sampling).
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from records import BadInputError, generator
from search_spaces import Genes
from strategies.parameter_space import ParameterSpace, count_of_parts, value_in_part
from strategies.protocols import Floats
from strategies.strategy import Strategy
from strategies.study_problem import study_problem, told_values

MakeStrategy: TypeAlias = Callable[..., Strategy]
Told: TypeAlias = tuple[Genes, Floats, float]
"""A row, its objectives and by how much it misses constraints."""

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class HwnasSampler(BaseSampler):
    """Suggests what a strategy proposes, for one objective or several.

    Args:
        strategy: Makes a strategy from a space and a `seed`, e.g. the class `NSGA2`, or
            `functools.partial(NSGA2, population_size=20)`; or from a problem, where its first
            parameter is called `problem`, e.g. `Bayesian`.
        seed: The same seed and the same trials, one after the other, give the same suggestions.
        parts: Into how many parts a long range is divided, at least 2.
        constraints_func: Gives for a trial that succeeded numbers of which none may exceed 0. They
            are recorded as its constraints; those set by `trial.set_constraint` count as well.

    Raises:
        BadInputError: Fewer than 2 parts.
    """

    def __init__(
        self,
        strategy: MakeStrategy,
        *,
        seed: int = 0,
        parts: int = 64,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        if parts < 2:
            raise BadInputError(f"parts must be at least 2, got {parts}")
        self._make = strategy
        self._parameters = tuple(inspect.signature(strategy).parameters)
        self._seed = seed
        self._parts = parts
        self._constraints = constraints_func
        self._rng = generator(seed, "strategies", "HwnasSampler")
        self._lock = threading.RLock()
        self._of: tuple[str, str] | None = None  # the study and the space that these belong to
        self._strategy: Strategy | None = None
        self._asked: dict[int, tuple[Genes, dict[str, Any]]] = {}
        self._told: set[int] = set()
        self._trials: list[Told] = []

    def reseed_rng(self) -> None:
        """Draws a new seed, so that copies in several processes differ."""
        with self._lock:
            self._rng = np.random.default_rng()
            self._seed = int(self._rng.integers(2**31))
            self._of = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All parameters of finished trials with their latest distributions, but for constants."""
        found: dict[str, BaseDistribution] = {}
        for finished in study.get_trials(deepcopy=False, states=_FINISHED[:2]):
            found.update(finished.distributions)
        return {name: found[name] for name in sorted(found) if not found[name].single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of the strategy's next proposal."""
        ranges = {name: d for name, d in search_space.items() if not d.single()}
        if not ranges:
            return {}
        with self._lock:
            strategy, space = self._prepared(study, ranges)
            rows = strategy.ask(1)
            if len(rows) == 0:
                rows = space.sample(1, self._rng)
            values = space.values(rows[0], self._rng)
            self._asked[trial.number] = rows, values
            return values

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value, for parameters that no earlier trial had."""
        with self._lock:
            count = count_of_parts(param_distribution, self._parts)
            part = int(self._rng.integers(count))
            return value_in_part(param_distribution, part, self._parts, self._rng)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Records the constraints of a trial that succeeded."""
        if self._constraints is not None and state in _FINISHED[:2]:
            found = [float(value) for value in self._constraints(trial)]
            if np.isnan(found).any():
                raise ValueError("a constraint is NaN; give a number, at most 0 where it is kept")
            study._storage.set_trial_system_attr(trial._trial_id, "constraints", found)

    def _prepared(
        self, study: Study, ranges: dict[str, BaseDistribution]
    ) -> tuple[Strategy, ParameterSpace]:
        """The strategy of these parameters, told of every finished trial."""
        parameters = tuple((name, distribution_to_json(ranges[name])) for name in sorted(ranges))
        space = ParameterSpace(parameters=parameters, parts=self._parts)
        if self._strategy is None or self._of != (study.study_name, space.hash):
            self._strategy = self._made(space, len(study.directions))
            self._of = (study.study_name, space.hash)
            self._told, self._asked = set(), {}
            self._trials = []
        trials = study.get_trials(deepcopy=False, states=_FINISHED)
        self._tell(study, [t for t in trials if t.number not in self._told], space)
        return self._strategy, space

    @property
    def _takes_problem(self) -> bool:
        """Whether the strategy is made with a problem."""
        return self._parameters[:1] == ("problem",)

    def _made(self, space: ParameterSpace, objectives: int) -> Strategy:
        """The strategy, for these parameters and so many objectives."""
        if not self._takes_problem:
            return self._make(space, seed=self._seed)
        options = {"learns_latency": True} if objectives > 1 else {}
        if options and "learns_latency" not in self._parameters:
            raise BadInputError(
                "this strategy asks for costs before anything is measured, and a study knows none "
                "of its objectives: use Bayesian, which learns them, or a single objective"
            )
        return self._make(study_problem(space, objectives), seed=self._seed, **options)

    def _tell(self, study: Study, trials: Sequence[FrozenTrial], space: ParameterSpace) -> None:
        """Tells the strategy of trials, those that have values in its ranges."""
        signs = np.array([-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in study.directions])
        new: list[Told] = []
        for trial in trials:
            self._told.add(trial.number)
            asked, meant = self._asked.pop(trial.number, (None, {}))
            row = space.row(trial.params)
            if row is None:
                continue
            values = np.full(len(signs), np.nan)
            if trial.values is not None and len(trial.values) == len(signs):
                values = signs * np.array(trial.values, np.float64)
            missed = sum(max(0.0, value) for value in trial.constraints.values())
            genes = [np.array([row], np.int16)]
            kept = all(meant.get(name, value) == value for name, value in trial.params.items())
            if asked is not None and kept and (asked != genes[0]).any():
                genes.append(asked)  # what differs was not suggested, or is the same value
            for told in genes:
                new.append((told, values, missed))
        self._report(new)

    def _report(self, new: list[Told]) -> None:
        """Tells the strategy of rows; of all again where their scale may have moved."""
        assert self._strategy is not None
        self._trials += new if self._takes_problem else []
        told = self._trials if self._takes_problem else new
        if not new:
            return
        rows, objectives, violations = zip(*told, strict=True)
        values = np.array(objectives)
        if self._takes_problem:
            values = told_values(values)
        self._strategy.tell(np.concatenate(rows), values, np.array(violations))
