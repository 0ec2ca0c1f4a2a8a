"""From a subnet to an open file: how long a search waits for each network that it times.

The network is AutoFormer-T (5.7 M parameters, 224 pixels). Its file is emitted, serialised and
opened in onnxruntime, beside torch's two exporters: by tracing (`dynamo=False`) and the newer one
(`dynamo=True`), which needs the package `onnxscript`. Of the emitter the best and the median of
several turns are told; torch's exporters run a few times, after a smaller network that loads what
they need.

The last row is the choice of kernels for the same network on this machine, all forms and numbers
in turns with one thread; its accuracy is judged on made-up images, which takes as long as on
others.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from deployment import LocalRunner, emit, open_session
from deployment.selection.select import select_kernels
from experiments.benchmarks.harness import benchmark_main, show
from hardware_profiles import local_target
from search_spaces import ViTSpace
from search_spaces.standard import AutoFormerSpace
from supernet import Split, Subnet

GOAL_SECONDS = 0.25
SELECTION_GOAL_SECONDS = 60.0
JUDGED = 64
"""Images that a loss of accuracy is judged on, and as many set the scales of int8."""

TURNS = 15
TORCH_TURNS = {"dynamo=False": 3, "dynamo=True": 2}
OPSET = 20


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints the table."""
    torch.set_num_threads(1)
    subnet = autoformer()
    figures: dict[str, Any] = {
        "parameters": subnet.graph.parameters,
        "goal_seconds": GOAL_SECONDS,
        "hwnas": of_emitter(subnet),
        "torch": {name: of_torch(subnet, name) for name in TORCH_TURNS},
    }
    if not arguments.no_selection:
        figures["selection"] = of_selection(subnet)
    _show(figures)
    return figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """To leave out what takes longest."""
    parser.add_argument(
        "--no-selection", action="store_true", help="do not choose kernels, which takes a minute"
    )


def autoformer() -> Subnet:
    """AutoFormer-T with random weights."""
    space = AutoFormerSpace.tiny()
    (row,) = space.encode(space.published("AutoFormer-T"))
    return Subnet(space.graph(row)).eval()


def of_emitter(subnet: Subnet) -> dict[str, dict[str, float]]:
    """Seconds of each step and of all three: the best and the median of several turns."""
    times: dict[str, list[float]] = {"emit": [], "serialise": [], "open": [], "together": []}
    for turn in range(TURNS + 1):
        start = time.perf_counter()
        model = emit(subnet)
        emitted = time.perf_counter()
        data = model.SerializeToString()
        serialised = time.perf_counter()
        open_session(data)
        end = time.perf_counter()
        if turn:  # the first loads what is needed once
            times["emit"].append(emitted - start)
            times["serialise"].append(serialised - emitted)
            times["open"].append(end - serialised)
            times["together"].append(end - start)
    return {name: _summary(values) for name, values in times.items()}


def of_torch(subnet: Subnet, name: str) -> dict[str, float] | str:
    """Seconds of an exporter with opening its file, or why there are none."""
    if name == "dynamo=True" and importlib.util.find_spec("onnxscript") is None:
        return "onnxscript is not installed"
    small = ViTSpace(image_size=16, depths=(1, 2))
    _export(Subnet(small.graph(small.extremes("smallest")[0])).eval(), name)
    return _summary([_timed(lambda: _export(subnet, name)) for _ in range(TORCH_TURNS[name])])


def of_selection(subnet: Subnet) -> dict[str, Any]:
    """Seconds of a choice of kernels, and what was chosen."""
    first = subnet.graph.layers[0]
    generator = torch.Generator().manual_seed(0)
    shape = (JUDGED, first.channels, first.height, first.width)
    images = torch.randn(shape, generator=generator)
    with torch.no_grad():
        labels = torch.cat([subnet(image[None]).argmax(1) for image in images])
    start = time.perf_counter()
    selection = select_kernels(
        subnet,
        local_target(threads=1, batch_size=1),
        runner=LocalRunner(),
        validation=Split(images, labels),
        calibration_images=images,
        seconds=SELECTION_GOAL_SECONDS,
    )
    return {
        "seconds": time.perf_counter() - start,
        "goal_seconds": SELECTION_GOAL_SECONDS,
        "tried": len(selection.tried),
        "default_ms": selection.default.latency_ms,
        "chosen_ms": selection.chosen.latency_ms,
        "chosen": selection.chosen.variant.to_json(),
    }


def _export(subnet: Subnet, name: str) -> None:
    first = subnet.graph.layers[0]
    images = torch.zeros(1, first.channels, first.height, first.width)
    exporters = logging.getLogger("torch.onnx")
    level = exporters.level
    exporters.setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(
                subnet, (images,), path, dynamo=name == "dynamo=True", opset_version=OPSET,
                external_data=False, verbose=False,
            )  # fmt: skip
        finally:
            exporters.setLevel(level)
        open_session(path)


def _timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _summary(seconds: list[float]) -> dict[str, float]:
    return {"best": min(seconds), "median": statistics.median(seconds)}


def _show(figures: dict[str, Any]) -> None:
    rows = [
        [f"hwnas: {name}" if name != "together" else "hwnas, all three", *_cells(values)]
        for name, values in figures["hwnas"].items()
    ]
    for name, values in figures["torch"].items():
        cells = [values, ""] if isinstance(values, str) else _cells(values)
        rows.append([f"torch.onnx.export({name}), open", *cells])
    if "selection" in figures:
        values = figures["selection"]
        title = f"choice of kernels, {values['tried']} tried (goal: {SELECTION_GOAL_SECONDS:g} s)"
        rows.append([title, f"{values['seconds']:.1f}", ""])
    show(
        f"From a subnet of {figures['parameters'] / 1e6:.1f} M parameters to an open file "
        f"(goal: {GOAL_SECONDS} s)",
        ["", "best, s", "median, s"],
        rows,
    )


def _cells(values: dict[str, float]) -> list[str]:
    return [f"{values['best']:.3f}", f"{values['median']:.3f}"]


if __name__ == "__main__":
    benchmark_main("export_speed", run, add_arguments)
