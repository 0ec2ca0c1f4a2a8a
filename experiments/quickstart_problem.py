"""What the main job searches for: accuracy as the targets' files have it, costs, limits."""

from __future__ import annotations

from collections.abc import Sequence

from deployment import QuantisedEvaluator
from deployment.quantisation.accuracy import IMAGES
from experiments.closing import warned_already
from experiments.config import SearchConfig
from experiments.target_options import limits_by_metric
from latency_models import CostModel
from records import BadInputError
from search_spaces import WithBlockPrecision
from strategies import Evaluator, Problem
from supernet import ImageData, Supernet


def make_problem(
    config: SearchConfig, data: ImageData, supernet: Supernet, costs: Sequence[CostModel]
) -> Problem:
    """The problem of a run.

    The two targets of this machine are one device: every network keeps the limits, which hold for
    one image. Named targets judge for themselves unless the run says `together`.

    Raises:
        BadInputError: Targets of different precisions, or limits that do not fit the targets.
    """
    limits: dict[str | tuple[str, str], float] = {}
    for cost, option in zip(costs, config.target_options, strict=False):
        own = {**config.limits, **limits_by_metric(option.limits)}
        limits.update({(metric, cost.target_name): value for metric, value in own.items()})
    if not config.targets:
        limits = {(m, costs[0].target_name): value for m, value in config.limits.items()}
    weights = [option.weight for option in config.target_options]
    with warned_already():
        return Problem(
            costs[0].space,  # the supernet's, with precisions where they are a choice
            _evaluator(data, supernet, costs),
            costs,
            limits,
            together=config.together or not config.targets,
            weights=dict(zip([c.target_name for c in costs], weights, strict=False)),
        )


def _evaluator(data: ImageData, supernet: Supernet, costs: Sequence[CostModel]) -> Evaluator:
    """What measures accuracy as the files of the targets have it."""
    ways = {c.quantisation if c.target.precision == "int8" else "" for c in costs}
    if len(ways) > 1:
        named = ", ".join(f"{c.target_name} ({c.target.precision})" for c in costs)
        raise BadInputError(
            f"the targets of a run must have files of one precision, quantised alike; got {named}."
            " Make a run for each, or let the search choose the precision of each stage with "
            "--precision mixed; a front for either is for a script: WithPrecision in "
            "docs/strategies.md"
        )
    evaluator = supernet.evaluator(data)
    (way,) = ways
    if not way:
        return evaluator
    space = costs[0].space
    return QuantisedEvaluator(
        evaluator,
        mode=way,
        space=space if isinstance(space, WithBlockPrecision) else None,
        images=min(IMAGES, len(data.train)),
    )
