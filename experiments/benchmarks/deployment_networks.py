"""The ten networks of `deployment_speed`, drawn by seed from fronts, and kept in a folder.

At 32 pixels the fronts are those of searches by accuracy on Fashion-MNIST in the supernets that
`supernet_quality` keeps in its folder; where a family has none there, one is trained for one pass
over few images. From 64 pixels on nothing is trained: the front is that of the networks' entropy
(`predictors.entropy`) against their modelled latency, and the weights are random. Speed does not
depend on what a network has learned; what int8 costs it does, so for these networks it is told as
agreement with the network in fp32, not as accuracy.

All latencies here are modelled, from the data sheet of one device, so that the networks are the
same wherever the benchmark runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from experiments.benchmarks.kept_accuracies import CachedEvaluator
from experiments.benchmarks.quality_jobs import Budget, Job
from experiments.benchmarks.supernet_quality import RECIPES
from experiments.datasets import load_dataset
from experiments.spaces import ImageSizes, make_space
from hardware_profiles import Target, device
from latency_models import RooflineCostModel
from predictors import entropy
from records import CorruptFileError, generator, read_json, write_json
from search_spaces import Genes, SearchSpace, standard_space
from strategies import NSGA2, Problem, search
from strategies.dominance import is_non_dominated
from supernet import ImageData, Split, Subnet, Supernet, load_supernet, save_supernet, train

logger = logging.getLogger(__name__)

FAMILIES = ("cnn", "vit", "hybrid")
DATASET = "fashion-mnist"
TRAIN_IMAGES = 20_000
JUDGED = 2000
"""Images that a loss of accuracy is judged on."""

FEWEST_JUDGED = 128
"""Of large images; one that differs is then more than half a point, so none may."""

CALIBRATION = 256
EVALUATIONS = 60
POPULATION, GENERATIONS = 100, 30

PROFILE = "core-i9-9900k"
"""The device whose data sheet the fronts are made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One network of the benchmark.

    Attributes:
        name: Family and image size, such as "vit-224".
        subnet: The network in eval mode.
        is_trained: Whether its weights were trained.
        source: The front that it is from.
        judged: Images for the loss through int8; labels are true ones for a trained network, and
            the classes that it predicts in fp32 for the others.
        calibration: Training images that set the scales of int8.
    """

    name: str
    subnet: Subnet
    is_trained: bool
    source: str
    judged: Split
    calibration: torch.Tensor

    @property
    def family(self) -> str:
        """Of `FAMILIES`."""
        return self.name.partition("-")[0]


def _by_name(family: str, image_size: int) -> Callable[[], SearchSpace]:
    return lambda: make_space(family, ImageSizes(image_size))


UNTRAINED: dict[str, Callable[[], SearchSpace]] = {
    "vit-64": _by_name("vit", 64),
    "cnn-96": _by_name("cnn", 96),
    "vit-96": _by_name("vit", 96),
    "hybrid-96": _by_name("hybrid", 96),
    "cnn-224": lambda: standard_space("ofa-mobilenetv3", width=1.0, resolutions=(224,)),
    "vit-224": lambda: standard_space("autoformer-tiny"),
    "hybrid-224": lambda: standard_space("nasvit", image_size=224, resolutions=(224,)),
}
"""Spaces of the networks with random weights."""

NETWORKS = (*(f"{family}-32" for family in FAMILIES), *UNTRAINED)
"""All ten."""

COMPILED = ("cnn-32", "vit-64", "hybrid-32")
"""Those that `torch.compile` is shown on; it takes tens of seconds each."""


def drawn_network(name: str, folder: Path, supernets: Path, seed: int) -> Drawn:
    """A network of `NETWORKS`, from the folder if it was drawn before.

    Args:
        name: Of `NETWORKS`.
        folder: Where networks and measured accuracies are kept.
        supernets: The folder of `supernet_quality`.
        seed: Of searches and of the draw.
    """
    place = folder / f"{name}-{seed}"
    if not (place / "graph.json").exists():
        make = _untrained if name in UNTRAINED else _trained
        subnet, facts = make(name, folder, supernets, seed)
        subnet.save(place)
        write_json(folder / f"{name}-{seed}.json", facts)
    subnet = Subnet.load(place)
    facts = read_json(folder / f"{name}-{seed}.json", kind="network of the benchmark")
    is_trained = name not in UNTRAINED
    judged, calibration = _images(subnet, is_trained)
    return Drawn(
        name=name,
        subnet=subnet,
        is_trained=is_trained,
        source=facts["source"],
        judged=judged,
        calibration=calibration,
    )


def _drawn_row(genes: Genes, seed: int, name: str) -> Genes:
    """One row of a front; the ends are left out where there is something between them."""
    inner = genes[1:-1] if len(genes) > 2 else genes
    return np.asarray(inner[generator(seed, "deployment speed", name).integers(len(inner))])


def _costs(space: SearchSpace) -> RooflineCostModel:
    return RooflineCostModel(space, Target(profile=device(PROFILE)))


def _trained(name: str, folder: Path, supernets: Path, seed: int) -> tuple[Subnet, dict[str, Any]]:
    """A network of the front that a search finds in a trained supernet."""
    family, data = name.partition("-")[0], _data()
    supernet, origin = trained_supernet(family, folder, supernets, data)
    folder.mkdir(parents=True, exist_ok=True)
    known = CachedEvaluator(supernet.evaluator(data), folder / f"{family}-accuracies.jsonl")
    problem = Problem(supernet.space, accuracy=known, costs=[_costs(supernet.space)])
    front = search(problem, evaluations=EVALUATIONS, seed=seed)
    rows = np.array([point.genes for point in sorted(front, key=lambda p: p.latency_ms)], np.int16)
    row = _drawn_row(rows, seed, name)
    architecture = supernet.space.decode(row[None])[0]
    source = f"accuracy against modelled latency, {EVALUATIONS} evaluations, {origin}"
    return known.subnet(architecture), {
        "source": source, "front": len(rows), "genes": row.tolist(),
    }  # fmt: skip


def trained_supernet(
    family: str, folder: Path, supernets: Path, data: ImageData
) -> tuple[Supernet, str]:
    """A family's supernet for Fashion-MNIST and where it is from; trained briefly if need be."""
    job = Job(family=family, budget=Budget(dataset=DATASET, images=TRAIN_IMAGES),
              recipe=RECIPES[family], seed=0, rows=(), alone=False, folder=supernets)  # fmt: skip
    others = sorted(supernets.glob(f"{family}-supernet-*.json"))
    wanted = make_space(family, data).hash
    for path in (job.checkpoint, *(other.with_suffix(".safetensors") for other in others)):
        if not path.exists():
            continue
        try:
            supernet = load_supernet(path)
        except CorruptFileError as error:
            logger.warning("%s", error)
            continue
        if supernet.space.hash == wanted:
            return supernet, f"supernet {path.name}"
    path = folder / f"{family}-supernet.safetensors"
    if not path.exists():
        logger.info("training a supernet of the %s space for one pass (once)", family)
        folder.mkdir(parents=True, exist_ok=True)
        supernet = Supernet(make_space(family, data), seed=0)
        train(supernet, data, epochs=1, recipe=RECIPES[family], seed=0)
        save_supernet(supernet, path)
    return load_supernet(path), "supernet trained for one pass"


