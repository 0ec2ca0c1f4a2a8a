"""Extraction: the subnet computes what the supernet's slice computes, and costs what is counted.

For 200 random architectures of each space: the largest difference of logits between the supernet
(with the subnet's recalibrated statistics) and the extracted module, between the module and its
ONNX file for 20 of them, and whether MACs and parameters of the layer table equal those counted on
the module.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch import nn

from deployment import emit, verify
from experiments.benchmarks.harness import benchmark_main, show
from search_spaces import CNNSpace, HybridSpace, SearchSpace, ViTSpace
from supernet import Subnet, Supernet

ARCHITECTURES = 200
EXPORTED = 20


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures all three spaces and prints a table."""
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    for space in (CNNSpace(), ViTSpace(), HybridSpace()):
        figures[space.name] = extraction(space)
    rows = [
        [
            name,
            ARCHITECTURES,
            f"{f['largest_difference']:.1e}",
            f"{f['onnx_relative_difference']:.1e}",
            f"{f['macs_equal']} of {ARCHITECTURES}",
            f"{f['parameters_equal']} of {ARCHITECTURES}",
        ]
        for name, f in figures.items()
    ]
    show(
        "Extraction",
        [
            "space",
            "architectures",
            "slice vs module",
            "torch vs ONNX",
            "equal MACs",
            "equal parameters",
        ],
        rows,
    )
    return figures


def extraction(space: SearchSpace, seed: int = 0) -> dict[str, Any]:
    """The figures of one space."""
    generator = torch.Generator().manual_seed(seed)
    supernet = Supernet(space, seed=seed).eval()
    for parameter in supernet.parameters():
        if parameter.ndim == 1:  # norms and biases start as identity: make them matter
            nn.init.normal_(parameter, mean=0.5, std=0.2, generator=generator)
    shape = (8, space.channels, space.image_size, space.image_size)
    images = torch.randn(shape, generator=generator)
    genes = space.sample(ARCHITECTURES, np.random.default_rng(seed))
    table = space.layer_table(genes)
    largest, onnx, macs_equal, parameters_equal = 0.0, 0.0, 0, 0
    for i, row in enumerate(genes):
        statistics = supernet.recalibrate(row, [torch.randn(shape, generator=generator)])
        subnet = supernet.extract(row, statistics)
        with torch.no_grad():
            difference = (supernet(images, row, statistics) - subnet(images)).abs().max()
        largest = max(largest, float(difference))
        macs_equal += counted_macs(subnet, images[:1]) == table.macs[i]
        parameters = sum(p.numel() for p in subnet.parameters())
        parameters_equal += parameters == table.parameters[i]
        if i < EXPORTED:
            onnx = max(onnx, verify(subnet, emit(subnet), images).relative_difference)
    return {
        "largest_difference": largest,
        "onnx_relative_difference": onnx,
        "macs_equal": int(macs_equal),
        "parameters_equal": int(parameters_equal),
    }


def counted_macs(subnet: Subnet, image: torch.Tensor) -> int:
    """Multiply-accumulates counted on the running module, from the shapes that pass through it."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif hasattr(module, "layer") and hasattr(module, "weight"):  # self-attention
            assert isinstance(module.weight, torch.Tensor)
            tokens, width = inputs[0].shape[1:]
            rows = module.weight.shape[0]
            values = output.shape[2]
            queries = (rows - values) // 2
            total += tokens * width * rows + tokens * tokens * (queries + values)

    hooks = [m.register_forward_hook(count) for m in subnet.modules()]
    with torch.no_grad():
        subnet(image)
    for hook in hooks:
        hook.remove()
    return total


if __name__ == "__main__":
    benchmark_main("extraction", run)
