"""What searches are compared on: spaces with an accuracy, latencies of a device, and limits.

Large spaces that cannot be enumerated, with latencies of `RooflineCostModel`:

- `ofa`: Once-for-All's MobileNetV3 (5e20 networks), a *synthetic* accuracy drawn by seed;
- `hybrid`: `HybridSpace` for images of 32 pixels (1e9 networks), likewise;
- `digits`: the quickstart's `HybridSpace` (2.6e6 networks) with its supernet trained on digits,
  accuracies on the 359 images of search-validation.

Published tables, which can: `nb201` (NAS-Bench-201, CIFAR-100, latencies of devices) and
`nb_macro` (the published half of NAS-Bench-Macro, MACs in place of latency).

`limited` cases have a limit on latency that one random network in ten keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from experiments.benchmarks.kept_accuracies import digits_evaluator
from experiments.benchmarks.synthetic_accuracy import SyntheticAccuracy
from experiments.datasets import load_dataset
from experiments.search_tables import SearchTable, read_search_table
from experiments.spaces import ImageSizes, make_space
from experiments.tabular_search import TableAccuracy, TableCosts
from hardware_profiles import Target, device
from latency_models import RooflineCostModel
from records import Measured, MissingFileError, generator, read_json, write_json
from search_spaces import Architecture, Genes, SearchSpace
from search_spaces.standard import OFAMobileNetV3
from strategies import NSGA2, Problem, is_non_dominated
from strategies.problem import Limits
from strategies.protocols import Evaluator

Floats = npt.NDArray[np.float64]

LONG_RUN = 200_000
_POPULATION = 1000
_LIMIT_QUANTILE = 0.1
_LIMITED = " limited"
_SAMPLE = 2000


class Case(Protocol):
    """One comparison: a space, an accuracy, a device, perhaps a limit.

    Attributes:
        name: Such as `ofa pixel-3 limited`.
        family: The space, such as `ofa`.
    """

    @property
    def name(self) -> str: ...

    @property
    def family(self) -> str: ...

    def problem(self, seed: int) -> Problem:
        """What a search of that seed is given."""
        ...

    def errors(self, genes: Genes, measured: Floats, seed: int) -> Floats:
        """The errors without noise in percent of rows that were measured."""
        ...

    def front(self, seed: int) -> Floats:
        """What is known of the front beforehand: (error in percent, latency), limits apart."""
        ...

    def front_key(self, seed: int) -> str:
        """The same for cases and seeds with the same accuracies and latencies."""
        ...

    def limit(self) -> float:
        """The limit on latency, infinite where there is none."""
        ...


@dataclass(frozen=True, kw_only=True)
class SyntheticCase:
    """A large space with a synthetic accuracy: search `seed` has function `seed`.

    Attributes:
        family: `ofa` or `hybrid`.
        target: The device.
        limited: Whether latency has a limit.
        folder: Where the fronts of long runs are kept.
        long_run: Their evaluations.
    """

    family: str
    target: Target
    limited: bool
    folder: Path
    long_run: int = LONG_RUN

    @property
    def name(self) -> str:
        return _name(self.family, self.target, self.limited)

    def problem(self, seed: int) -> Problem:
        space, costs = _costs(self.family, self.target)
        limits: Limits = {"latency_ms": self.limit()} if self.limited else {}
        return Problem(space, self.accuracy(seed), [costs], limits=limits)

    def accuracy(self, seed: int) -> SyntheticAccuracy:
        """The function."""
        low, high = _ENDS[self.family]
        return SyntheticAccuracy(_space(self.family), seed=seed, low=low, high=high)

    def errors(self, genes: Genes, measured: Floats, seed: int) -> Floats:
        return 100 * (1 - self.accuracy(seed).values(genes))

    def front_key(self, seed: int) -> str:
        return f"{self.name.removesuffix(_LIMITED)} {seed}"

    def limit(self) -> float:
        return _limit(self.family, self.target) if self.limited else np.inf

    def front(self, seed: int) -> Floats:
        """The front of a run of NSGA-II on the function without noise, made once."""
        name = _name(self.family, self.target, False).replace(" ", "-")
        path = self.folder / f"front-{name}-{seed}-{self.long_run}.json"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, _long_run(replace(self, limited=False), seed).tolist())
        return np.array(read_json(path, kind="front"), np.float64).reshape(-1, 2)


@dataclass(frozen=True, kw_only=True)
class SupernetCase:
    """The quickstart's space with a trained supernet; the same accuracies for every seed.

    Attributes:
        target: The device.
        limited: Whether latency has a limit.
        evaluator: Measures networks.
    """

    target: Target
    limited: bool
    evaluator: Evaluator
    family: str = "digits"

    @property
    def name(self) -> str:
        return _name(self.family, self.target, self.limited)

    def problem(self, seed: int) -> Problem:
        space, costs = _costs(self.family, self.target)
        limits: Limits = {"latency_ms": self.limit()} if self.limited else {}
        return Problem(space, self.evaluator, [costs], limits=limits)

    def errors(self, genes: Genes, measured: Floats, seed: int) -> Floats:
        return measured

    def front_key(self, seed: int) -> str:
        return self.name.removesuffix(_LIMITED)

    def limit(self) -> float:
        return _limit(self.family, self.target) if self.limited else np.inf

    def front(self, seed: int) -> Floats:
        """Nothing: only searches have measured this supernet."""
        return np.zeros((0, 2))


@dataclass(frozen=True, kw_only=True)
class TableCase:
    """A published table, all of whose latencies are known; its true front is known too.

    Attributes:
        family: `nb201` or `nb_macro`.
        latency: The column that is minimised.
        table: The table.
    """

    family: str
    latency: str
    table: SearchTable

    @property
    def name(self) -> str:
        return f"{self.family} {self.latency}"

    def problem(self, seed: int) -> Problem:
        costs = TableCosts(self.table, is_known=True)
        accuracy = _TableShares(TableAccuracy(self.table, costs))
        limits: Limits = {"latency_ms": self.limit()}  # networks that the table lacks miss it
        return Problem(self.table.space, accuracy, [costs], limits=limits)

    def errors(self, genes: Genes, measured: Floats, seed: int) -> Floats:
        return measured

    def front_key(self, seed: int) -> str:
        return self.name

    def limit(self) -> float:
        return float(self.table.latency_ms.max())

    def front(self, seed: int) -> Floats:
        points = np.column_stack([100 - self.table.accuracy, self.table.latency_ms])
        return points[is_non_dominated(points)]


# ---- the cases that there are ------------------------------------------------------------------

TARGETS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "ofa": (("pixel-3", 1), ("gtx-1080-ti", 32)),
    "hybrid": (("raspberry-pi-4", 1), ("jetson-nano", 1)),
    "digits": (("raspberry-pi-4", 1), ("jetson-nano", 1)),
}
"""Devices and batch sizes of the large spaces, latencies modelled."""

TABLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "nb201": (
        "cifar100_acc",
        ("lat_pixel3", "lat_1080ti_32", "lat_silver_4114", "lat_titanx_256"),
    ),
    "nb_macro": ("mean_acc", ("flops",)),
}
"""The accuracy of each table, and what stands for latency."""

_ENDS = {"ofa": (0.70, 0.80), "hybrid": (0.72, 0.86)}


def large_cases(
    folder: Path, families: Sequence[str], supernet: Path | None = None, long_run: int = LONG_RUN
) -> list[Case]:
    """The cases of large spaces.

    Args:
        folder: Where fronts, the supernet and its accuracies are kept.
        families: Of `TARGETS`.
        supernet: A trained supernet of the quickstart's space to take; else one is trained once.
        long_run: Evaluations of the runs that reference fronts come from.
    """
    cases: list[Case] = []
    for family in families:
        evaluator = digits_evaluator(folder, supernet) if family == "digits" else None
        for limited in (False, True):
            for name, batch in TARGETS[family]:
                target = Target(profile=device(name), batch_size=batch)
                if evaluator is not None:
                    case: Case = SupernetCase(target=target, limited=limited, evaluator=evaluator)
                else:
                    case = SyntheticCase(
                        family=family,
                        target=target,
                        limited=limited,
                        folder=folder,
                        long_run=long_run,
                    )
                cases.append(case)
    return cases


def table_cases(tables: Path) -> list[TableCase]:
    """The cases of published tables that are in a folder; those of missing files are left out."""
    cases = []
    for family, (accuracy, columns) in TABLES.items():
        for column in columns:
            try:
                table = read_search_table(tables / f"{family}.parquet", family, accuracy, column)
            except MissingFileError:
                continue
            cases.append(TableCase(family=family, latency=column, table=table))
    return cases


def _name(family: str, target: Target, limited: bool) -> str:
    return f"{family} {target.profile.name}{_LIMITED if limited else ''}"


@cache
def _space(family: str) -> SearchSpace:
    if family == "ofa":
        return OFAMobileNetV3()
    return make_space("hybrid", ImageSizes() if family == "hybrid" else load_dataset("digits"))


@cache
def _costs(family: str, target: Target) -> tuple[SearchSpace, RooflineCostModel]:
    space = _space(family)
    return space, RooflineCostModel(space, target)


@cache
def _limit(family: str, target: Target) -> float:
    space, costs = _costs(family, target)
    rows = space.sample(_SAMPLE, generator(0, "limit", family), "architectures")
    return float(np.quantile(costs.bound("latency_ms", rows), _LIMIT_QUANTILE))


def _long_run(case: SyntheticCase, seed: int) -> Floats:
    """The non-dominated (error in percent, latency) of a long run without noise."""
    problem, accuracy = case.problem(seed), case.accuracy(seed)
    space = problem.space
    ends = np.concatenate([space.extremes("smallest"), space.extremes("largest")])
    size = min(_POPULATION, case.long_run)
    strategy = NSGA2(space, population_size=size, seed=seed, initial=ends)
    front = np.zeros((0, 2))
    for _ in range(case.long_run // size):
        genes = strategy.ask(size)
        if len(genes) == 0:
            break
        objectives = problem.objectives(genes, accuracy.values(genes))
        strategy.tell(genes, objectives)
        front = np.concatenate([front, objectives * [100, 1]])
        front = front[is_non_dominated(front)]
    return np.array([[float(f"{number:.7g}") for number in row] for row in front.tolist()])


@dataclass(frozen=True)
class _TableShares:
    """A table's accuracies as shares instead of percent."""

    table: TableAccuracy
    metric: str = "accuracy"
    weights_hash: str = "table"

    def evaluate(self, genes: Genes) -> Sequence[Measured]:
        found = self.table.evaluate(genes)
        return [m if m.value is None else replace(m, value=m.value / 100) for m in found]

    def subnet(self, architecture: Architecture) -> Any:
        return self.table.subnet(architecture)
