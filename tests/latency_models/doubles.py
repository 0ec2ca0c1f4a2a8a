"""A device, spaces, latencies that follow a known formula, and a runner that makes them up."""

from dataclasses import dataclass

import numpy as np
import onnx

from deployment import KINDS, Lowering, Timing
from hardware_profiles import MemoryLevel, Profile, Quantity, Target
from search_spaces import CNNSpace, HybridSpace, SearchSpace, ViTSpace
from search_spaces.blocks import classifier
from search_spaces.expression import is_equal


def quantity(value):
    return Quantity(value=value, source="made up")


def level(name, size, one, whole):
    return MemoryLevel(
        name=name,
        size_bytes=None if size is None else quantity(size),
        bandwidth_gbps_per_thread=None if one is None else quantity(one),
        bandwidth_gbps=None if whole is None else quantity(whole),
    )


PROFILE = Profile(
    name="bench",
    kind="desktop-cpu",
    vendor="nobody",
    year=2025,
    description="A device made up for tests.",
    cores=quantity(4),
    peak_gflops={"fp32": quantity(40.0), "int8": quantity(160.0)},
    peak_gflops_per_thread={"fp32": quantity(10.0), "int8": quantity(40.0)},
    memory=(
        level("l1d", 32 << 10, 100.0, 400.0),
        level("l2", 256 << 10, 40.0, 160.0),
        level("dram", 1 << 30, 10.0, 25.0),
    ),
    idle_power_w=quantity(0.5),
    pj_per_op={"fp32": quantity(2.0)},
    pj_per_byte={"l1d": quantity(1.0), "l2": quantity(5.0), "dram": quantity(100.0)},
    kernel_launch_us=quantity(2.0),
    runtimes={"onnxruntime": ""},
)
TARGET = Target(profile=PROFILE)

HYBRID = HybridSpace(image_size=16)
CNN = CNNSpace(image_size=16)
VIT = ViTSpace(image_size=16)


@dataclass(frozen=True, kw_only=True)
class SwapSpace(SearchSpace):
    """Every layer is one 3x3 or nine 1x1 convolutions: the same MACs and weights either way."""

    def build(self, net, images):
        width = net.choice("width", (16, 32))
        x = net.conv2d(images, width, kernel=3, name="stem")
        for i in range(4):
            with net.scope(f"layer{i}"):
                block = net.choice("block", ("one", "nine"))
                with net.when(is_equal(block, "one")):
                    x = net.conv2d(x, width, kernel=3, name="one")
                with net.when(is_equal(block, "nine")):
                    for k in range(9):
                        x = net.conv2d(x, width, kernel=1, name=f"nine{k}")
        return classifier(net, x, self.num_classes)


@dataclass(frozen=True, kw_only=True)
class OneConvolution(SearchSpace):
    """A 3x3 convolution to 16 or 32 channels, mean, classifier."""

    image_size: int = 8

    def build(self, net, images):
        x = net.conv2d(images, net.choice("width", (16, 32)), kernel=3)
        return classifier(net, x, self.num_classes)


BASE_MS = 0.02
NS_PER_FEATURE = {
    "convolution": {"active": 900, "padded_macs": 0.10, "write_elements": 0.3},
    "pointwise": {"active": 700, "padded_macs": 0.07, "read_elements": 0.2},
    "depthwise": {"active": 500, "padded_macs": 0.25, "write_elements": 0.4},
    "gemm": {"active": 600, "padded_macs": 0.06, "weight_elements": 0.1},
    "attention": {"active": 4000, "padded_macs": 0.08, "score_elements": 2.0},
    "layer_norm": {"active": 800, "read_elements": 0.9},
    "elementwise": {"active": 400, "write_elements": 0.8},
    "pool": {"active": 600, "read_elements": 0.3},
    "layout": {"active": 900, "write_elements": 1.1},
}


def planted_ms(space, genes, *, batch_size=1, noise=0.0, seed=0):
    """Latencies that are sums over kernels, with relative noise; length `n`."""
    table = Lowering(space, batch_size=batch_size).table(genes)
    kind = table.column("kind")
    total = np.full(len(genes), BASE_MS)
    for name, weights in NS_PER_FEATURE.items():
        mine = (kind == KINDS.index(name)) & (table.column("active") > 0)
        for feature, ns in weights.items():
            total += 1e-6 * ns * (table.column(feature) * mine).sum(axis=1)
    return total * (1 + noise * np.random.default_rng(seed).standard_normal(len(genes)))


def sampled(space, n, seed=0):
    """Distinct networks in random order, the extremes among them."""
    ends = [space.extremes("smallest"), space.extremes("largest")]
    rows = np.concatenate([*ends, space.sample(20 * n, np.random.default_rng(seed))])
    _, first = np.unique(rows, axis=0, return_index=True)
    return rows[np.sort(first)][:n]


class WeighingRunner:
    """Says that a file takes a nanosecond a weight, and remembers how it was asked."""

    name = "weighing"

    def __init__(self):
        self.calls = []

    def time(self, models, *, threads, rounds=7, runs=3, min_seconds=0.0, seed=0, on_round=None):
        self.calls.append(
            {
                "models": list(models),
                "threads": threads,
                "rounds": rounds,
                "min_seconds": min_seconds,
                "seed": seed,
            }
        )
        if on_round is not None:
            for done in range(rounds):
                on_round(done + 1, rounds)
        return [
            Timing(
                samples_ms=tuple(weighed_ms(m) * slow for slow in (1.5, 1.0, 1.0, 1.5)),
                rounds=4,
                preempted=0.0,
            )
            for m in models
        ]


def weighed_ms(model):
    """What `WeighingRunner` says about a file."""
    graph = onnx.load_from_string(model).graph
    return 0.01 + 1e-6 * sum(int(np.prod(entry.dims)) for entry in graph.initializer)
