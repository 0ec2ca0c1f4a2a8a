"""Any sampler of Optuna as a strategy.

Each proposal is a trial of a study in memory. Its parameters are the choices that are active,
suggested one after the other as Optuna's define-by-run spaces are, so that conditional choices
stay conditional: a choice of numbers is an integer parameter (the index of its value), one of
names a categorical one. The limits are Optuna's constraints; samplers that know none are told a
row that was not measured, because it misses them, with the worst error, 1.

References:
    Akiba et al., Optuna: a next-generation hyperparameter optimization framework, KDD 2019.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState, create_trial

from records import BadInputError
from search_spaces import Genes
from strategies.known_rows import row_keys
from strategies.problem import Problem
from strategies.protocols import Floats
from strategies.replayed import Replayed

MakeSampler: TypeAlias = BaseSampler | type[BaseSampler] | Callable[[int], BaseSampler]

_WORST_ERROR = 1.0
_MOST_VIOLATION = 1e12
_TRIALS_A_ROW = 8
_MORE_TRIALS = 8


class OptunaStrategy(Replayed):
    """Proposes what a sampler of Optuna suggests.

    A sampler may suggest what is known already; then it is told again what is known of it, and
    asked again, a bounded number of times.

    Args:
        problem: The space, costs and limits; the study has its objectives.
        sampler: A class of Optuna's samplers, made with `seed`; or a function that makes one from
            a seed; or a sampler, which is copied, and then it alone decides what is random.
        seed: See `Strategy`.
        initial: See `Strategy`.

    Raises:
        BadInputError: Something that makes no sampler.

    >>> from optuna.samplers import TPESampler
    >>> def make(problem):
    ...     return OptunaStrategy(problem, lambda seed: TPESampler(multivariate=True, seed=seed))
    """

    _attempts: ClassVar[int] = 1

    def __init__(
        self,
        problem: Problem,
        sampler: MakeSampler,
        *,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        super().__init__(problem.space, seed=seed, initial=initial)
        self.problem = problem
        self._columns = 1 + len(problem.targets)
        self._sampler = sampler
        self._begin()

    def _begin(self) -> None:
        self._trials: dict[int, Trial] = {}
        self._values: dict[int, tuple[list[float], float]] = {}
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self._study = optuna.create_study(
                directions=["minimize"] * (1 + len(self.problem.targets)),
                sampler=_made(self._sampler, int(self.rng.integers(2**31))),
            )
        finally:
            optuna.logging.set_verbosity(before)

    def _propose(self, n: int) -> Genes:
        rows: list[Genes] = []
        for _ in range(_TRIALS_A_ROW * n + _MORE_TRIALS):
            if len(rows) == n:
                break
            trial = self._study.ask()
            row = self._suggested(trial)
            key = int(row_keys(row[None])[0])
            if key in self._trials or not self._known.is_new(row[None])[0]:
                self._close(trial, key)
                continue
            self._trials[key] = trial
            rows.append(row)
        return self._rows(rows)

    def _suggested(self, trial: Trial) -> Genes:
        """A row of genes, choice by choice; what is inactive is not suggested."""
        row = np.zeros(len(self.space.choices), np.int16)
        for j, choice in enumerate(self.space.choices):
            if not self.space.active(row[None])[0, j]:
                continue
            if choice.is_categorical:
                value = trial.suggest_categorical(choice.name, choice.values)
                row[j] = choice.values.index(value)
            else:
                row[j] = trial.suggest_int(choice.name, 0, len(choice.values) - 1)
        return row

    def _close(self, trial: Trial, key: int) -> None:
        """Ends a trial with what is known of its row; a row that is pending as a failure."""
        values, violation = self._values.get(key, ([], 0.0))
        if not values:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        if self.problem.constraints:
            trial.set_constraint("limits", violation)
        self._study.tell(trial, values)

    def _learn(self, genes: Genes, objectives: Floats, violations: Floats) -> None:
        for row, key, values, violation in zip(
            genes, row_keys(genes).tolist(), objectives.tolist(), violations.tolist(), strict=True
        ):
            self._values[key] = _told(values, violation)
            trial = self._trials.pop(key, None)
            if trial is not None:
                self._close(trial, key)
            else:
                self._add(row, *self._values[key])

    def _add(self, row: Genes, values: list[float], violation: float) -> None:
        """A trial of a row that the sampler did not suggest."""
        params: dict[str, int | float | str] = {}
        distributions: dict[str, BaseDistribution] = {}
        for choice, gene, on in zip(
            self.space.choices, row.tolist(), self.space.active(row[None])[0], strict=True
        ):
            if not on:
                continue
            if choice.is_categorical:
                params[choice.name] = choice.values[gene]
                distributions[choice.name] = CategoricalDistribution(choice.values)
            else:
                params[choice.name] = gene
                distributions[choice.name] = IntDistribution(0, len(choice.values) - 1)
        limits = {"limits": violation} if self.problem.constraints and values else None
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if values else TrialState.FAIL,
                values=values or None,
                params=params,
                distributions=distributions,
                constraints=limits,
            )
        )


def _told(values: list[float], violation: float) -> tuple[list[float], float]:
    """What a study is told of a row: its values, none where an evaluation failed, and its miss."""
    missed = min(violation, _MOST_VIOLATION)
    if violation > 0 and np.isnan(values[0]):
        values = [_WORST_ERROR, *values[1:]]
    return ([] if np.isnan(values).any() else values), missed


def _made(sampler: MakeSampler, seed: int) -> BaseSampler:
    if isinstance(sampler, BaseSampler):
        return copy.deepcopy(sampler)
    make: Any = sampler
    made: Any = sampler
    if isinstance(sampler, type) and issubclass(sampler, BaseSampler):
        takes_seed = "seed" in inspect.signature(sampler).parameters
        made = make(seed=seed) if takes_seed else make()
    elif callable(make):
        made = make(seed)
    if not isinstance(made, BaseSampler):
        raise BadInputError(
            f"sampler is a sampler of Optuna, its class, or a function of a seed; got {made!r}"
        )
    return made
