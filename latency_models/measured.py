"""The cost model that is calibrated on whole networks timed on the target.

The latency of a network is modelled as

    latency = base + sum over kernels of  x(kernel) . w(kind of the kernel)

where `x` are the kernel's (1, padded MACs, read, written and weight elements, attention scores)
and `w >= 0` are fitted by non-negative least squares on relative errors,

    minimise  sum_i ((X w - y)_i / y_i)^2,   w >= 0,

so that a small network counts as much as a large one and no kernel is negative. A slight ridge
shares the time among features that always come together, so that no kind of kernel seems free.
Kinds of kernels that occur in no timed network fall back to their roofline, scaled as the others
turned out, but to no less than the cheapest timed kernel. The interval comes from
cross-validation: ratios of measured to predicted latency of networks that were left out of the
fit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from deployment import KINDS, LocalRunner, Runner, Timing, emit
from hardware_profiles import Target
from latency_models.costs import CostModel, Values
from latency_models.quality import LatencyQuality, latency_quality
from records import BadInputError, CorruptFileError, HwnasError, generator, read_json, write_json
from search_spaces import Genes, SearchSpace
from supernet import Subnet

logger = logging.getLogger(__name__)

FEATURES = (
    "active",
    "padded_macs",
    "read_elements",
    "write_elements",
    "weight_elements",
    "score_elements",
)
FOLDS = 5
RIDGE = 1e-5
"""Found by cross-validation: ten times more costs accuracy, none leaves some kinds at zero."""
FORMAT = "hwnas-latencies-1"
MIN_NETWORKS = 10


class CalibrationError(HwnasError, RuntimeError):
    """A calibration that cannot be made."""


class MeasuredCostModel(CostModel):
    """Costs whose latency is fitted to timed networks.

    Args:
        space: The search space.
        target: The target.
        genes: The timed networks, an `n x d` array with at least 10 rows.
        latencies_ms: Their latencies for one run of the whole batch, length `n`.
        runner: Times exported files on the target.
    """

    def __init__(
        self,
        space: SearchSpace,
        target: Target,
        genes: Genes,
        latencies_ms: npt.ArrayLike,
        runner: Runner | None = None,
    ) -> None:
        super().__init__(space, target, runner)
        self.timings: tuple[Timing, ...] = ()  # raw, where `calibrate` took them
        self.genes = space.gene_space.check(genes)
        self.measured_ms: Values = np.array(latencies_ms, np.float64)
        if len(self.genes) < MIN_NETWORKS or self.measured_ms.shape != (len(self.genes),):
            raise BadInputError(
                f"a fit needs at least {MIN_NETWORKS} networks and a latency for each, got "
                f"{len(self.genes)} and {self.measured_ms.shape}"
            )
        if not (np.isfinite(self.measured_ms) & (self.measured_ms > 0)).all():
            raise BadInputError("latencies must be positive and finite")

    @cached_property
    def _features(self) -> npt.NDArray[np.float64]:
        """For every variant of every kernel its features, those of other kinds 0."""
        flat = self.lowering.tabulation.columns
        columns = [
            flat[name] * (flat["kind"] == kind) * flat["active"]
            for kind in range(len(KINDS))
            for name in FEATURES
        ]
        return np.stack(columns, axis=1).astype(np.float64)

    @cached_property
    def _design(self) -> npt.NDArray[np.float64]:
        """The features of the timed networks, with a leading 1."""
        codes = self.lowering.tabulation.codes(self.genes)
        summed = self._features[codes].sum(axis=0)
        return np.concatenate([np.ones((len(self.genes), 1)), summed], axis=1)

    @cached_property
    def _weights(self) -> Values:
        return _fit(self._design, self.measured_ms)

    @property
    def base_ms(self) -> float:
        return float(self._weights[0])

    @cached_property
    def _seen(self) -> npt.NDArray[np.bool_]:
        """Which kinds of kernels occur in the timed networks."""
        kinds = self._design[:, 1 :: len(FEATURES)]
        return np.asarray(kinds.any(axis=0))

    @cached_property
    def kernel_ms(self) -> Values:
        latency = self._features @ self._weights[1:]
        unseen = self._is_unseen
        if unseen.any():
            ceiling = self.ceiling.latency_ms
            known = ceiling[~unseen & (ceiling > 0)].sum()
            slowdown = max(1.0, float(latency[~unseen].sum() / known)) if known else 1.0
            timed = latency[~unseen & (latency > 0)]
            cheapest = timed.min() if len(timed) else 0.0  # a ceiling may be 0: not known
            latency = np.where(unseen, np.maximum(ceiling * slowdown, cheapest), latency)
        return np.asarray(latency)

    @property
    def _is_unseen(self) -> npt.NDArray[np.bool_]:
        flat = self.lowering.tabulation.columns
        return np.asarray(~self._seen[flat["kind"]] & (flat["active"] > 0))

    @cached_property
    def origin(self) -> npt.NDArray[np.int8]:
        origin = np.ones(self.lowering.tabulation.variants, np.int8)
        origin[np.unique(self.lowering.tabulation.codes(self.genes))] = 0
        origin[self._is_unseen] = 2
        return origin

    @cached_property
    def _left_out_ms(self) -> Values:
        """For every timed network its latency predicted by a fit without it (cross-validation)."""
        _, first, group = np.unique(self.genes, axis=0, return_index=True, return_inverse=True)
        fold = first[group.ravel()] % FOLDS  # a network timed twice is left out as one
        predicted = np.empty(len(self.genes))
        for f in range(FOLDS):
            weights = _fit(self._design[fold != f], self.measured_ms[fold != f])
            predicted[fold == f] = self._design[fold == f] @ weights
        return predicted

    @cached_property
    def ratios(self) -> Values:
        return np.sort(self.measured_ms / self._left_out_ms)

    @property
    def quality(self) -> LatencyQuality:
        """How well networks left out of the fit are predicted."""
        return latency_quality(self._left_out_ms, self.measured_ms)

    @property
    def latency_source(self) -> str:
        return (
            f"predicted: fitted to {len(self.genes)} networks timed on {self.target.name}, "
            f"cross-validated error {self.quality.mape:.1%}"
        )

    def refitted(
        self, genes: Genes, latencies_ms: npt.ArrayLike, drift: float = 1.0
    ) -> MeasuredCostModel:
        """The model fitted to these networks as well; this one stays as it is.

        Args:
            genes: The newly timed networks, an `n x d` array.
            latencies_ms: Their latencies, length `n`.
            drift: How much slower the machine runs now than when it was calibrated; the earlier
                latencies are multiplied by it.
        """
        return MeasuredCostModel(
            self.space,
            self.target,
            np.concatenate([self.genes, self.space.gene_space.check(genes)]),
            np.concatenate([drift * self.measured_ms, np.asarray(latencies_ms, np.float64)]),
            self.runner,
        )

    def without(self, row: Genes) -> MeasuredCostModel:
        """The model that one would have had without timing this network.

        It is this model where the network was not timed, or where too few would be left.

        Args:
            row: Genes of one architecture.
        """
        others = (self.genes != row).any(axis=1)
        if others.all() or others.sum() < MIN_NETWORKS:
            return self
        return MeasuredCostModel(
            self.space, self.target, self.genes[others], self.measured_ms[others], self.runner
        )

    def save(self, path: str | Path) -> None:
        """Writes what was measured; `load` fits again."""
        write_json(path, {
            "format": FORMAT,
            "space_hash": self.space.hash,
            "target": self.target.name,
            "machine": self.target.profile.machine,
            "genes": self.genes.tolist(),
            "latencies_ms": self.measured_ms.tolist(),
        })  # fmt: skip

    @staticmethod
    def load(
        path: str | Path, space: SearchSpace, target: Target, runner: Runner | None = None
    ) -> MeasuredCostModel:
        """The model that `save` wrote.

        Raises:
            CorruptFileError: Another kind of file, or measured for another space or target.
        """
        value: dict[str, Any] = read_json(path, kind="latency measurements")
        mine = {
            "format": FORMAT,
            "space_hash": space.hash,
            "target": target.name,
            "machine": target.profile.machine,
        }
        for key, want in mine.items():
            got = value.get(key) if isinstance(value, dict) else None
            if got != want:
                raise CorruptFileError(
                    f"{path} does not fit: its {key} is {got!r}, here it is {want!r}; "
                    "calibrate again"
                )
        try:
            genes = np.array(value["genes"])
            return MeasuredCostModel(space, target, genes, value["latencies_ms"], runner)
        except (KeyError, ValueError, TypeError) as error:
            raise CorruptFileError(f"{path} is damaged: {error}") from error


def _fit(design: npt.NDArray[np.float64], latencies_ms: Values) -> Values:
    """Non-negative least squares on relative errors, with a slight ridge."""
    n, features = design.shape
    scale = np.maximum(design.max(axis=0), 1e-30)
    ridge = np.sqrt(RIDGE * n) / np.median(latencies_ms) * np.eye(features)
    rows = np.concatenate([design / scale / latencies_ms[:, None], ridge])
    weights, _ = nnls(rows, np.concatenate([np.ones(n), np.zeros(features)]))
    return np.asarray(weights / scale)


def calibrate(
    space: SearchSpace,
    target: Target,
    *,
    budget_s: float = 60.0,
    networks: int = 100,
    runner: Runner | None = None,
    seed: int = 0,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> MeasuredCostModel:
    """Times exported subnets on the target and fits a cost model to them.

    The smallest and largest networks and a random sample (uniform per choice) are exported with
    random weights, on which latency does not depend, and timed in shuffled round-robin. The same
    seed times the same networks.

    Args:
        space: The search space.
        target: The target; it must be this machine unless a runner is given.
        budget_s: No further networks are built after half of this; timing them takes the rest.
        networks: How many networks to time, at most.
        runner: Times files on the target; a local process by default.
        seed: Derives the networks and the order of timing.
        on_progress: Called with (what, done, total).

    Raises:
        CalibrationError: No runner for another device; a space of fewer than 10 networks.
        BadInputError: A budget that is not positive.
    """
    if not budget_s > 0:
        raise BadInputError(f"budget_s must be positive, got {budget_s}")
    if runner is None:
        if not target.is_local:
            raise CalibrationError(
                f"target {target.name!r} is not this machine: pass a runner that reaches it, or "
                "use RooflineCostModel, which needs no measurement"
            )
        runner = LocalRunner()
    genes = calibration_networks(space, networks, seed)
    if len(genes) < MIN_NETWORKS:
        raise CalibrationError(
            f"{space.name} has {len(genes)} networks to time, a fit needs {MIN_NETWORKS}: use "
            "RooflineCostModel, or a space with more choices"
        )
    models: list[bytes] = []
    start = time.perf_counter()
    for row in genes:
        if time.perf_counter() - start > budget_s / 2 and len(models) >= MIN_NETWORKS:
            logger.warning("%s s allow %d of %d networks", budget_s, len(models), len(genes))
            break
        models.append(random_weights_model(space, row, target.batch_size))
        if on_progress is not None:
            on_progress("building networks to time", len(models), len(genes))
    timings = time_models(runner, models, target, seed, budget_s / 2, on_progress)
    latencies = [timing.latency_ms for timing in timings]
    model = MeasuredCostModel(space, target, genes[: len(models)], latencies, runner)
    model.timings = tuple(timings)
    return model


def calibration_networks(space: SearchSpace, networks: int, seed: int) -> Genes:
    """The networks to time: the extremes, then a random sample without repetition."""
    if networks < MIN_NETWORKS:
        raise BadInputError(f"networks must be >= {MIN_NETWORKS}, got {networks}")
    extremes = np.concatenate([space.extremes("smallest"), space.extremes("largest")])
    rng = generator(seed, "calibration")
    rows = extremes
    for _ in range(20):  # a small space repeats itself
        rows = np.concatenate([rows, space.sample(2 * networks, rng)])
        _, first = np.unique(rows, axis=0, return_index=True)
        rows = rows[np.sort(first)]
        if len(rows) >= min(networks, space.cardinality):
            break
    return np.asarray(rows[:networks])


def random_weights_model(space: SearchSpace, row: Genes, batch_size: int) -> bytes:
    """The exported file of an architecture with random weights."""
    subnet = Subnet(space.graph(row)).eval()
    return bytes(emit(subnet, batch_size).SerializeToString())


def time_models(
    runner: Runner,
    models: list[bytes],
    target: Target,
    seed: int,
    budget_s: float,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> list[Timing]:
    """Times models with as many rounds as the budget allows, at least 7 and at most 25."""
    start = time.perf_counter()
    runner.time(models[:MIN_NETWORKS], threads=target.threads, rounds=1, seed=seed)
    per_round = (time.perf_counter() - start) * len(models) / min(len(models), MIN_NETWORKS)
    rounds = int(np.clip(budget_s / max(per_round, 1e-6), 7, 25))
    return runner.time(
        models,
        threads=target.threads,
        rounds=rounds,
        min_seconds=min(2.5, budget_s),
        seed=seed,
        on_round=None if on_progress is None else lambda i, n: on_progress("timing", i, n),
    )
