"""What is sent to workers for evaluators by precision: all that each of them sends, once.

Evaluators of several precisions measure the networks of one supernet on the same images; what they
have in common is among the arrays once. An evaluator without a `shipment` travels in the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from records import BadInputError
from records.shared_arrays import add_arrays, named_arrays
from search_spaces import WithPrecision
from strategies.executor_shipment import Arrays, Recipe, check_can_travel, shipment_of

if TYPE_CHECKING:
    from strategies.precision import AccuracyByPrecision


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionRecipe:
    """Makes a worker's evaluator of the arrays that `shipment` gave.

    Attributes:
        space: The space with the choice of precision.
        recipes: For each precision what makes its evaluator.
        names: For each precision, by the names that its recipe knows, the names that were sent.
    """

    space: WithPrecision
    recipes: Mapping[str, Recipe]
    names: Mapping[str, Mapping[str, str]]

    def __call__(self, arrays: Arrays, threads: int) -> AccuracyByPrecision:
        """Makes the evaluator of each precision.

        Args:
            arrays: What was sent.
            threads: How many threads an evaluation may use.
        """
        from strategies.precision import AccuracyByPrecision

        evaluators = {
            precision: recipe(named_arrays(arrays, self.names[precision]), threads)
            for precision, recipe in self.recipes.items()
        }
        return AccuracyByPrecision(self.space, evaluators)


def shipment(evaluator: AccuracyByPrecision) -> tuple[PrecisionRecipe, dict[str, Any]]:
    """The recipe and the arrays that a worker needs to measure in every precision.

    Raises:
        BadInputError: The evaluator of a precision, which is named, cannot be sent.
    """
    sent: dict[str, npt.NDArray[Any]] = {}
    recipes, names = {}, {}
    for precision, one in evaluator.evaluators.items():
        try:
            part = shipment_of(one)
            check_can_travel(part.recipe)
        except BadInputError as error:
            raise BadInputError(f"in {precision}, {error}") from error
        recipes[precision] = part.recipe
        names[precision] = add_arrays(sent, part.arrays, f"{precision}/")
    return PrecisionRecipe(space=evaluator.space, recipes=recipes, names=names), sent
