"""Does the supernet rank its subnets as they rank when trained alone, and how close does it come?

For each family of spaces, on Fashion-MNIST: a supernet is trained; for two sets of subnets the
accuracy on inherited weights is compared with that of the same subnets trained alone for the same
number of images with the same recipe, loop and recalibration. Set A is drawn by seed across the
size range, its ends included; set B within 1.3x of equal MACs. Beside Kendall's tau stand that of
"MACs" and that between two seeds of training alone, which is as much as any predictor can reach.
All accuracies are those of the search-validation split; the test split is not read.

The ablation trains one family with one method changed at a time, over several seeds, `--workers`
trainings side by side on a thread each. With `--ablation-only` nothing is trained for the ranking;
its tau is then told where the networks of set A were trained alone before, with the budget
`--truth-images`, `--truth-epochs`, in `--truth-folder`.

Trainings are resumable and kept under `--folder`; with the defaults a family takes about an hour
and a half on two cores. `--families`, `--ablation` and `--images`, `--epochs` choose what is done.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from experiments.benchmarks.harness import benchmark_main, show
from experiments.benchmarks.quality_jobs import Budget, Job, run_jobs, space_of
from records.seeds import generator
from search_spaces import Genes, SearchSpace
from supernet import Recipe
from supernet.augment import Augmentation
from supernet.training import (
    AlphaDivergence,
    AttentiveSampling,
    ComplexityAware,
    ExponentialWithFloor,
    LabelsOnly,
    ProgressiveShrinking,
    ProjectConflicts,
    Sandwich,
    SinglePath,
    SoftTargets,
)

FAMILIES = ("cnn", "vit", "hybrid")
ALONE_SEEDS = (100, 101)
SAME_SIZE = 1.3

MIRRORED = Augmentation(shift=0, degrees=0, scale=0)
"""Images are mirrored only: in three passes, moving and turning them costs 4 (CNN) to 10 (ViT)
points of accuracy."""

RECIPE = Recipe(
    members=Sandwich(random_subnets=4, largest_alone_share=0),
    distillation=LabelsOnly(),
    updates="member",
    augment=MIRRORED,
)
"""How the ablation's supernets are trained; networks alone follow what concerns one network."""

RANDOM_SUBNETS = {"cnn": 4, "vit": 32, "hybrid": 16}
"""Random networks a step, as many as the time allows. Shared weights of transformers need more
updates in three passes than those of convolutions."""

RECIPES = {
    family: replace(RECIPE, members=Sandwich(random_subnets=n, largest_alone_share=0))
    for family, n in RANDOM_SUBNETS.items()
}
"""How the supernets are trained whose ranking is compared."""

METHODS: dict[str, Callable[[Recipe], Recipe]] = {
    "sandwich, labels, an update a member": lambda r: r,
    "one update a step": lambda r: replace(r, updates="step"),
    "in-place distillation": lambda r: replace(r, distillation=SoftTargets()),
    "alpha-divergence": lambda r: replace(r, distillation=AlphaDivergence()),
    "distillation, one update a step": lambda r: replace(
        r, distillation=SoftTargets(), updates="step"
    ),
    "largest alone for 30 % at first": lambda r: replace(
        r, members=Sandwich(random_subnets=4, largest_alone_share=0.3)
    ),
    "one random network a step": lambda r: replace(
        r, members=Sandwich(random_subnets=1, largest_alone_share=0)
    ),
    "single path": lambda r: replace(r, members=SinglePath()),
    "progressive shrinking": lambda r: replace(r, members=ProgressiveShrinking(subnets=6)),
    "attentive sampling, best": lambda r: replace(r, members=AttentiveSampling(prefer="best")),
    "attentive sampling, worst": lambda r: replace(r, members=AttentiveSampling(prefer="worst")),
    "complexity-aware, many minima": lambda r: replace(r, members=ComplexityAware()),
    "gradient projection, one update a step": lambda r: replace(
        r, gradients=ProjectConflicts(), updates="step"
    ),
    "decay with a floor": lambda r: replace(r, schedule=ExponentialWithFloor()),
    "zero residual branches": lambda r: r,
    "moving average": lambda r: replace(r, ema=0.998),
    "moved, turned and scaled": lambda r: replace(r, augment=Augmentation()),
    "mixup": lambda r: replace(r, augment=replace(MIRRORED, mixup=0.2)),
    "drop path, largest only": lambda r: replace(r, drop_path=0.1),
    "without label smoothing": lambda r: replace(r, label_smoothing=0.0),
}
"""What is changed in the recipe, by the method's name; the first changes nothing."""


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains what is missing, measures, and prints the tables."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    budget = Budget(images=arguments.images, epochs=arguments.epochs)
    figures: dict[str, Any] = {"budget": {"images": budget.images, "epochs": budget.epochs}}
    families = [f for f in FAMILIES if f in arguments.families]
    if not arguments.ablation_only:
        ranks = {family: ranking(family, budget, arguments) for family in families}
        figures["ranking"] = ranks
        _show_ranking(ranks)
        _show_gaps(ranks)
    if arguments.ablation:
        figures["ablation"] = ablation(arguments.ablation, budget, arguments)
        _show_ablation(arguments.ablation, figures["ablation"])
    return figures


