"""Accuracy and costs by precision: what a search over `search_spaces.WithPrecision` is given.

The precision of a network is a gene. `AccuracyByPrecision` hands each row to the evaluator of its
precision, `CostsByPrecision` to the cost model of its precision on one target. A target that has
no cost model for a precision does not run it: such a network is not allowed there, whatever it
costs. So an int8 target and an fp32 target share a search, each with the accuracy that its own
files have, and a network counts as measured once for each precision it was measured in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from records import BadInputError, Measured, content_hash, unknown_name
from search_spaces import Architecture, Genes, WithPrecision
from strategies.protocols import CostModel, Evaluator, Extreme, Floats

if TYPE_CHECKING:
    from strategies.precision_shipment import PrecisionRecipe


class AccuracyByPrecision:
    """An evaluator that asks the one of each network's precision.

    Args:
        space: The space with the choice of precision.
        evaluators: For each of its precisions an evaluator of networks of `space.base`.

    Raises:
        BadInputError: A precision without an evaluator, or evaluators of different metrics.
        UnknownNameError: An evaluator for another precision.
    """

    def __init__(self, space: WithPrecision, evaluators: Mapping[str, Evaluator]) -> None:
        _check_names(space, evaluators)
        lacking = [name for name in space.precisions if name not in evaluators]
        if lacking:
            raise BadInputError(
                f"networks may run in {', '.join(lacking)}, and no evaluator measures them so: "
                "give one, or leave the precision out of the space"
            )
        metrics = sorted({evaluator.metric for evaluator in evaluators.values()})
        if len(metrics) > 1:
            raise BadInputError(f"evaluators must measure one metric, got {', '.join(metrics)}")
        self.space = space
        self.evaluators = dict(evaluators)
        self.metric = metrics[0]

    @property
    def weights_hash(self) -> str:
        """Identifies the weights and how they are brought into each precision."""
        return content_hash({name: e.weights_hash for name, e in self.evaluators.items()})

    def evaluate(self, genes: Genes) -> Sequence[Measured]:
        """Measures each network in its own precision; one result a row, in order."""
        base, precision = self.space.to_base(genes), self.space.precision_of(genes)
        results: dict[int, Measured] = {}
        for name, evaluator in self.evaluators.items():
            places = np.flatnonzero(precision == name)
            if len(places):
                found = evaluator.evaluate(base[places])
                results.update(zip(places.tolist(), found, strict=True))
        return [results[i] for i in range(len(base))]

    def subnet(self, architecture: Architecture) -> Any:
        """The network as its precision's evaluator hands it out; the file is what is quantised."""
        base, precision = _base_of(self.space, architecture)
        return self.evaluators[precision].subnet(base)

    def shipment(self) -> tuple[PrecisionRecipe, dict[str, Any]]:
        """A recipe and the arrays it needs, for workers in other processes.

        Raises:
            BadInputError: The evaluator of a precision, which is named, cannot be sent.
        """
        from strategies.precision_shipment import shipment

        return shipment(self)


class CostsByPrecision:
    """The cost models of one device in several precisions, or in one of those of a space.

    A network in a precision without a cost model is given the costs of the first one, so that
    costs are finite; `runs` says that it does not count.

    Args:
        space: The space with the choice of precision.
        costs: For each precision that the target allows its cost model, of `space.base`.
        name: The target's name; by default that of the first cost model.

    Raises:
        BadInputError: No cost model.
        UnknownNameError: One for a precision that is not among the space's choices.
    """

    def __init__(
        self, space: WithPrecision, costs: Mapping[str, CostModel], *, name: str | None = None
    ) -> None:
        _check_names(space, costs)
        if not costs:
            raise BadInputError("a target needs a cost model for one precision at least, got none")
        self.space = space
        self.by_precision = dict(costs)
        self._first = next(iter(costs.values()))
        self.target_name = self._first.target_name if name is None else name

    @property
    def metrics(self) -> tuple[str, ...]:
        """The costs that are known in every precision."""
        known = [set(cost.metrics) for cost in self.by_precision.values()]
        return tuple(m for m in self._first.metrics if all(m in names for names in known))

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The costs that no measurement supports in one precision at least."""
        found = {m for c in self.by_precision.values() for m in getattr(c, "unmeasured", ())}
        return tuple(m for m in self.metrics if m in found)

    def runs(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Which networks are in a precision that the target allows, an array of length `n`."""
        return np.isin(self.space.precision_of(genes), list(self.by_precision))

    def predict(self, genes: Genes) -> Mapping[str, Floats]:
        """The expected value of each metric, arrays of length `n`."""
        found = {metric: np.empty(len(genes)) for metric in self.metrics}
        for cost, rows, places in self._split(genes):
            values = cost.predict(rows)
            for metric, column in found.items():
                column[places] = values[metric]
        return found

    def bound(self, metric: str, genes: Genes, probability: float = 0.95) -> Floats:
        """The values that the measured ones stay below with the given probability."""
        found = np.empty(len(genes))
        for cost, rows, places in self._split(genes):
            found[places] = cost.bound(metric, rows, probability)
        return found

    def extremes(self, metric: str) -> tuple[Extreme, Extreme] | None:
        """The exact (lowest, genes) and (highest, genes) over the precisions allowed."""
        lows: list[Extreme] = []
        highs: list[Extreme] = []
        for precision, cost in self.by_precision.items():
            ends = cost.extremes(metric)
            if ends is None:
                return None
            for (value, row), kept in zip(ends, (lows, highs), strict=True):
                kept.append((value, self.space.in_precision(np.atleast_2d(row), precision)))
        return min(lows, key=_value), max(highs, key=_value)

    def deploy(
        self,
        subnet: Any,
        architecture: Architecture,
        folder: Path,
        facts: Mapping[str, Any],
        **options: Any,
    ) -> Any:
        """Writes a network in its own precision; options are those of its cost model's `deploy`.

        Raises:
            BadInputError: The target does not allow the network's precision.
        """
        base, precision = _base_of(self.space, architecture)
        if precision not in self.by_precision:
            raise BadInputError(
                f"the network is in {precision} and {self.target_name!r} allows "
                f"{', '.join(self.by_precision)}; choose another point or target"
            )
        deploy: Any = self.by_precision[precision].deploy
        return deploy(subnet, base, folder, facts, **options)

    def _split(self, genes: Genes) -> list[tuple[CostModel, Genes, npt.NDArray[np.intp]]]:
        """For each precision its cost model, the base's rows, and their places."""
        base, precision = self.space.to_base(genes), self.space.precision_of(genes)
        parts = []
        for name in self.space.precisions:
            places = np.flatnonzero(precision == name)
            if len(places):
                parts.append((self.by_precision.get(name, self._first), base[places], places))
        return parts


def _check_names(space: WithPrecision, given: Mapping[str, object]) -> None:
    if not isinstance(space, WithPrecision):
        raise BadInputError(
            f"the space must have a choice of precision, such as WithPrecision(base=space, "
            f"precisions=('int8', 'fp32')); got {type(space).__name__}"
        )
    for name in given:
        if name not in space.precisions:
            raise unknown_name("precision", name, space.precisions)


def _base_of(space: WithPrecision, architecture: Architecture) -> tuple[Architecture, str]:
    """The network as an architecture of the base, and its precision."""
    genes = space.encode(architecture)
    return space.base.decode(space.to_base(genes))[0], str(space.precision_of(genes)[0])


def _value(extreme: Extreme) -> float:
    return extreme[0]
