"""`front.json`: everything that a run found, in one documented file.

The schema is in `docs/front.md`. The file is written last and at once; its presence says that the
run is complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.precision_option import precisions
from latency_models import CostModel, MeasuredCostModel
from records import CorruptFileError, read_json
from search_spaces import Architecture, SearchSpace
from strategies import Front
from supernet import ImageData

FORMAT = "hwnas-front-1"
SEARCH_FORMAT = "hwnas-search-1"
"""Of a search whose networks were not made into files."""

FRONT = "front.json"


def dataset_record(data: ImageData) -> dict[str, Any]:
    """A dataset's name and sizes."""
    return {
        "name": data.name,
        "train": len(data.train),
        "validation": len(data.validation),
        "test": len(data.test),
        "classes": data.num_classes,
        "image_size": data.image_size,
        "channels": data.channels,
    }


def space_record(space: SearchSpace) -> dict[str, Any]:
    """A space's name, parameters and size."""
    return {
        "name": space.name,
        "hash": space.hash,
        "cardinality": f"{space.cardinality:.3g}",
        "choices": len(space.choices),
        "description": (type(space).__doc__ or "").strip().splitlines()[0],
        "definition": space.to_json(),
    }


def target_record(cost: CostModel, front: Front) -> dict[str, Any]:
    """A target, the quality of its cost model, its reachable ranges and limits."""
    assert front.result is not None
    target = cost.target
    return {
        "name": target.name,
        "device": target.profile.name,
        "description": target.profile.description,
        "threads": target.threads,
        "batch_size": target.batch_size,
        "runtime": target.runtime,
        "precision": target.precision,
        "cost_model": _cost_model_record(cost),
        "reachable": [
            {"metric": r.metric, "lowest": r.lowest, "highest": r.highest, "exact": r.exact}
            for r in front.result.feasibility.ranges
            if r.target == target.name
        ],
        "limits": {
            c.metric: c.limit for c in front.problem.constraints if c.target == target.name
        },
    }


def _cost_model_record(cost: CostModel) -> dict[str, Any]:
    """How good a cost model is; nothing is known of one that rests on no measurement."""
    if not isinstance(cost, MeasuredCostModel):
        names = ("mape", "median_error", "within_5_percent", "spearman")
        return {"networks": 0, **dict.fromkeys(names), "source": cost.latency_source}
    quality = cost.quality
    return {
        "networks": len(cost.genes),
        "mape": quality.mape,
        "median_error": quality.median_error,
        "within_5_percent": quality.within_5_percent,
        "spearman": quality.spearman,
        "source": cost.latency_source,
    }


def search_record(front: Front, costs: Sequence[CostModel]) -> dict[str, Any]:
    """How the search went: every evaluation, the growth of the fronts, the predictor."""
    result = front.result
    assert result is not None
    ok = [o for o in result.observations if o.value is not None]
    genes = np.array([o.genes for o in ok], np.int16)
    latency = {cost.target_name: cost.latency_ms(genes) for cost in costs}
    allowed = front.problem.allows(genes)
    quality = result.quality
    return {
        "evaluations": len(result.observations),
        "failed": len(result.observations) - len(ok),
        "strategy": result.strategy,
        "predictor": None
        if quality is None
        else {
            "n": quality.count,
            "kendall_tau": _number(quality.kendall_tau),
            "mape": _number(quality.mape),
            "macs_kendall_tau": _number(quality.macs_kendall_tau),
        },
        "history": {
            target: result.history.hypervolumes[:, t].tolist()
            for t, target in enumerate(result.history.targets)
        },
        "evaluated": [
            {
                "accuracy": o.value,
                "latency_ms": {name: float(values[i]) for name, values in latency.items()},
                "feasible": bool(allowed[i].any()),
                "allowed": [
                    name
                    for name, fits in zip(front.problem.targets, allowed[i], strict=True)
                    if fits
                ],
            }
            for i, o in enumerate(ok)
        ],
    }


def compromise_record(
    front: Front, points: Sequence[Mapping[str, Any]], count: int = 3
) -> dict[str, Any] | None:
    """Networks that are good on all targets; None for one target, or where none suits all.

    Args:
        front: The front of all targets.
        points: The records of exported networks, to tell which of the networks are among them.
        count: How many networks at most.
    """
    if len(front.problem.targets) < 2 or not front.shared:
        return None
    found = front.compromise(count)
    return {
        "rule": found.rule,
        "weights": dict(found.weights),
        "regret": dict(found.regret),
        "hypervolume": dict(found.hypervolume),
        "networks": [
            {
                "architecture": network.architecture.to_json(),
                "validation_accuracy": network.accuracy,
                "latency_ms": {name: p.latency_ms for name, p in network.points.items()},
                "behind": dict(network.behind),
                "exported": [
                    point["name"]
                    for point in points
                    if point["architecture"] == network.architecture.to_json()
                ],
            }
            for network in found
        ],
    }


def precisions_record(space: SearchSpace, architecture: Architecture) -> dict[str, Any]:
    """The `precisions` of a network by stage; nothing where the space does not choose them."""
    found = precisions(space, architecture)
    return {"precisions": found} if found else {}


def read_front(path: str | Path, expected: str = FORMAT) -> dict[str, Any]:
    """Reads a `front.json` of a format.

    Raises:
        CorruptFileError: Another kind of file.
    """
    value = read_json(path, kind="front")
    if not isinstance(value, dict) or value.get("format") != expected:
        got = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise CorruptFileError(f"{path} is not a front of this version: its format is {got!r}")
    return value


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if value != value else value
