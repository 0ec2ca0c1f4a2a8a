"""The planned peak of activations against what onnxruntime reports.

Random networks of several spaces are exported with random weights and run once with the profiler
on (`deployment.memory.reading`); the plan (`deployment.memory.plan`) knows their genes alone.
Shown is the share of networks whose peak is equal, within 1 % and within 5 %, for the plan with
the arena, the plan without it, and, as it was before, one tensor a kernel that lives to its last
reader.

Spaces with a resolution of their own are taken at their size, the others at the smallest that they
allow. The blocks of channels are those of this processor.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from deployment import emit
from deployment.memory.order import in_order
from deployment.memory.plan import planned
from deployment.memory.reading import activation_peak
from deployment.memory.steps import MemorySteps
from experiments.benchmarks.harness import benchmark_main, show
from experiments.verify_command import space_to_prove
from hardware_profiles.machine import instruction_sets
from records import generator
from search_spaces import SearchSpace
from supernet import Subnet

SPACES = (
    "cnn", "vit", "hybrid", "ofa-mobilenetv3", "mnasnet", "fbnet", "attentive-nas", "nasvit",
    "nas-bench-macro", "nas-bench-201", "vit-resnas-tiny", "autoformer-tiny", "efficientformer",
    "ascan",
)  # fmt: skip
OWN = ("cnn", "vit", "hybrid")
SIDE = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be asked for."""
    parser.add_argument("--networks", type=int, default=20, help="random networks of each space")
    parser.add_argument("--spaces", nargs="*", default=list(SPACES), help="names of spaces")
    parser.add_argument("--seed", type=int, default=0, help="derives the networks")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures all spaces and prints the table."""
    found = {}
    for name in arguments.spaces:
        space = space_to_prove(name, SIDE if name in OWN else None)
        found[name] = of_space(space, arguments.networks, arguments.seed)
    rows = [
        [
            name,
            f"{f['side']}",
            *(f"{100 * f['with_arena'][key]:.0f} %" for key in ("equal", "within_1", "within_5")),
            f"{100 * f['with_arena']['worst']:.1f} %",
            f"{100 * f['plan_alone']['within_5']:.0f} %",
            f"{100 * f['one_tensor_a_layer']['within_5']:.0f} %",
            f"{f['networks_a_second']:,.0f}",
        ]
        for name, f in found.items()
    ]
    head = ["space", "side", "equal", "within 1 %", "within 5 %", "worst", "without arena: 5 %",
            "one tensor a kernel: 5 %", "planned a second"]  # fmt: skip
    show(f"peak of activations, {arguments.networks} random networks each", head, rows)
    return found


def of_space(space: SearchSpace, networks: int, seed: int) -> dict[str, Any]:
    """The figures of one space."""
    block = 16 if any(name.startswith("avx512") for name in instruction_sets()) else 8
    rows = space.sample(networks, generator(seed, "memory_model"))
    reported = np.array([
        activation_peak(emit(Subnet(space.graph(row)).eval(), 1).SerializeToString())
        .activation_bytes
        for row in rows
    ])  # fmt: skip
    steps = MemorySteps(space, channel_block=block)
    steps.steps(rows[:1])  # makes the tables
    began = time.perf_counter()
    plan = planned(in_order(steps.steps(rows)))
    with_arena = plan.arena_peak_bytes
    seconds = time.perf_counter() - began
    images = 4 * space.channels * space.image_size**2
    simple = space.layer_table(rows).peak_activation_bytes() - images
    return {
        "side": space.image_size,
        "networks": networks,
        "networks_a_second": networks / seconds,
        "with_arena": shares(with_arena, reported),
        "plan_alone": shares(plan.peak_bytes, reported),
        "one_tensor_a_layer": shares(np.asarray(simple), reported),
    }


def shares(planned_bytes: Any, reported: Any) -> dict[str, float]:
    """How often the two agree, and how far apart they are at worst."""
    error = np.abs(planned_bytes / reported - 1)
    return {
        "equal": float((error == 0).mean()),
        "within_1": float((error <= 0.01).mean()),
        "within_5": float((error <= 0.05).mean()),
        "worst": float(error.max()),
        "mean_signed": float((planned_bytes / reported - 1).mean()),
    }


if __name__ == "__main__":
    benchmark_main("memory_model", run, add_arguments)
