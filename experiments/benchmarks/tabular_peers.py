"""Peers of the search on tables: each evaluates genes of a space until it is stopped.

Choices are given as categories, which is what they are in NAS-Bench-201.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from experiments.search_tables import SearchTable
from records import generator

Evaluate: TypeAlias = Callable[[npt.ArrayLike], tuple[float, float]]
"""Takes a row of genes and gives (error, latency); raises where the budget is spent."""

Peer: TypeAlias = Callable[[SearchTable, Evaluate, int], None]

POPULATION = 20
_MANY = 100_000
_START = 10


def random_search(table: SearchTable, evaluate: Evaluate, seed: int) -> None:
    """Rows in a random order."""
    for row in generator(seed, "random peer").permutation(len(table)):
        evaluate(table.genes[row])


def pymoo_nsga2(table: SearchTable, evaluate: Evaluate, seed: int) -> None:
    """pymoo's NSGA-II on integers, with its operators for these."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    sizes = table.space.gene_space.sizes

    class Cells(ElementwiseProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(sizes), n_obj=2, xl=0, xu=sizes - 1, vtype=int)

        def _evaluate(self, x: Any, out: Any, *_: Any, **__: Any) -> None:
            out["F"] = evaluate(x)

    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(Cells(), algorithm, ("n_gen", _MANY), seed=seed)


def _optuna(table: SearchTable, evaluate: Evaluate, sampler: Any) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    choices = table.space.choices

    def objective(trial: Any) -> tuple[float, float]:
        return evaluate([trial.suggest_categorical(c.name, range(len(c.values))) for c in choices])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        study.optimize(objective, n_trials=_MANY)


def optuna_nsga2(table: SearchTable, evaluate: Evaluate, seed: int) -> None:
    """Optuna's NSGA-II."""
    import optuna

    _optuna(table, evaluate, optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed))


def optuna_tpe(table: SearchTable, evaluate: Evaluate, seed: int) -> None:
    """Optuna's tree-structured Parzen estimator."""
    import optuna

    _optuna(table, evaluate, optuna.samplers.TPESampler(seed=seed))


def optuna_gp(table: SearchTable, evaluate: Evaluate, seed: int) -> None:
    """Optuna's Gaussian process with its expected hypervolume improvement."""
    import optuna

    _optuna(table, evaluate, optuna.samplers.GPSampler(seed=seed, n_startup_trials=_START))


def botorch_qlognehvi(table: SearchTable, evaluate: Evaluate, seed: int) -> None:
    """BoTorch's qLogNEHVI over all cells, one-hot, standardised objectives."""
    import torch
    from botorch.acquisition.multi_objective.logei import (
        qLogNoisyExpectedHypervolumeImprovement,
    )
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.sampling import SobolQMCNormalSampler
    from botorch.utils.multi_objective.hypervolume import infer_reference_point
    from botorch.utils.multi_objective.pareto import is_non_dominated
    from gpytorch.mlls import SumMarginalLogLikelihood

    torch.manual_seed(seed)
    sizes = table.space.gene_space.sizes
    one_hot = [np.eye(size)[column] for column, size in zip(table.genes.T, sizes, strict=True)]
    x = torch.tensor(np.concatenate(one_hot, axis=1))
    rows = generator(seed, "botorch peer").permutation(len(table))[:_START].tolist()
    found = [evaluate(table.genes[row]) for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while len(rows) < len(table):
            y = -torch.tensor(found, dtype=torch.float64)
            y = (y - y.mean(0)) / y.std(0)
            models = [SingleTaskGP(x[rows], y[:, k : k + 1]) for k in range(2)]
            model = ModelListGP(*models)
            fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
            gain = qLogNoisyExpectedHypervolumeImprovement(
                model=model,
                ref_point=infer_reference_point(y[is_non_dominated(y)]).tolist(),
                X_baseline=x[rows],
                prune_baseline=True,
                sampler=SobolQMCNormalSampler(torch.Size([64]), seed=seed),
            )
            with torch.no_grad():
                parts = [gain(part.unsqueeze(1)) for part in torch.split(x, 1024)]
            values = torch.cat(parts)
            values[rows] = -torch.inf
            rows.append(int(values.argmax()))
            found.append(evaluate(table.genes[rows[-1]]))


PEERS: Mapping[str, Peer] = {
    "random": random_search,
    "pymoo NSGA-II": pymoo_nsga2,
    "Optuna NSGA-II": optuna_nsga2,
    "Optuna TPE": optuna_tpe,
    "Optuna GP": optuna_gp,
    "BoTorch qLogNEHVI": botorch_qlognehvi,
}