def _untrained(
    name: str, folder: Path, supernets: Path, seed: int
) -> tuple[Subnet, dict[str, Any]]:
    """A network of the front of entropy against modelled latency, with random weights."""
    space = UNTRAINED[name]()
    rows = design_front(space, seed)
    row = _drawn_row(rows, seed, name)
    return Subnet(space.graph(row), seed=seed).eval(), {
        "source": "entropy against modelled latency, random weights",
        "front": len(rows),
        "genes": row.tolist(),
    }


def design_front(space: SearchSpace, seed: int, generations: int = GENERATIONS) -> Genes:
    """The networks of most entropy for their modelled latency that an evolution meets.

    As in `strategies.DeepMAD`, those are left out that are deeper for their width than the usual
    random network.
    """
    costs = _costs(space)
    random = space.sample(POPULATION, generator(seed, "deployment speed", "design"))
    usual = float(np.nanmedian(entropy(space.layer_table(random)).effectiveness))
    evolution = NSGA2(space, population_size=POPULATION, seed=seed)
    met, values = [], []
    for _ in range(generations):
        genes = evolution.ask(POPULATION)
        if not len(genes):
            break
        found = entropy(space.layer_table(genes))
        excess = np.maximum(0.0, found.effectiveness / usual - 1)
        objectives = np.column_stack([-found.score, costs.costs(genes).latency_ms])
        evolution.tell(genes, objectives, excess)
        met.append(genes[excess <= 0])
        values.append(objectives[excess <= 0])
    rows, objectives = np.concatenate(met), np.concatenate(values)
    front = is_non_dominated(objectives)
    rows, objectives = rows[front], objectives[front]
    return rows[np.argsort(objectives[:, 1], kind="stable")]


@lru_cache(maxsize=1)
def _data() -> ImageData:
    return load_dataset(DATASET, train_images=TRAIN_IMAGES)


def _images(subnet: Subnet, is_trained: bool) -> tuple[Split, torch.Tensor]:
    """Images to judge int8 by, and others that set its scales, at the network's size."""
    data, first = _data(), subnet.graph.layers[0]
    few = JUDGED if is_trained else max(FEWEST_JUDGED, JUDGED * 32**2 // first.height**2)
    chosen = data.validation.images[:few]
    shape = (first.channels, first.height, first.width)
    images, calibration = (
        _resized(x, shape) for x in (chosen, data.train.images[: min(CALIBRATION, few)])
    )
    labels = data.validation.labels[:few]
    if not is_trained:
        with torch.no_grad():
            labels = torch.cat([subnet(part).argmax(1) for part in torch.split(images, 32)])
    return Split(images, labels), calibration


def _resized(images: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Images as a network takes them: its size, its channels."""
    channels, *size = shape
    if tuple(images.shape[1:]) == shape:
        return images
    large = F.interpolate(images, size=tuple(size), mode="bilinear", align_corners=False)
    return large.expand(-1, channels, -1, -1).contiguous()