def ranking(family: str, budget: Budget, arguments: argparse.Namespace) -> dict[str, Any]:
    """Inherited against stand-alone accuracy for one family."""
    data = budget.data()
    space = space_of(family, data)
    sets = {"A": across_sizes(space, arguments.subnets), "B": same_size(space, arguments.subnets)}
    rows = np.concatenate(list(sets.values()))
    base = _job(family, budget, arguments, rows, seed=arguments.seed)
    (trained,) = run_jobs([base], workers=1)
    found: dict[str, Any] = {"supernet_seconds": trained["seconds"], "sets": {}}
    inherited = dict(zip(map(tuple, rows.tolist()), trained["accuracies"], strict=True))
    passes = [
        (name, genes, seed)
        for seed, chosen in zip(ALONE_SEEDS, (list(sets), arguments.second_seed), strict=True)
        for name, genes in sets.items()
        if name in chosen
    ]
    accuracies = _alone(family, budget, arguments, [(genes, seed) for _, genes, seed in passes])
    for name, genes in sets.items():
        alone = [a for (n, _, _), a in zip(passes, accuracies, strict=True) if n == name]
        own = np.array([inherited[tuple(row)] for row in genes.tolist()])
        macs = space.layer_table(genes).macs
        found["sets"][name] = _agreement(own, alone, macs)
    return found


def _alone(
    family: str,
    budget: Budget,
    arguments: argparse.Namespace,
    passes: Sequence[tuple[Genes, int]],
) -> list[npt.NDArray[np.float64]]:
    """The accuracies of networks trained alone, for each set and seed."""
    jobs = [
        replace(_job(family, budget, arguments, row[None], seed=seed), alone=True)
        for genes, seed in passes
        for row in genes
    ]
    found = np.array([r["accuracies"][0] for r in run_jobs(jobs, arguments.workers)])
    return np.split(found, np.cumsum([len(genes) for genes, _ in passes])[:-1])


