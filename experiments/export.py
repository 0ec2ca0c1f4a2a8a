"""From a front to bundles: choose points, emit, time together, judge the predictions, write."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deployment import Bundle, LocalRunner, Timing, deploy, int8_accuracy
from deployment.bundles.input import Interface
from deployment.bundles.making import made_files, unselected_variant
from experiments.blocks import blocks
from experiments.front_file import precisions_record
from experiments.measuring import Reference, record_timings, time_together, time_with_reference
from latency_models import CostModel, MeasuredCostModel, target_model
from records import Ledger, generator, storage_error
from search_spaces import Architecture, Genes, SearchSpace
from strategies import Front, FrontPoint, pareto_front
from supernet import ImageData, Split, Subnet, accuracy

INHERITED = "inherited from a supernet, batch norm recalibrated; not trained further"
"""What was done to the weights of an exported network."""

CALIBRATION_IMAGES = 256
"""Training images that set the scales of static int8 files."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """A network that is to be exported.

    Attributes:
        name: The bundle's folder name.
        title: What it stands for, e.g. `knee`.
        kind: `searched` or `baseline`.
        genes: Its row in the space of its cost model.
        subnet: The network with its weights.
        cost: The cost model of its target and space, as fitted before this network was timed.
        validation_accuracy: On the search-validation split.
    """

    name: str
    title: str
    kind: str
    genes: Genes
    subnet: Subnet
    cost: CostModel
    validation_accuracy: float

    @property
    def architecture(self) -> Architecture:
        """Its choices."""
        return self.cost.space.decode(self.genes)[0]

    @property
    def fp32_blocks(self) -> tuple[str, ...]:
        """The blocks that stay in fp32 in an int8 file, where the space chooses them."""
        return self.cost.fp32_blocks(self.subnet, self.architecture)

    @property
    def unbiased_cost(self) -> CostModel:
        """The cost model without this network, where it was among those that it is fitted to."""
        cost = self.cost
        return cost.without(self.genes) if isinstance(cost, MeasuredCostModel) else cost


def choose(front: Front, target: str, cost: CostModel, points: int) -> list[Chosen]:
    """Points of a target's front: fastest, knee, most accurate, others spread between.

    Where the front has fewer points than asked, those of the next fronts join, as `next best`.
    """
    own = front.for_target(target)
    picked = list(own.spread(points))
    knee = own.knee()
    if knee not in picked and len(picked) > 2:
        middle = picked[1:-1]
        nearest = min(middle, key=lambda p: abs(np.log(p.latency_ms / knee.latency_ms)))
        picked[picked.index(nearest)] = knee
    picked += _next_best(front, target, picked, points - len(picked))
    picked.sort(key=lambda p: p.latency_ms)
    best = max(picked, key=lambda p: p.accuracy)
    chosen = []
    for index, point in enumerate(picked):
        title = _title(point, own, best, knee)
        chosen.append(
            Chosen(
                name=f"{target}-{index}",
                title=title,
                kind="searched",
                genes=np.array(point.genes, np.int16),
                subnet=front.problem.accuracy.subnet(point.architecture),
                cost=cost,
                validation_accuracy=point.accuracy,
            )
        )
    return chosen


def _next_best(
    front: Front, target: str, picked: Sequence[FrontPoint], count: int
) -> list[FrontPoint]:
    """Points of the front of what is left without those picked, again until there are enough."""
    found: list[FrontPoint] = []
    observations = () if front.result is None else front.result.observations
    while len(found) < count:
        taken = {point.genes for point in [*picked, *found]}
        left = [o for o in observations if o.genes not in taken]
        following = pareto_front(front.problem, left).for_target(target)
        if not len(following):
            break
        found += following.spread(count - len(found))
    return found


def _title(point: FrontPoint, own: Front, best: FrontPoint, knee: FrontPoint) -> str:
    if point == best:
        return "most accurate"
    if point == own[0]:
        return "fastest"
    if point == knee:
        return "knee"
    return "between" if point in own.points else "next best"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timed:
    """A chosen network with what was predicted before it was timed, and its timing.

    The timing is None where no runner reaches the target. `drift` is how much slower networks
    timed for the calibration ran when timed again beside it.
    """

    chosen: Chosen
    predicted: dict[str, Any]
    timing: Timing | None
    drift: float

    @property
    def error(self) -> float | None:
        """Predicted over measured latency, minus one; None where it was not measured."""
        if self.timing is None:
            return None
        return float(self.predicted["latency_ms"] / self.timing.latency_ms - 1)

    @property
    def latency_ms(self) -> float:
        """The measured latency, or the predicted one where it was not measured."""
        if self.timing is None:
            return float(self.predicted["latency_ms"])
        return self.timing.latency_ms

    def predicted_as(self, before: Timed) -> Timed:
        """This timing with what was predicted before, and the cost model that predicted it.

        Both go together: the blocks of a report are parts of the predicted latency.
        """
        chosen = replace(self.chosen, cost=before.chosen.cost)
        return replace(self, chosen=chosen, predicted=before.predicted)


def time_chosen(
    chosen: Sequence[Chosen],
    ledger: Ledger,
    *,
    seed: int,
    calibration_images: torch.Tensor | None = None,
) -> list[Timed]:
    """Predicts the costs of one target's networks, then times their exported files together.

    Their cost model's runner times them, among files that it was fitted to; without a runner they
    are predicted only. Calibration images are needed where the target runs static int8.

    A network that was among those timed for the calibration is predicted by the model fitted to
    the others, so that no prediction rests on the network it is about.
    """
    cost = chosen[0].cost
    target = cost.target
    predicted = [one.unbiased_cost.record(one.genes) for one in chosen]
    if cost.runner is None or not isinstance(cost, MeasuredCostModel):
        return [
            Timed(chosen=c, predicted=p, timing=None, drift=1.0)
            for c, p in zip(chosen, predicted, strict=True)
        ]
    models = [
        made_files(
            one.subnet,
            unselected_variant(one.subnet, target, cost.quantisation, one.fp32_blocks),
            target,
            Interface(),
            calibration_images,
        ).timed
        for one in chosen
    ]
    reference = Reference.of(cost)
    timings, drift = time_with_reference(models, target, cost.runner, reference, seed=seed)
    for one, timing in zip(chosen, timings, strict=True):
        record_timings(ledger, one.cost.space, target, one.genes[None], [timing])
    return [
        Timed(chosen=c, predicted=p, timing=t, drift=drift)
        for c, p, t in zip(chosen, predicted, timings, strict=True)
    ]


def write_bundle(
    timed: Timed,
    data: ImageData,
    folder: Path,
    *,
    weights_hash: str,
    seed: int,
    source: Mapping[str, Any] | None = None,
) -> Bundle:
    """Verifies a timed network and writes its bundle.

    One that an interrupted run left there is replaced: the run has timed its networks anew.
    The test split is read here, once, after everything has been chosen.

    Args:
        timed: The network.
        data: The images.
        folder: Where its folder is made.
        weights_hash: Of the supernet.
        seed: Derives random inputs.
        source: How to load the images again, as `experiments.finished_run` does.
    """
    one = timed.chosen
    space = one.cost.space
    remove_bundle(folder / one.name)
    return deploy(
        one.subnet,
        folder / one.name,
        target=one.cost.target,
        architecture=one.architecture.to_json(),
        space=space.to_json(),
        predicted=timed.predicted,
        facts=_facts(one, data, weights_hash, source),
        runner=one.cost.runner,
        timing=timed.timing,
        images=data.validation.images[:128],
        seed=seed,
        quantisation=one.cost.quantisation,
        calibration_images=data.train.images[:CALIBRATION_IMAGES],
        fp32_blocks=one.fp32_blocks,
        interface=Interface(class_names=data.class_names, normalisation=data.normalisation),
        test=data.test,
        cold_starts=1,
    )


def file_accuracy(network: Subnet, split: Split, cost: CostModel, data: ImageData) -> float:
    """The share of a split's images whose class a network's file for a target predicts.

    A file in fp32 computes what torch does, as the bundle verifies; one in int8 does not.
    """
    if cost.target.precision != "int8":
        return accuracy(network, split)
    is_static = cost.quantisation == "static"
    images = data.train.images[:CALIBRATION_IMAGES].numpy() if is_static else None
    return int8_accuracy(network, split, mode=cost.quantisation, images=images)


def remove_bundle(folder: Path) -> None:
    """Removes a bundle; whatever else is there stays, and is refused when one is written.

    Raises:
        StorageError: The disk refuses.
    """
    if not (folder / "bundle.json").is_file():
        return
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise storage_error(folder, error, doing="remove") from error


def _facts(
    one: Chosen, data: ImageData, weights_hash: str, source: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "title": one.title,
        "kind": one.kind,
        "dataset": data.name,
        "source": None if source is None else dict(source),
        "validation_accuracy": one.validation_accuracy,
        "validation_images": len(data.validation),
        "supernet_weights_hash": weights_hash if one.kind == "searched" else "",
        "training": INHERITED if one.kind == "searched" else "trained alone, with the same recipe",
    }


def fresh_networks(space: SearchSpace, known: Genes, count: int, seed: int) -> Genes:
    """Random networks that no cost model was fitted to."""
    seen = {row.tobytes() for row in np.ascontiguousarray(known, np.int16)}
    rows = space.sample(20 * count, generator(seed, "fresh networks"))
    rows = np.ascontiguousarray(np.unique(rows, axis=0), np.int16)
    rows = rows[generator(seed, "fresh order").permutation(len(rows))]
    return np.array([row for row in rows if row.tobytes() not in seen][:count], np.int16)


def time_fresh(cost: MeasuredCostModel, rows: Genes, ledger: Ledger, seed: int) -> list[Timing]:
    """Times exported networks with random weights by a cost model's runner."""
    space, target = cost.space, cost.target
    models = [target_model(space, row, target, cost.quantisation) for row in rows]
    timings = time_together(models, target, cost.runner or LocalRunner(), seed=seed)
    record_timings(ledger, space, target, rows, timings)
    return timings


