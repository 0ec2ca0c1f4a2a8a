"""Searches that are compared: how one is run, what is kept of it, and what it is worth.

Of each search the networks that it evaluated are kept, in order: the measured error, the error
without noise, the latency. After `p` evaluations a user would take the networks that no other one
dominates *as measured*; what they are worth is their hypervolume *without noise*, as a share of
that of the best front known. The reference point is the ideal one plus 1.1 times the distance to
the nadir of that front, in percent of error and in milliseconds, as in `tabular_search`. The best
front known is that of a long run on the function without noise and of everything that any kept
search evaluated; of a table it is the true one. So a share may fall a little as better networks
become known.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, t

from experiments.benchmarks.large_space_peers import PEERS, SLOW, Peer
from experiments.benchmarks.search_cases import Case
from records import Measured
from search_spaces import Architecture, Genes
from strategies import Problem, hypervolume, is_non_dominated, search
from strategies.by_name import strategy_by_name
from strategies.known_rows import row_keys
from strategies.protocols import Evaluator

Floats = npt.NDArray[np.float64]

POINTS = (25, 50, 100, 200)
OURS: Mapping[str, str] = {
    "PredictorGuided": "predictor-guided",
    "Bayesian": "bayesian",
    "NSGA2": "nsga2",
    "LocalSearch": "local-search",
    "RegularizedEvolution": "regularized-evolution",
    "RandomSearch": "random",
}
"""Our strategies, by their names in `strategies.by_name`."""

_CALLS, _SLOW_CALLS = 50, 5
"""A peer is stopped after so many times its budget, if what it proposes is known or too slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """One search.

    Attributes:
        method: Who searched.
        case: What it searched, `Case.name`.
        seed: Its seed.
        budget: How many networks it was to evaluate.
        seconds: Its own processor time for each network evaluated.
        measured: The measured errors in percent, in order; NaN where an evaluation failed.
        error: The errors without noise in percent.
        latency_ms: The latencies.
    """

    method: str
    case: str
    seed: int
    budget: int
    seconds: float
    measured: tuple[float, ...]
    error: tuple[float, ...]
    latency_ms: tuple[float, ...]

    @property
    def key(self) -> tuple[str, str, int]:
        """What is run once."""
        return self.method, self.case, self.seed


def search_once(case: Case, method: str, seed: int, budget: int) -> Searched:
    """Runs one method once.

    Ours runs through `search` with what it does by default: a design, batches of eight, nothing
    evaluated that misses the limit. A peer runs alone, one network after the other.
    """
    problem = case.problem(seed)
    accuracy = _Clocked(problem.accuracy)
    problem = replace(problem, accuracy=accuracy)
    began = time.process_time()
    if method in OURS:
        strategy = strategy_by_name(OURS[method], problem, seed)
        front = search(problem, evaluations=budget, strategy=strategy, seed=seed)
        observations = front.result.observations if front.result else ()
        genes = np.array([o.genes for o in observations], np.int16)
        values = [np.nan if o.value is None else o.value for o in observations]
        measured = 100 * (1 - np.array(values, np.float64))
    else:
        calls = budget * (_SLOW_CALLS if method in SLOW else _CALLS)
        genes, measured = peer_rows(problem, PEERS[method], budget, seed, calls)
    seconds = (time.process_time() - began - accuracy.seconds) / max(len(genes), 1)
    return Searched(
        method=method,
        case=case.name,
        seed=seed,
        budget=budget,
        seconds=_short(seconds),
        measured=tuple(map(_short, measured.tolist())),
        error=tuple(map(_short, case.errors(genes, measured, seed).tolist())),
        latency_ms=tuple(map(_short, problem.cheap_objectives(genes)[:, 0].tolist())),
    )


class _BudgetSpentError(Exception):
    """Ends a peer's search."""


def peer_rows(
    problem: Problem, peer: Peer, budget: int, seed: int, most_calls: int = 1000
) -> tuple[Genes, Floats]:
    """The distinct networks that a peer evaluates, in order, and their measured errors.

    A network that was evaluated costs nothing when it is proposed again, nor does one that misses
    the limit: its error is then told as the largest so far, beside by how much it misses.
    """
    rows: list[Genes] = []
    errors: list[float] = []
    known: dict[int, float] = {}
    calls = 0

    def evaluate(genes: npt.ArrayLike) -> tuple[float, float, float]:
        nonlocal calls
        row = np.asarray(genes).astype(np.int16)[None]
        row = problem.space.canonical(row)
        latency, missed = float(problem.cheap_objectives(row)[0, 0]), problem.violations(row)[0]
        key = int(row_keys(row)[0])
        calls += 1
        if calls > most_calls:
            raise _BudgetSpentError
        if missed > 0:
            return max(errors, default=100.0), latency, float(missed)
        if key not in known:
            if len(rows) == budget:
                raise _BudgetSpentError
            value = problem.accuracy.evaluate(row)[0].value
            known[key] = 100.0 if value is None else 100 * (1 - value)
            rows.append(row[0])
            errors.append(known[key])
        return known[key], latency, 0.0

    with suppress(_BudgetSpentError):
        peer(problem, evaluate, seed)
    shape = (-1, len(problem.space.choices))
    return np.array(rows, np.int16).reshape(shape), np.array(errors, np.float64)