def _agreement(
    inherited: npt.NDArray[np.float64],
    alone: Sequence[npt.NDArray[np.float64]],
    macs: npt.NDArray[np.int64],
) -> dict[str, Any]:
    truth = np.mean(alone, axis=0)
    order = np.argsort(macs)
    return {
        "inherited": inherited.tolist(),
        "alone": [a.tolist() for a in alone],
        "macs": macs.tolist(),
        "tau": _tau(inherited, truth),
        "tau_macs": _tau(macs.astype(np.float64), truth),
        "tau_seeds": _tau(alone[0], alone[1]) if len(alone) > 1 else None,
        "gap_points": (100 * (inherited - truth)[order[[0, len(order) // 2, -1]]]).tolist(),
        "mean_gap_points": float(100 * (inherited - truth).mean()),
    }


def _tau(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> list[float]:
    """Kendall's tau-b and its 95 % interval by resampling networks."""
    rng = generator(0, "bootstrap")
    values = []
    for _ in range(2000):
        pick = rng.integers(len(a), size=len(a))
        tau = kendalltau(a[pick], b[pick]).statistic
        if np.isfinite(tau):
            values.append(tau)
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(kendalltau(a, b).statistic), float(low), float(high)]


def ablation(
    family: str, budget: Budget, arguments: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """What each method brings, over seeds: accuracies of set A and the time of a step."""
    space = space_of(family, budget.data())
    genes = across_sizes(space, arguments.subnets)
    truth = _truth(family, budget, arguments, genes)
    jobs = [
        replace(
            _job(family, budget, arguments, genes, seed=seed),
            recipe=change(RECIPE),
            zero_residuals=name == "zero residual branches",
            threads=1 if arguments.workers > 1 else 2,
        )
        for name, change in METHODS.items()
        for seed in range(arguments.ablation_seeds)
    ]
    trained = iter(run_jobs(jobs, arguments.workers))
    found: dict[str, dict[str, Any]] = {}
    for name in METHODS:
        results = [next(trained) for _ in range(arguments.ablation_seeds)]
        accuracies = np.array([r["accuracies"] for r in results])
        found[name] = {
            "accuracies": accuracies.tolist(),
            "seconds_a_step": float(np.mean([r["seconds"] / r["steps"] for r in results])),
            "tau": None if truth is None else [
                float(kendalltau(a, truth).statistic) for a in accuracies
            ],
        }  # fmt: skip
    return found


def _truth(
    family: str, budget: Budget, arguments: argparse.Namespace, genes: Genes
) -> npt.NDArray[np.float64] | None:
    """The accuracies of set A when trained alone; None where that may not be done and was not."""
    budget = replace(
        budget,
        images=arguments.truth_images or budget.images,
        epochs=arguments.truth_epochs or budget.epochs,
    )
    job = replace(
        _job(family, budget, arguments, genes, seed=ALONE_SEEDS[0]),
        folder=arguments.truth_folder or arguments.folder,
        alone=True,
    )
    jobs = [replace(job, rows=(row,)) for row in job.rows]
    if arguments.ablation_only and not all(job.result.exists() for job in jobs):
        return None
    return np.array([r["accuracies"][0] for r in run_jobs(jobs, arguments.workers)])


def across_sizes(space: SearchSpace, n: int) -> Genes:
    """`n` subnets spread evenly over the order by MACs of random ones, with the extremes."""
    rng = generator(0, "across sizes")
    rows = np.unique(space.sample(2000, rng), axis=0)
    ends = np.concatenate([space.extremes("smallest"), space.extremes("largest")])
    macs = space.layer_table(ends).macs
    rows = rows[np.argsort(space.layer_table(rows).macs, kind="stable")]
    middle = rows[np.linspace(0, len(rows) - 1, n).round().astype(int)[1:-1]]
    return np.concatenate([ends[[macs.argmin()]], middle, ends[[macs.argmax()]]])


def same_size(space: SearchSpace, n: int) -> Genes:
    """`n` random subnets whose MACs are within `SAME_SIZE` of each other, around the median."""
    rng = generator(0, "same size")
    rows = np.unique(space.sample(20_000, rng), axis=0)
    macs = space.layer_table(rows).macs
    low = np.median(macs) / SAME_SIZE**0.5
    rows = rows[(macs >= low) & (macs <= low * SAME_SIZE)]
    chosen: Genes = rows[rng.choice(len(rows), size=n, replace=False)]
    return chosen


def _job(
    family: str, budget: Budget, arguments: argparse.Namespace, rows: Genes, *, seed: int
) -> Job:
    return Job(
        family=family,
        budget=budget,
        recipe=RECIPES[family],
        seed=seed,
        rows=tuple(tuple(row) for row in rows.tolist()),
        alone=False,
        folder=arguments.folder,
    )


def _show_ranking(ranks: dict[str, Any]) -> None:
    rows = []
    for family, found in ranks.items():
        for name, values in found["sets"].items():
            rows.append(
                [family, name, len(values["macs"]), _with_interval(values["tau"]),
                 _with_interval(values["tau_macs"]), _with_interval(values["tau_seeds"])]
            )  # fmt: skip
    show(
        "Kendall's tau with accuracy when trained alone, 95 % intervals",
        ["space", "set", "subnets", "inherited accuracy", "MACs", "another seed alone"],
        rows,
    )


def _show_gaps(ranks: dict[str, Any]) -> None:
    rows = []
    for family, found in ranks.items():
        values = found["sets"]["A"]
        small, middle, large = values["gap_points"]
        rows.append(
            [family, f"{found['supernet_seconds'] / 60:.1f}", f"{small:+.2f}", f"{middle:+.2f}",
             f"{large:+.2f}", f"{values['mean_gap_points']:+.2f}"]
        )  # fmt: skip
    show(
        "Inherited minus stand-alone accuracy, points",
        ["space", "supernet, min", "smallest", "middle", "largest", "mean of set A"],
        rows,
    )


def _show_ablation(family: str, found: dict[str, dict[str, Any]]) -> None:
    first = np.array(next(iter(found.values()))["accuracies"])
    rows = []
    for name, values in found.items():
        own = np.array(values["accuracies"])
        gain = 100 * (own - first).mean(axis=1)
        tau = values["tau"]
        rows.append(
            [name, f"{100 * own.mean():.2f}", f"{gain.mean():+.2f} ± {gain.std(ddof=0):.2f}",
             f"{100 * own[:, 0].mean():.2f}", f"{100 * own[:, -1].mean():.2f}",
             "" if tau is None else f"{np.mean(tau):.2f}",
             f"{1e3 * values['seconds_a_step']:.0f}"]
        )  # fmt: skip
    show(
        f"Methods on the {family} space, mean over seeds",
        ["method", "set A, %", "against the first", "smallest, %", "largest, %", "tau", "ms/step"],
        rows,
    )


def _with_interval(tau: Sequence[float] | None) -> str:
    return "" if tau is None else f"{tau[0]:.2f} [{tau[1]:.2f}, {tau[2]:.2f}]"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=Path("runs/supernet_quality"))
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--images", type=int, default=20_000, help="training images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--subnets", type=int, default=16, help="in each of the two sets")
    parser.add_argument("--seed", type=int, default=0, help="of the supernet")
    parser.add_argument("--second-seed", nargs="*", default=["A", "B"],
                        help="sets that are trained alone twice")  # fmt: skip
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side")
    parser.add_argument("--ablation", choices=FAMILIES, help="also compare the methods")
    parser.add_argument("--ablation-seeds", type=int, default=3)
    parser.add_argument("--ablation-only", action="store_true", help="no ranking")
    parser.add_argument("--truth-folder", type=Path, help="of networks trained alone; --folder")
    parser.add_argument("--truth-images", type=int, help="with which they were; --images")
    parser.add_argument("--truth-epochs", type=int, help="likewise; --epochs")


if __name__ == "__main__":
    benchmark_main("supernet_quality", run, _arguments)
