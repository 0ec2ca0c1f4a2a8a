"""What measures a problem's accuracy, as a trainable of Ray Tune.

    trainable = evaluation_trainable(problem.accuracy, problem.space)

What the evaluator needs and is large (a supernet's weights, images) lies in Ray's object store,
once on each node. With `TuneConfig(reuse_actors=True)` a worker makes the evaluator once and keeps
it from trial to trial; else each trial makes it anew, which takes longer than measuring.
"""

from __future__ import annotations

from typing import Any

from ray import tune

from search_spaces import SearchSpace
from strategies.executor_evaluation import EvaluationError, Fault, outcomes
from strategies.executor_shipment import (
    Arrays,
    Recipe,
    check_can_travel,
    made,
    shipment_of,
    use_threads,
)
from strategies.protocols import Evaluator
from strategies.tune_config import genes_of

DISPERSION = "dispersion"
"""What a trial reports beside the accuracy, where the evaluator knows it: its dispersion."""


def evaluation_trainable(
    evaluator: Evaluator, space: SearchSpace, *, threads: int = 1
) -> type[tune.Trainable]:
    """A trainable that measures the architecture of its config, reports once and is done.

    Args:
        evaluator: What measures, e.g. `problem.accuracy`; it reports under its `metric`.
        space: The space of the architectures.
        threads: How many threads an evaluation uses.

    Raises:
        BadInputError: An evaluator that cannot be sent to another process.
    """
    shipment = shipment_of(evaluator)
    check_can_travel(shipment.recipe)
    trainable: type[tune.Trainable] = tune.with_parameters(
        EvaluationTrial,
        recipe=shipment.recipe,
        arrays=dict(shipment.arrays),
        space=space,
        threads=threads,
    )
    return trainable


class EvaluationTrial(tune.Trainable):  # type: ignore[misc]
    """One architecture after the other; use `evaluation_trainable`."""

    def setup(
        self,
        config: dict[str, Any],
        *,
        recipe: Recipe,
        arrays: Arrays,
        space: SearchSpace,
        threads: int,
    ) -> None:
        """Makes the evaluator."""
        use_threads(threads)
        self.evaluator = made(recipe, arrays, threads)
        self.space = space

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes another architecture; the evaluator stays."""
        return True

    def step(self) -> dict[str, Any]:
        """Measures the architecture.

        Raises:
            EvaluationError: It could not be measured.
            BadInputError: The config has no architecture.
        """
        (outcome,) = outcomes(self.evaluator, genes_of(self.config, self.space))
        if isinstance(outcome, Fault) or outcome.value is None:
            raise EvaluationError(outcome.reason)
        result = {self.evaluator.metric: outcome.value, "done": True}
        return result if outcome.dispersion is None else {**result, DISPERSION: outcome.dispersion}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """There is nothing to keep: a trial is one step."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """See `save_checkpoint`."""
