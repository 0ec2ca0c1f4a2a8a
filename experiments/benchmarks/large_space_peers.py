"""Peers of the search in large spaces: each evaluates genes until it is stopped.

Each runs in its own way, one network at a time (a generation at a time for NSGA-II). What differs
is what it makes of choices that other choices switch off. Optuna's TPE and NSGA-II are asked
choice by choice, as its define-by-run interface has it, and never for an inactive one; so is its
Gaussian process, `flat` however: it models only what every trial has, and inactive choices are
variables without effect to it, as they are to pymoo. Ordered choices are integers, names are
categories (integers for pymoo).

BoTorch has no search over such a space. Candidates are bred as mutants of the best, each round
from those of the largest gain, and gains come from a Matern process on all choices (ordered ones
on a line, inactive ones one step below its lower end). Latency is a deterministic model there and
exact; only candidates that keep the limit are looked at.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from records import generator
from search_spaces import Genes, SearchSpace
from strategies import Problem, is_non_dominated
from strategies.feasibility import sample_feasible
from strategies.known_rows import row_keys
from strategies.protocols import Floats

Evaluate: TypeAlias = Callable[[npt.ArrayLike], tuple[float, float, float]]
"""Takes a row of genes and gives (error, latency, by how much it misses the limit); raises where
the budget is spent."""

Peer: TypeAlias = Callable[[Problem, Evaluate, int], None]

POPULATION = 20
_MANY = 100_000
_START = 10
_POOL = 256
_ROUNDS = 3
_PARENTS = 32


def pymoo_nsga2(problem: Problem, evaluate: Evaluate, seed: int) -> None:
    """pymoo's NSGA-II with its operators for integers."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.optimize import minimize

    from strategies.pymoo_strategy import integer_operators

    sizes = problem.space.gene_space.sizes.astype(int)
    limits = int(bool(problem.constraints))

    class Networks(ElementwiseProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(
                n_var=len(sizes), n_obj=2, n_ieq_constr=limits, xl=0, xu=sizes - 1, vtype=int
            )

        def _evaluate(self, x: Any, out: Any, *_: Any, **__: Any) -> None:
            error, latency, missed = evaluate(x)
            out["F"] = [error, latency]
            if limits:
                out["G"] = [missed]

    algorithm = NSGA2(pop_size=POPULATION, eliminate_duplicates=True, **integer_operators())
    minimize(Networks(), algorithm, ("n_gen", _MANY), seed=seed)


def _optuna(
    problem: Problem,
    evaluate: Evaluate,
    make: Callable[[], Any],
    *,
    flat: bool = False,
    first: Genes | None = None,
) -> None:
    """Runs a sampler; `flat` asks it for inactive choices too, after the rows `first`."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = problem.space

    def objective(trial: Any) -> tuple[float, float]:
        row = np.zeros((1, len(space.choices)), np.int16)
        for j, choice in enumerate(space.choices):
            if flat or space.active(row)[0, j]:
                row[0, j] = _suggested(trial, choice)
        error, latency, missed = evaluate(row[0])
        if problem.constraints:
            trial.set_constraint("limits", missed)
        return error, latency

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=make())
        for row in () if first is None else first.tolist():
            study.enqueue_trial(
                {
                    choice.name: choice.values[gene] if choice.is_categorical else gene
                    for choice, gene in zip(space.choices, row, strict=True)
                }
            )
        study.optimize(objective, n_trials=_MANY)


def _suggested(trial: Any, choice: Any) -> int:
    if choice.is_categorical:
        return int(choice.values.index(trial.suggest_categorical(choice.name, choice.values)))
    return int(trial.suggest_int(choice.name, 0, len(choice.values) - 1))


def optuna_nsga2(problem: Problem, evaluate: Evaluate, seed: int) -> None:
    """Optuna's NSGA-II."""
    import optuna

    _optuna(
        problem,
        evaluate,
        lambda: optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed),
    )


def optuna_tpe(problem: Problem, evaluate: Evaluate, seed: int) -> None:
    """Optuna's tree-structured Parzen estimator, multivariate, in groups."""
    import optuna

    _optuna(
        problem,
        evaluate,
        lambda: optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed),
    )


def optuna_gp(problem: Problem, evaluate: Evaluate, seed: int) -> None:
    """Optuna's Gaussian process with its expected hypervolume improvement.

    It begins with random networks that keep the limit: a process is misled by the errors told of
    the others.
    """
    import optuna

    first = sample_feasible(
        problem, _START, generator(seed, "gp peer"), problem.space.extremes("smallest")
    )

    def make() -> Any:
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=_START)

    _optuna(problem, evaluate, make, flat=True, first=first)