class _Clocked:
    """An evaluator that counts its own processor time, so that a search's can be told."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self.metric, self.weights_hash = evaluator.metric, evaluator.weights_hash
        self.seconds = 0.0

    def evaluate(self, genes: Genes) -> Sequence[Measured]:
        began = time.process_time()
        found = self._evaluator.evaluate(genes)
        self.seconds += time.process_time() - began
        return found

    def subnet(self, architecture: Architecture) -> Any:
        return self._evaluator.subnet(architecture)


def _short(number: float) -> float:
    return float(f"{number:.7g}")


# ---- the file ----------------------------------------------------------------------------------


def read_searches(path: Path | None) -> dict[tuple[str, str, int], Searched]:
    """The searches of a file, the last where one was run again."""
    if path is None or not path.exists():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        for name in ("measured", "error", "latency_ms"):
            record[name] = tuple(np.nan if v is None else v for v in record[name])
        searched = Searched(**record)
        found[searched.key] = searched
    return found


def keep_search(path: Path | None, searched: Searched) -> None:
    """Adds a search to a file."""
    if path is None:
        return
    record = asdict(searched)
    for name in ("measured", "error"):
        record[name] = [None if np.isnan(value) else value for value in record[name]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def run_missing(plan: Iterable[tuple[Case, str, int, int]], path: Path | None) -> list[Searched]:
    """Runs what a file lacks of a plan of (case, method, seed, budget); gives all of the plan."""
    kept = read_searches(path)
    found = []
    for case, method, seed, budget in plan:
        key = (method, case.name, seed)
        if key not in kept or kept[key].budget < budget:
            kept[key] = search_once(case, method, seed, budget)
            keep_search(path, kept[key])
            best = min(kept[key].error, default=np.nan)
            text = f"{len(kept[key].error)} networks, least error {best:.2f} %"
            print(f"{seed} {case.name:32s} {method:22s} {text}", flush=True)
        found.append(kept[key])
    return found


# ---- what they are worth -----------------------------------------------------------------------


def best_known_front(case: Case, seed: int, searches: Iterable[Searched]) -> Floats:
    """The front of what is known of a case, a `k x 2` array of (error in percent, latency)."""
    found = [np.column_stack([s.error, s.latency_ms]) for s in searches if len(s.error)]
    points = np.concatenate([case.front(seed), *found])
    points = points[(points[:, 1] <= case.limit()) & ~np.isnan(points).any(axis=1)]
    return np.asarray(points[is_non_dominated(points)])


def shares(searched: Searched, front: Floats) -> tuple[float, ...]:
    """The share of a front's hypervolume after each of `POINTS` within the budget.

    A search that ended early has at later points what it had at its end.
    """
    ideal, nadir = front.min(axis=0), front.max(axis=0)
    reference = ideal + 1.1 * (nadir - ideal)
    whole = hypervolume(front, reference)
    as_measured = np.column_stack([searched.measured, searched.latency_ms])
    truly = np.column_stack([searched.error, searched.latency_ms])
    found = []
    for point in POINTS:
        if point > searched.budget:
            break
        taken = is_non_dominated(as_measured[:point])
        found.append(hypervolume(truly[:point][taken], reference) / whole if whole > 0 else 1.0)
    return tuple(found)


Shares = Mapping[tuple[str, str, int], tuple[float, ...]]


def all_shares(cases: Sequence[Case], searches: Sequence[Searched]) -> Shares:
    """The shares of searches, by (method, case, seed)."""
    by_name = {case.name: case for case in cases}
    alike: dict[str, list[Searched]] = {}
    for one in searches:
        if one.case in by_name:
            alike.setdefault(by_name[one.case].front_key(one.seed), []).append(one)
    fronts: dict[tuple[str, float], Floats] = {}
    found = {}
    for one in searches:
        if one.case not in by_name:
            continue
        case = by_name[one.case]
        key = case.front_key(one.seed)
        if (key, case.limit()) not in fronts:
            fronts[key, case.limit()] = best_known_front(case, one.seed, alike[key])
        found[one.key] = shares(one, fronts[key, case.limit()])
    return found


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and half the width of its 95 % interval by Student's t; None for one value."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return mean, None
    return mean, float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))


def ranks(found: Shares, methods: Sequence[str], point: int) -> dict[str, float]:
    """The mean rank of each method at a point, 1 the best, over (case, seed) that all have."""
    place = POINTS.index(point)
    runs = dict.fromkeys((case, seed) for _, case, seed in found)
    rows = []
    for case, seed in runs:
        row = [found.get((method, case, seed), ()) for method in methods]
        if all(len(values) > place for values in row):
            rows.append(rankdata([-values[place] for values in row]))
    if not rows:
        return {}
    return dict(zip(methods, np.mean(rows, axis=0).tolist(), strict=True))
