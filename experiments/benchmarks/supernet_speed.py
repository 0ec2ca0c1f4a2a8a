"""What weight sharing costs: elastic against static networks, extraction, training, sampling.

Elastic forward: a subnet run inside its supernet against the same subnet extracted as a plain
module, both in eval mode without gradients, for 20 subnets drawn by seed; the geometric mean of
the ratios of the least times over rounds in which both take turns. The published spaces are run at
batch 1, each subnet at the resolution that it was drawn with; with `--resolution 224` only
Once-for-All's is, and all subnets at that resolution. Training: one sandwich step of
four networks against the sum of one static training step (forward, backward, clipping, AdamW) of
each of the same four networks. Everything on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from experiments.benchmarks.harness import benchmark_main, best_seconds, show
from search_spaces import CNNSpace, Genes, HybridSpace, SearchSpace, ViTSpace, standard_space
from supernet import Recipe, Subnet, Supernet, intra_op_threads
from supernet.training import Ranks, Sandwich, make_optimiser
from supernet.training.guard import Guard
from supernet.training.precision import LossScale
from supernet.training.source import SpaceMembers
from supernet.training.step import Stepper

SUBNETS = 20
SMALL: tuple[Callable[[], SearchSpace], ...] = (CNNSpace, ViTSpace, HybridSpace)
LARGE = ("ofa-mobilenetv3", "autoformer-tiny", "nasvit")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints all figures."""
    with intra_op_threads(1):
        if arguments.resolution is not None:
            return {"forward": at_resolution(arguments.resolution, arguments.rounds)}
        return {
            "forward": forward(arguments.rounds, arguments.skip_large),
            "extraction": extraction(),
            "training": training(arguments.rounds),
            "sampling": sampling(),
        }