def botorch_qlognehvi(problem: Problem, evaluate: Evaluate, seed: int) -> None:
    """BoTorch's qLogNEHVI: a process for the error, a deterministic model for the latency."""
    import torch

    torch.manual_seed(seed)
    rng = generator(seed, "botorch peer")
    rows = sample_feasible(problem, _START, rng, problem.space.extremes("smallest"))
    found = np.array([evaluate(row)[:2] for row in rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while len(rows) < _MANY:
            gain = _botorch_gain(problem, rows, found, seed)
            pool = _bred(problem, rows, found, gain, rng)
            if len(pool) == 0:
                break
            best = pool[int(np.argmax(gain(pool)))]
            rows = np.concatenate([rows, best[None]])
            found = np.concatenate([found, [evaluate(best)[:2]]])


def _botorch_gain(
    problem: Problem, rows: Genes, found: Floats, seed: int
) -> Callable[[Genes], Floats]:
    """The logarithm of each row's expected gain, under what was measured."""
    import torch
    from botorch.acquisition.multi_objective.logei import (
        qLogNoisyExpectedHypervolumeImprovement,
    )
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.deterministic import GenericDeterministicModel
    from botorch.models.model import ModelList
    from botorch.sampling import ListSampler, SobolQMCNormalSampler
    from botorch.sampling.index_sampler import IndexSampler
    from botorch.utils.multi_objective.hypervolume import infer_reference_point
    from botorch.utils.multi_objective.pareto import is_non_dominated as is_best
    from gpytorch.mlls import ExactMarginalLogLikelihood

    centre, spread = found.mean(axis=0), found.std(axis=0) + 1e-9
    y = -torch.tensor((found - centre) / spread)
    x = torch.tensor(_encoded(problem.space, rows))

    def minus_latency(points: Any) -> Any:
        shape = points.shape[:-1]
        genes = _decoded(problem.space, points.detach().reshape(-1, points.shape[-1]).numpy())
        latency = problem.cheap_objectives(genes)[:, 0]
        return -torch.tensor((latency - centre[1]) / spread[1]).reshape(*shape, 1)

    process = SingleTaskGP(x, y[:, :1])
    fit_gpytorch_mll(ExactMarginalLogLikelihood(process.likelihood, process))
    size = torch.Size([64])
    gain = qLogNoisyExpectedHypervolumeImprovement(
        model=ModelList(process, GenericDeterministicModel(minus_latency, num_outputs=1)),
        ref_point=infer_reference_point(y[is_best(y)]).tolist(),
        X_baseline=x,
        prune_baseline=True,
        cache_root=False,
        sampler=ListSampler(SobolQMCNormalSampler(size, seed=seed), IndexSampler(size, seed=seed)),
    )

    def gains(genes: Genes) -> Floats:
        points = torch.tensor(_encoded(problem.space, genes)).unsqueeze(1)
        with torch.no_grad():
            return np.concatenate([gain(part).numpy() for part in torch.split(points, 256)])

    return gains


def _bred(
    problem: Problem,
    rows: Genes,
    found: Floats,
    gain: Callable[[Genes], Floats],
    rng: np.random.Generator,
) -> Genes:
    """New candidates that keep the limit: random ones and mutants, towards larger gains."""
    space = problem.space
    parents, probability = rows[is_non_dominated(found)], 1.5 / len(space.choices)
    pool = sample_feasible(problem, _POOL, rng, rows)
    for _ in range(_ROUNDS):
        children = space.mutate(parents[rng.integers(len(parents), size=_POOL)], rng, probability)
        pool = np.concatenate([pool, children[problem.violations(children) <= 0]])
        pool = pool[np.sort(np.unique(row_keys(pool), return_index=True)[1])]
        pool = pool[~np.isin(row_keys(pool), row_keys(rows))]
        if len(pool) == 0:
            break
        pool = pool[np.argsort(-gain(pool), kind="stable")]
        parents = pool[:_PARENTS]
    return pool


def _encoded(space: SearchSpace, genes: Genes) -> Floats:
    """Each gene between 0 and 1, an inactive one a step below 0."""
    steps = space.gene_space.sizes - 1.0
    return np.where(space.active(genes), genes / steps, -1 / steps)


def _decoded(space: SearchSpace, points: Floats) -> Genes:
    """The genes that `_encoded` made numbers of."""
    genes = np.rint(np.maximum(points, 0) * (space.gene_space.sizes - 1.0))
    return space.canonical(genes.astype(np.int16))


def is_installed(method: str) -> bool:
    """Whether the library of a peer is there."""
    return importlib.util.find_spec(LIBRARIES[method]) is not None


PEERS: Mapping[str, Peer] = {
    "pymoo NSGA-II": pymoo_nsga2,
    "Optuna NSGA-II": optuna_nsga2,
    "Optuna TPE": optuna_tpe,
    "Optuna GP": optuna_gp,
    "BoTorch qLogNEHVI": botorch_qlognehvi,
}

LIBRARIES: Mapping[str, str] = {name: name.split()[0].lower() for name in PEERS}

SLOW = ("Optuna GP", "BoTorch qLogNEHVI")
"""Those that take seconds for a suggestion."""

KNOWS_LATENCY = ("BoTorch qLogNEHVI",)
"""Those that are told latencies before a network is evaluated."""
