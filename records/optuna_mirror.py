"""A ledger as an Optuna study, so that `optuna-dashboard` and Optuna's plots open a run.

The study is a copy for looking at, rebuilt from the ledger at will. It is a journal file
(`optuna.storages.journal`), which holds JSON lines and no pickle. It is built in memory and
written at once, because Optuna flushes its file to the disk for every trial.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import FrozenTrial, create_trial

from records.errors import BadInputError
from records.files import replace_file
from records.ledger import Ledger
from records.observation import Observation

StudyObjective: TypeAlias = tuple[str, str, Literal["minimize", "maximize"]]
GeneLabels: TypeAlias = Callable[[int, int], str | int | float]


def mirror_to_optuna(
    ledger: Ledger,
    path: str | Path,
    *,
    study_name: str,
    gene_names: Sequence[str],
    gene_labels: GeneLabels,
    objectives: Sequence[StudyObjective],
    space_hash: str | None = None,
) -> int:
    """Writes the ledger's results as a study into a journal file, replacing an earlier one.

    A trial is an architecture that has a value for every objective; a metric observed more than
    once shows its last value. The other metrics and the reasons of failures are user attributes
    of the trial, named `metric@target`, and its genes are the attribute `genes`.

    Args:
        ledger: The ledger to copy.
        path: The journal file; open it with `optuna-dashboard PATH`.
        study_name: The study's name in the dashboard.
        gene_names: The `d` names of the genes' columns, which become the parameters.
        gene_labels: Gives the value shown for a column's code, e.g. kernel size 5 for code 1.
        objectives: Metric, target ("" for none) and direction of each objective.
        space_hash: Copies only what was observed in this search space; None copies everything.

    Returns:
        The number of trials.

    Raises:
        BadInputError: There is no objective, one stands twice or has no valid direction, or genes
            and names differ in length.
        StorageError: The file cannot be written.
    """
    _check_objectives(objectives)
    _check_unique("gene_names", gene_names)
    architectures = _by_genes(ledger, gene_names, space_hash)
    keys = [(metric, target) for metric, target, _ in objectives]
    complete = [found for found in architectures if all(key in found.values for key in keys)]
    distributions = _distributions(architectures, gene_names, gene_labels)
    lines = _LinesInMemory()
    with _quiet_optuna():
        study = optuna.create_study(
            storage=JournalStorage(lines),
            study_name=study_name,
            directions=[direction for _, _, direction in objectives],
        )
        study.set_metric_names([_shown(key) for key in keys])
        study.add_trials(
            _trial(found, keys, gene_names, gene_labels, distributions) for found in complete
        )
        with replace_file(path) as temporary:
            JournalFileBackend(str(temporary)).append_logs(lines.logs)
    return len(complete)


@dataclass(slots=True)
class _Architecture:
    """What the ledger says about one row of genes, gathered while reading it."""

    genes: tuple[int, ...]
    started_at: datetime
    ended_at: datetime
    values: dict[tuple[str, str], float] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, observed_at: datetime, observation: Observation) -> None:
        key = (observation.metric, observation.target)
        self.ended_at = observed_at
        if observation.value is None:
            self.failures[key] = observation.reason
        else:
            self.values[key] = observation.value


class _LinesInMemory(BaseJournalBackend):
    """Optuna's journal as a list, for one thread."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs.extend(logs)


def _by_genes(
    ledger: Ledger, gene_names: Sequence[str], space_hash: str | None
) -> list[_Architecture]:
    """Gathers the observations by architecture, in the order they were first seen."""
    found: dict[tuple[int, ...], _Architecture] = {}
    for observed_at, observation in ledger.dated_observations():
        genes = observation.genes
        if not genes:  # about the run as a whole, not about an architecture
            continue
        if space_hash is not None and observation.space_hash != space_hash:
            continue
        if len(genes) != len(gene_names):
            raise BadInputError(
                f"the ledger holds rows of {len(genes)} genes, but {len(gene_names)} gene_names "
                "were given: they must be the columns of the same search space"
            )
        if genes not in found:
            started_at = observed_at - timedelta(seconds=observation.seconds)
            found[genes] = _Architecture(genes, started_at, observed_at)
        found[genes].add(observed_at, observation)
    return list(found.values())


def _distributions(
    architectures: Sequence[_Architecture], gene_names: Sequence[str], gene_labels: GeneLabels
) -> dict[str, CategoricalDistribution]:
    """Makes a categorical parameter per column over all codes seen, in the order of the codes."""
    distributions = {}
    for column, name in enumerate(gene_names):
        codes = sorted({found.genes[column] for found in architectures})
        # Codes with equal labels merge.
        labels = dict.fromkeys(_label(gene_labels, column, code) for code in codes)
        if labels:
            distributions[name] = CategoricalDistribution(list(labels))
    return distributions


def _trial(
    found: _Architecture,
    keys: Sequence[tuple[str, str]],
    gene_names: Sequence[str],
    gene_labels: GeneLabels,
    distributions: dict[str, CategoricalDistribution],
) -> FrozenTrial:
    others = {_shown(key): value for key, value in found.values.items() if key not in keys}
    failures = {f"{_shown(key)} failed": reason for key, reason in found.failures.items()}
    trial = create_trial(
        values=[found.values[key] for key in keys],
        params={
            name: _label(gene_labels, column, found.genes[column])
            for column, name in enumerate(gene_names)
        },
        distributions=dict(distributions),
        user_attrs={"genes": list(found.genes), **others, **failures},
    )
    trial.datetime_start = found.started_at
    trial.datetime_complete = found.ended_at
    return trial


def _label(gene_labels: GeneLabels, column: int, code: int) -> str | int | float:
    """Returns a label as the plain number or text that a journal can hold."""
    label = gene_labels(column, code)
    if isinstance(label, np.generic):  # np.int64 is not an int, and JSON has no place for it
        plain: str | int | float = label.item()
        return plain
    return label


def _shown(key: tuple[str, str]) -> str:
    metric, target = key
    return f"{metric}@{target}" if target else metric


def _check_objectives(objectives: Sequence[StudyObjective]) -> None:
    if not objectives:
        raise BadInputError("objectives must name at least one (metric, target, direction)")
    for metric, _, direction in objectives:
        if direction not in ("minimize", "maximize"):
            raise BadInputError(
                f"the direction of {metric!r} must be 'minimize' or 'maximize', got {direction!r}"
            )
    _check_unique("objectives", [_shown((metric, target)) for metric, target, _ in objectives])


def _check_unique(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise BadInputError(f"{what} must differ from each other, got twice: {', '.join(twice)}")


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Silences Optuna's progress lines and its warnings about experimental functions."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