def forward(rounds: int, skip_large: bool) -> list[dict[str, Any]]:
    """Elastic against static forward passes."""
    found: list[dict[str, Any]] = []
    for make in SMALL:
        space = make()
        found += [_forward(space, space.name, batch, rounds) for batch in (1, 16, 64)]
    for name in () if skip_large else LARGE:
        found.append(_forward(standard_space(name), name, 1, max(3, rounds // 3)))
    _show_forward(found)
    return found


def at_resolution(resolution: int, rounds: int) -> list[dict[str, Any]]:
    """The same for Once-for-All's space, all subnets at one resolution."""
    name = LARGE[0]
    space = standard_space(name).restrict({"resolution": [resolution]})
    found = [_forward(space, f"{name} at {resolution}", 1, max(3, rounds // 3))]
    _show_forward(found)
    return found


def _show_forward(found: Sequence[dict[str, Any]]) -> None:
    show(
        f"Elastic against static forward pass, {SUBNETS} subnets each, one thread",
        ["space", "pixels", "batch", "geometric mean", "greatest", "static, median ms"],
        [
            [f["space"], f["image_size"], f["batch_size"], f"{f['ratio']:.3f}",
             f"{f['greatest']:.3f}", f"{f['static_ms']:.2f}"]
            for f in found
        ],
    )  # fmt: skip


def _forward(space: SearchSpace, name: str, batch: int, rounds: int) -> dict[str, Any]:
    supernet = _ready(space)
    images = _images(space, batch)
    seconds = [_pair(supernet, row, images, rounds) for row in _rows(space)]
    ratios = [elastic / static for elastic, static in seconds]
    return {
        "space": name,
        "image_size": space.image_size,
        "batch_size": batch,
        "ratio": _geometric_mean(ratios),
        "greatest": max(ratios),
        "static_ms": 1e3 * float(np.median([static for _, static in seconds])),
    }


@torch.no_grad()
def _pair(
    supernet: Supernet, row: Genes, images: torch.Tensor, rounds: int
) -> tuple[float, float]:
    """Seconds of one elastic and of one static forward pass of a subnet."""
    graph = supernet.graph(row)
    statistics = supernet.recalibrate(row, [_images(supernet.space, 2)])
    subnet = supernet.extract(row, statistics).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    repeats = _repeats(lambda: subnet(images))
    seconds = best_seconds(
        {
            "elastic": lambda: [supernet(images, graph, statistics) for _ in range(repeats)],
            "static": lambda: [subnet(images) for _ in range(repeats)],
        },
        rounds=rounds,
    )
    return seconds["elastic"] / repeats, seconds["static"] / repeats


def extraction() -> list[dict[str, Any]]:
    """How long it takes to cut a network out, statistics given."""
    found: list[dict[str, Any]] = []
    for name in LARGE[:2]:
        space = standard_space(name)
        supernet = _ready(space)
        rows = _rows(space)
        parameters = space.layer_table(rows).parameters
        row = rows[np.abs(parameters - 5e6).argmin()]
        statistics = supernet.recalibrate(row, [_images(space, 2)])
        graph = supernet.graph(row)
        seconds = best_seconds({"cut": lambda: supernet.extract(graph, statistics)}, rounds=15)  # noqa: B023
        found.append(
            {"space": name, "parameters": int(space.layer_table(row[None]).parameters[0]),
             "seconds": seconds["cut"]}
        )  # fmt: skip
    show(
        "Extraction, one thread",
        ["space", "parameters", "ms"],
        [
            [f["space"], f"{f['parameters'] / 1e6:.2f} M", f"{1e3 * f['seconds']:.1f}"]
            for f in found
        ],
    )
    return found


def training(rounds: int) -> list[dict[str, Any]]:
    """One sandwich step of four networks against four static steps."""
    found: list[dict[str, Any]] = []
    recipe = Recipe(shards=1, members=Sandwich(random_subnets=2, largest_alone_share=0))
    for make in SMALL:
        space = replace(make(), image_size=32)
        sandwich, alone = _steps(space, recipe)
        # the four in one go: least times of short parts would add up to less than that of a whole
        turns = {"sandwich": sandwich, "static": lambda: [one() for one in alone.values()]}  # noqa: B023
        seconds = best_seconds(turns, rounds=max(5, rounds // 3))
        found.append({"space": space.name, "ratio": seconds["sandwich"] / seconds["static"],
                      "static_ms": 1e3 * seconds["static"]})  # fmt: skip
    show(
        "One sandwich step of 4 networks against 4 static training steps, batch 64, 32 pixels",
        ["space", "ratio", "4 static steps, ms"],
        [[f["space"], f"{f['ratio']:.3f}", f"{f['static_ms']:.0f}"] for f in found],
    )
    return found


def _steps(
    space: SearchSpace, recipe: Recipe
) -> tuple[Callable[[], object], dict[str, Callable[[], object]]]:
    supernet = _ready(space)
    optimiser = make_optimiser(supernet, recipe)
    members = SpaceMembers(supernet, recipe, seed=0).draw(0, 10, *_batch(space))
    images, labels = _batch(space)
    stepper = Stepper(
        network=supernet, recipe=recipe, guard=Guard(recipe, supernet, optimiser, 10),
        scale=LossScale("fp32"), ranks=Ranks(), pool=None, seed=0,
    )  # fmt: skip

    def sandwich() -> None:
        outcome = stepper(members, images, labels, 0, 0.0)
        assert outcome.gradients is not None
        for p, gradient in zip(supernet.parameters(), outcome.gradients, strict=True):
            p.grad = gradient
        nn.utils.clip_grad_norm_(supernet.parameters(), 1.0)
        optimiser.step()

    alone: dict[str, Callable[[], object]] = {}
    for place, member in enumerate(members):
        network = Subnet(member.graph).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        own = make_optimiser(network, recipe)

        def static(network: nn.Module = network, own: torch.optim.Optimizer = own) -> None:
            own.zero_grad()
            F.cross_entropy(network(images), labels, label_smoothing=0.1).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            own.step()

        alone[f"static {place}"] = static
    return sandwich, alone


def sampling() -> dict[str, float]:
    """Architectures drawn a second, in canonical form."""
    rates = {}
    for space in (*(make() for make in SMALL), standard_space("ofa-mobilenetv3")):
        rng = np.random.default_rng(0)
        seconds = best_seconds({"draw": lambda: space.sample(20_000, rng)}, rounds=7)  # noqa: B023
        rates[space.name] = 20_000 / seconds["draw"]
    show("Sampling, one thread", ["space", "architectures a second"],
         [[name, f"{rate:,.0f}"] for name, rate in rates.items()])  # fmt: skip
    return rates


def _ready(space: SearchSpace) -> Supernet:
    supernet = Supernet(space).eval()
    supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return supernet


def _rows(space: SearchSpace) -> Genes:
    return space.sample(SUBNETS, np.random.default_rng(0))


def _images(space: SearchSpace, n: int) -> torch.Tensor:
    shape = (n, space.channels, space.image_size, space.image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return images.to(memory_format=torch.channels_last)


def _batch(space: SearchSpace) -> tuple[torch.Tensor, torch.Tensor]:
    return _images(space, 64), torch.arange(64) % space.num_classes


def _repeats(function: Callable[[], object]) -> int:
    """Calls that together take about 5 ms, so that the clock is fine enough."""
    function()
    start = time.perf_counter()
    function()
    return max(1, round(5e-3 / (time.perf_counter() - start)))


def _geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each comparison")
    parser.add_argument("--skip-large", action="store_true", help="without the 224-pixel spaces")
    parser.add_argument("--resolution", type=int,
                        help="measure only Once-for-All's space, at this resolution")  # fmt: skip


if __name__ == "__main__":
    benchmark_main("supernet_speed", run, _arguments)