def point_record(timed: Timed, bundle: Bundle, out: Path) -> dict[str, Any]:
    """What `front.json` tells of an exported network."""
    one = timed.chosen
    record, facts = bundle.record, bundle.record["facts"]
    measured = record["measured"]
    predicted = record["predicted"]
    return {
        "name": one.name,
        "target": record["target"]["name"],
        "kind": one.kind,
        "title": one.title,
        "architecture": record["architecture"],
        "validation_accuracy": one.validation_accuracy,
        "test_accuracy": facts["test_accuracy"],
        "test_interval_95": facts["test_interval_95"],
        "test_images": facts["test_images"],
        "predicted": predicted,
        "measured": {
            k: measured.get(k)
            for k in ("latency_ms", "dispersion_ms", "median_ms", "p90_ms", "source")
        },
        "drift": timed.drift,
        "latency_error": timed.error,
        "parameters": record["parameters"],
        "macs": record["macs"],
        "precision": record["precision"],
        **precisions_record(one.cost.space, one.architecture),
        "relative_difference": bundle.agreement.relative_difference,
        "file": str(bundle.model_path.relative_to(out)),
        "blocks": [
            {name: getattr(block, name) for name in type(block).__slots__}
            for block in blocks(one.subnet.graph, one.unbiased_cost.parts(one.genes))
        ],
    }
