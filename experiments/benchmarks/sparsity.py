"""Does any runtime here gain from zeros in the weights?

Three stacks of layers stand for what subnets are made of: linear maps on the tokens of a ViT,
linear maps on a single row (where reading the weights takes the time, not multiplying), and 3x3
convolutions. Each with dense weights, with two zeros in every four (2:4), and with 50 to 90 % of
all blocks of 1x16 weights zero. In onnxruntime, fp32 and int8; in OpenVINO, fp32 and int8 with its
decompression of sparse weights asked for; in torch as they are, and with the matrices kept as
sparse ones (CSR; and by blocks, which torch multiplies with on the processor only where they are
square, so these have blocks of 4x4 zero). Everything of a stack is timed in one round-robin.

The figures are latencies of the dense weights in the same runtime and numbers over those of the
sparse ones: above 1, zeros help. For sparse matrices of torch it is its own dense product that
they are held against.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from deployment import noise_floor
from deployment.quantisation.quantised import quantise
from deployment.runtimes import OnnxRuntimeNetwork, Opened, time_in_turns
from deployment.runtimes.openvino_runtimes import (
    OpenVinoInt8,
    OpenVinoNetwork,
    by_nncf,
    read_model,
)
from deployment.runtimes.torch_runtimes import TorchNetwork
from experiments.benchmarks.harness import benchmark_main, show
from experiments.console import say
from records import generator

Array = npt.NDArray[np.float32]

BLOCK = 16
SQUARE = 4
BY_BLOCKS = "torch blocks of 4x4"
SHARES = (0.5, 0.7, 0.9)
GAIN = 1.05
"""A smaller gain than this is none, nor is one below `NOISES` times what repeating changes."""
NOISES = 3.0

DECOMPRESSION = "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"
"""Property of OpenVINO: from which share of zeros on it packs 8-bit weights (with AMX only)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Layers of one kind, one after the other, with ReLU between them.

    Attributes:
        name: For tables.
        shape: Of the input: rows x channels, or n x channels x height x width.
        widths: Channels of the input and behind each layer.
        kernel: Of convolutions; 0 for linear maps.
    """

    name: str
    shape: tuple[int, ...]
    widths: tuple[int, ...]
    kernel: int = 0

    def weights(self, rng: np.random.Generator) -> list[Array]:
        """Dense weights, `out x in` or `out x in x kernel x kernel`."""
        tail = (self.kernel, self.kernel) if self.kernel else ()
        shapes = [(b, a, *tail) for a, b in zip(self.widths, self.widths[1:], strict=False)]
        return [
            (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
            for shape in shapes
        ]


STACKS = (
    Stack(name="linear, 196 tokens", shape=(196, 192), widths=(192, *(768, 192) * 4)),
    Stack(name="linear, one row", shape=(1, 768), widths=(768, *(3072, 768) * 2)),
    Stack(name="conv 3x3, 14 x 14", shape=(1, 96, 14, 14), widths=(96,) * 7, kernel=3),
)


def two_of_four(weight: Array) -> Array:
    """The two smallest of every four weights of a row set to zero."""
    rows = weight.reshape(len(weight), -1)
    fours = rows.reshape(len(rows), -1, 4)
    least = np.argsort(np.abs(fours), axis=2, kind="stable")[..., :2]
    kept = fours.copy()
    np.put_along_axis(kept, least, 0, axis=2)
    return kept.reshape(weight.shape)


def blocks_of_16(weight: Array, share: float) -> Array:
    """A share of all blocks of 16 neighbours in a row set to zero, those of the least norm."""
    blocks = weight.reshape(-1, BLOCK)
    norms = np.linalg.norm(blocks, axis=1)
    kept = blocks.copy()
    kept[np.argsort(norms, kind="stable")[: round(share * len(blocks))]] = 0
    return kept.reshape(weight.shape)


def square_blocks(weight: Array, share: float) -> Array:
    """A share of all blocks of 4x4 of a matrix set to zero, those of the least norm."""
    rows, columns = weight.shape
    blocks = weight.reshape(rows // SQUARE, SQUARE, columns // SQUARE, SQUARE)
    norms = np.linalg.norm(blocks, axis=(1, 3))
    gone = np.argsort(norms.ravel(), kind="stable")[: round(share * norms.size)]
    kept = np.ones(norms.size, bool)
    kept[gone] = False
    return (blocks * kept.reshape(norms.shape)[:, None, :, None]).reshape(weight.shape)


PATTERNS: dict[str, Callable[[Array], Array]] = {
    "dense": lambda weight: weight,
    "2:4": two_of_four,
    **{f"1x16, {share:.0%}": partial(blocks_of_16, share=share) for share in SHARES},
}

SQUARE_PATTERNS: dict[str, Callable[[Array], Array]] = {
    f"1x16, {share:.0%}": partial(square_blocks, share=share) for share in SHARES
}
"""What stands in the same column for `BY_BLOCKS`."""


def onnx_file(stack: Stack, weights: list[Array]) -> bytes:
    """A stack as ONNX."""
    nodes, constants, x = [], [], "images"
    for i, weight in enumerate(weights):
        constants.append(numpy_helper.from_array(weight, f"w{i}"))
        if stack.kernel:
            pads = [stack.kernel // 2] * 4
            nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"y{i}"], f"y{i}", pads=pads))
        else:
            nodes.append(helper.make_node("Gemm", [x, f"w{i}"], [f"y{i}"], f"y{i}", transB=1))
        nodes.append(helper.make_node("Relu", [f"y{i}"], [f"x{i}"], f"x{i}"))
        x = f"x{i}"
    nodes[-1].output[0] = "logits"
    out = (stack.shape[0], stack.widths[-1], *stack.shape[2:])
    graph = helper.make_graph(
        nodes, "stack",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, list(stack.shape))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, list(out))],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def torch_forward(
    stack: Stack, weights: list[Array], form: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A stack in torch: dense, or with sparse matrices, "csr" or "blocks"."""
    tensors = [torch.from_numpy(weight) for weight in weights]
    if form == "csr":
        tensors = [weight.to_sparse_csr() for weight in tensors]
    elif form == "blocks":
        tensors = [weight.to_sparse_bsr((SQUARE, SQUARE)) for weight in tensors]

    def forward(x: torch.Tensor) -> torch.Tensor:
        for weight in tensors:
            if stack.kernel:
                x = torch.nn.functional.conv2d(x, weight, padding=stack.kernel // 2).relu()
            elif form == "dense":
                x = torch.nn.functional.linear(x, weight).relu()
            else:  # sparse @ dense is what torch has fast products for
                x = (weight @ x.T).T.relu()
        return x

    return forward


def ways(stack: Stack, threads: int, images: Array) -> dict[str, Callable[[list[Array]], Opened]]:
    """What opens a stack with some weights, by name; those that are installed."""

    def static(weights: list[Array]) -> bytes:
        return quantise(onnx_file(stack, weights), mode="static")

    def dynamic(weights: list[Array]) -> bytes:
        return quantise(onnx_file(stack, weights), mode="dynamic")

    def ort(name: str, write: Callable[[list[Array]], bytes]) -> Callable[[list[Array]], Opened]:
        return lambda weights: OnnxRuntimeNetwork(name, write(weights), threads)

    def in_torch(form: str) -> Callable[[list[Array]], Opened]:
        return lambda weights: TorchNetwork(
            f"torch {form}", torch_forward(stack, weights, form), stack.shape, threads
        )

    found = {"onnxruntime fp32": ort("onnxruntime fp32", lambda w: onnx_file(stack, w))}
    if stack.kernel:
        found["onnxruntime int8 static"] = ort("onnxruntime int8 static", static)
    else:
        found["onnxruntime int8 dynamic"] = ort("onnxruntime int8 dynamic", dynamic)
        found["onnxruntime int8 static"] = ort("onnxruntime int8 static", static)
    found |= _openvino_ways(stack, threads, images)
    found["torch dense"] = in_torch("dense")
    if not stack.kernel:  # torch convolves with dense weights only
        found |= {"torch csr": in_torch("csr"), BY_BLOCKS: in_torch("blocks")}
    return found


def _openvino_ways(
    stack: Stack, threads: int, images: Array
) -> dict[str, Callable[[list[Array]], Opened]]:
    if not OpenVinoInt8().is_installed:
        return {}

    def fp32(weights: list[Array]) -> Opened:
        return OpenVinoNetwork("fp32", read_model(onnx_file(stack, weights)), threads)

    def int8(weights: list[Array]) -> Opened:
        model = by_nncf(read_model(onnx_file(stack, weights)), list(images), False)
        rate = {DECOMPRESSION: 0.4} if float(np.mean(weights[0] == 0)) > 0.4 else {}
        return OpenVinoNetwork("int8", model, threads, properties=rate)

    return {"OpenVINO fp32": fp32, "OpenVINO int8": int8}


def measured(
    stack: Stack, threads: int, rounds: int, seed: int
) -> tuple[dict[str, dict[str, float]], float]:
    """Milliseconds of every way with every pattern, all timed in turns, and the noise of it."""
    rng = generator(seed, "sparsity", stack.name)
    dense = stack.weights(rng)
    images = rng.standard_normal((8, *stack.shape)).astype(np.float32)
    networks: dict[tuple[str, str], Opened] = {}
    for name, make in ways(stack, threads, images).items():
        for pattern, prune in patterns_of(name).items():
            weights = [prune(weight) for weight in dense]
            networks[name, pattern] = opened = make(weights)
            if "int8" not in name:
                check(stack, opened, weights, images[0])
    timings = time_in_turns(list(networks.values()), rounds=rounds, min_seconds=1.0, seed=seed)
    found: dict[str, dict[str, float]] = {}
    for (name, pattern), timing in zip(networks, timings, strict=True):
        found.setdefault(name, {})[pattern] = timing.latency_ms
    return found, noise_floor(timings)


def patterns_of(way: str) -> dict[str, Callable[[Array], Array]]:
    """What is pruned for a way; sparse matrices are held against torch's dense ones."""
    if way == BY_BLOCKS:
        return SQUARE_PATTERNS
    return {p: f for p, f in PATTERNS.items() if way != "torch csr" or p != "dense"}


def check(stack: Stack, opened: Opened, weights: list[Array], images: Array) -> None:
    """Makes sure that what is timed computes the stack."""
    with torch.no_grad():
        wanted = torch_forward(stack, weights, "dense")(torch.from_numpy(images)).numpy()
    with opened.running():
        opened.bind(images)
        opened.run()
    np.testing.assert_allclose(opened.logits(), wanted, rtol=1e-3, atol=1e-4)


def gains(found: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Dense latency over sparse latency, for each way and pattern."""
    return {
        name: {
            pattern: found[name if "dense" in own else "torch dense"]["dense"] / latency
            for pattern, latency in own.items()
            if pattern != "dense"
        }
        for name, own in found.items()
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures all stacks and prints the ratios."""
    logging.basicConfig(level=logging.WARNING)
    warnings.filterwarnings("ignore", message="Sparse (CSR|BSR) tensor support")
    figures: dict[str, Any] = {}
    best: list[tuple[float, str]] = []
    for stack in STACKS:
        found, noise = measured(stack, arguments.threads, arguments.rounds, arguments.seed)
        ratios = gains(found)
        figures[stack.name] = {"latency_ms": found, "gain": ratios, "noise": noise}
        patterns = [p for p in PATTERNS if p != "dense"]
        show(
            f"{stack.name}: dense latency over sparse latency; above 1, zeros help; repeating "
            f"changes {noise:.1%}",
            ["runtime", "dense, ms", *patterns],
            [
                [name, _ms(found[name].get("dense")), *(_ratio(own.get(p)) for p in patterns)]
                for name, own in ratios.items()
            ],
        )
        best += [
            (gain, f"{name} on {stack.name}, {pattern}")
            for name, own in ratios.items()
            for pattern, gain in own.items()
            if gain >= max(GAIN, 1 + NOISES * noise)
        ]
    useful = sorted(best, reverse=True)
    if useful:
        say("gains: " + "; ".join(f"{name} {gain:.2f}x" for gain, name in useful))
    else:
        say(f"no runtime here gains {GAIN - 1:.0%} or more from zeros in any of these forms")
    return figures


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    benchmark_main("sparsity", run, _arguments)
