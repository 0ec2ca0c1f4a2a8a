"""A ledger as an Optuna study, so that `optuna-dashboard` and Optuna's plots open a run.

The study is a copy for looking at, rebuilt from the ledger at will. It is a journal file
(`optuna.storages.journal`), which holds JSON lines and no pickle. It is built in memory and
written at once, because Optuna flushes its file to the disk for every trial. While a search goes
on, a later copy begins with the lines of the earlier one, so a dashboard that has the file open
reads on where it was.
"""

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
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
Genes: TypeAlias = npt.NDArray[np.int16]
Computed: TypeAlias = Callable[[Genes], npt.NDArray[np.float64]]
Active: TypeAlias = Callable[[Genes], npt.NDArray[np.bool_]]

_WORKER = "hwnas"


def mirror_to_optuna(
    ledger: Ledger,
    path: str | Path,
    *,
    study_name: str,
    gene_names: Sequence[str],
    gene_labels: GeneLabels,
    objectives: Sequence[StudyObjective],
    computed: Mapping[str, Computed] | None = None,
    attributes: Mapping[str, Computed] | None = None,
    active: Active | None = None,
    gene_sizes: Sequence[int] | None = None,
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
        computed: Further objectives by name, which follow from an `n x d` array of genes and are
            minimised, as predicted latencies; a trial has a finite value of each.
        attributes: User attributes by name, which follow from the genes as well.
        active: Marks the genes of an `n x d` array that mean something; the others are no
            parameters of their trial. None marks all.
        gene_sizes: How many codes each gene may have; None takes the codes that were seen.
        space_hash: Copies only what was observed in this search space; None copies everything.

    Returns:
        The number of trials.

    Raises:
        BadInputError: There is no objective, one stands twice or has no valid direction, or genes
            and names differ in length.
        StorageError: The file cannot be written.
    """
    _check_objectives(objectives, computed or {})
    _check_unique("gene_names", gene_names)
    keys = [(metric, target) for metric, target, _ in objectives]
    architectures = _by_genes(ledger, gene_names, keys, space_hash)
    complete = _complete(architectures, keys, len(gene_names), computed or {}, attributes or {})
    distributions = _distributions(architectures, gene_names, gene_labels, gene_sizes)
    if active is not None and complete:
        marks = active(np.array([found.genes for found in complete], np.int16))
        for found, own in zip(complete, marks, strict=True):
            found.active = own
    minimised: list[Literal["minimize", "maximize"]] = ["minimize"] * len(computed or ())
    lines = _LinesInMemory()
    with _quiet_optuna():
        study = optuna.create_study(
            storage=JournalStorage(lines),
            study_name=study_name,
            directions=[direction for _, _, direction in objectives] + minimised,
        )
        study.set_metric_names([*map(_shown, keys), *(computed or ())])
        study.add_trials(
            _trial(found, keys, gene_names, gene_labels, distributions) for found in complete
        )
        with replace_file(path) as temporary:
            JournalFileBackend(str(temporary)).append_logs(
                [{**line, "worker_id": _WORKER} for line in lines.logs]  # no two are equal else
            )
    return len(complete)


@dataclass(slots=True)
class _Architecture:
    """What the ledger says about one row of genes, gathered while reading it."""

    genes: tuple[int, ...]
    started_at: datetime | None = None
    ended_at: datetime | None = None
    values: dict[tuple[str, str], float] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    computed: list[float] = field(default_factory=list)
    attributes: dict[str, float] = field(default_factory=dict)
    active: npt.NDArray[np.bool_] | None = None

    def add(
        self,
        observed_at: datetime,
        observation: Observation,
        objectives: Collection[tuple[str, str]],
    ) -> None:
        key = (observation.metric, observation.target)
        if key in objectives:
            self.started_at = self.started_at or observed_at - timedelta(
                seconds=observation.seconds
            )
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
    ledger: Ledger,
    gene_names: Sequence[str],
    objectives: Collection[tuple[str, str]],
    space_hash: str | None,
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
            found[genes] = _Architecture(genes)
        found[genes].add(observed_at, observation, objectives)
    return list(found.values())


def _complete(
    architectures: Sequence[_Architecture],
    keys: Sequence[tuple[str, str]],
    columns: int,
    computed: Mapping[str, Computed],
    attributes: Mapping[str, Computed],
) -> list[_Architecture]:
    """Those with a value for every objective, with what follows from their genes."""
    found = [one for one in architectures if all(key in one.values for key in keys)]
    genes = np.array([one.genes for one in found], np.int16).reshape(len(found), columns)
    if found:
        for function in computed.values():
            for one, value in zip(found, function(genes).tolist(), strict=True):
                one.computed.append(value)
        for name, function in attributes.items():
            for one, value in zip(found, function(genes).tolist(), strict=True):
                one.attributes[name] = value
    return [one for one in found if np.isfinite(one.computed).all()]


def _distributions(
    architectures: Sequence[_Architecture],
    gene_names: Sequence[str],
    gene_labels: GeneLabels,
    gene_sizes: Sequence[int] | None,
) -> dict[str, CategoricalDistribution]:
    """Makes a categorical parameter per column, its values in the order of the codes."""
    distributions = {}
    for column, name in enumerate(gene_names):
        codes: Iterable[int] = (
            sorted({found.genes[column] for found in architectures})
            if gene_sizes is None
            else range(gene_sizes[column])
        )
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
    own = {
        name: column
        for column, name in enumerate(gene_names)
        if found.active is None or found.active[column]
    }
    trial = create_trial(
        values=[*(found.values[key] for key in keys), *found.computed],
        params={
            name: _label(gene_labels, column, found.genes[column]) for name, column in own.items()
        },
        distributions={name: distributions[name] for name in own},
        user_attrs={"genes": list(found.genes), **found.attributes, **others, **failures},
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


def _check_objectives(
    objectives: Sequence[StudyObjective], computed: Mapping[str, Computed]
) -> None:
    if not objectives:
        raise BadInputError("objectives must name at least one (metric, target, direction)")
    for metric, _, direction in objectives:
        if direction not in ("minimize", "maximize"):
            raise BadInputError(
                f"the direction of {metric!r} must be 'minimize' or 'maximize', got {direction!r}"
            )
    names = [_shown((metric, target)) for metric, target, _ in objectives]
    _check_unique("objectives", [*names, *computed])


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
