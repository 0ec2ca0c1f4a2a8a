"""Networks and a runner made up for these tests."""

from dataclasses import dataclass

import numpy as np
import torch

from deployment import Timing
from experiments.baselines import ScaledResNet
from hardware_profiles import MemoryLevel, Profile, Quantity, Target
from search_spaces import CNNSpace, HybridSpace, SearchSpace, ViTSpace
from search_spaces.blocks import classifier, conv_norm_act, mbconv
from supernet import Subnet
from tests.search_spaces.zoo import Zoo


@dataclass(frozen=True, kw_only=True)
class OddSpace(SearchSpace):
    """What the other spaces do not have: norms that cannot be folded, groups, hardswish, v_dim."""

    def build(self, net, images):
        width = net.choice("width", (8, 12, 24))
        with net.scope("stem"):
            x = net.batch_norm(net.conv2d(images, width, kernel=3, bias=True))
            x = net.activation(x, "hardswish")
        with net.scope("twice"):  # the convolution is read by the norm and by the addition
            h = net.conv2d(x, width, kernel=3)
            x = net.add(h, net.batch_norm(h))
        with net.scope("alone"):  # no convolution before the norm
            x = net.activation(net.batch_norm(x), "gelu")
        with net.scope("grouped"):
            x = net.conv2d(x, 2 * width, kernel=5, stride=2, padding=1, groups=2)
        with net.scope("attention"):
            x = net.attention(
                net.layer_norm(net.to_tokens(x)), heads=3, qk_dim=4, v_dim=8, name="heads"
            )
            x = net.activation(net.linear(x, 24, bias=False, name="project"), "relu")
        return classifier(net, x, self.num_classes)


@dataclass(frozen=True, kw_only=True)
class GatedSpace(SearchSpace):
    """In the manner of MobileNetV3: gates, hard swish, choices of the activation."""

    def build(self, net, images):
        with net.scope("stem"):
            x = conv_norm_act(net, images, 16, kernel=3, activation="hardswish")
        stages = ((16, 1, "relu"), (32, 2, "any"), (48, 1, "hardswish"))
        for s, (width, stride, kind) in enumerate(stages):
            with net.scope(f"stage{s}"):
                depth = net.choice("depth", (1, 2))
                if kind == "any":
                    kind = net.choice("activation", ("relu", "hardswish", "silu", "relu6"))
                for i in range(2):
                    with net.scope(f"layer{i}"), net.when(depth > i):
                        x = mbconv(
                            net, x, width, kernel=net.choice("kernel", (3, 5)),
                            expansion=net.choice("expansion", (1, 2)),
                            stride=1 if i else stride, shortcut=i > 0, activation=kind,
                            se=net.choice("se", ("no", "yes")) == "yes", se_hidden=16,
                            expand_by_one=False,
                        )  # fmt: skip
        with net.scope("last"):
            x = conv_norm_act(net, x, 64, kernel=1, activation="hardswish")
        x = net.linear(net.global_pool(x), 32, name="head")
        return net.linear(net.activation(x, "hardswish"), self.num_classes, name="classifier")


CNN = CNNSpace(image_size=16)
VIT = ViTSpace(image_size=16, depths=(1, 2, 3))
HYBRID = HybridSpace(image_size=16)
RESNET = ScaledResNet(image_size=16, multipliers=(0.25, 0.5, 0.75, 1.0))
ODD = OddSpace(image_size=12)
GATED = GatedSpace(image_size=16)
ZOO = Zoo(image_size=16)
SPACES = {"cnn": CNN, "vit": VIT, "hybrid": HYBRID, "resnet": RESNET}


def rows_of(space, n, seed=0):
    """The extreme networks of a space, four at either end at most, and random ones."""
    ends = [space.extremes("smallest")[:4], space.extremes("largest")[-4:]]
    return np.concatenate([*ends, space.sample(n, np.random.default_rng(seed))])


def shaken_subnet(space, row, seed=0):
    """A subnet with all weights, biases and statistics away from what they start as."""
    subnet = Subnet(space.graph(row), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in subnet.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.mul_(torch.exp(0.5 * noise))
            else:
                value.add_(0.2 * value.abs().mean() * noise + 0.05 * noise)
    return subnet.eval()


def quantity(value):
    return Quantity(value=value, source="made up")


PROFILE = Profile(
    name="bench",
    kind="desktop-cpu",
    vendor="nobody",
    year=2025,
    description="A device made up for tests.",
    cores=quantity(4),
    peak_gflops={"fp32": quantity(40.0)},
    peak_gflops_per_thread={"fp32": quantity(10.0)},
    memory=(MemoryLevel(name="dram", bandwidth_gbps=quantity(10.0)),),
    runtimes={"onnxruntime": ""},
)
TARGET = Target(profile=PROFILE)


class CountingRunner:
    """Says that a file takes a microsecond a kilobyte, the k-th sample k per mille longer."""

    name = "counting"

    def __init__(self, samples=None):
        self.samples = samples
        self.calls = []

    def time(self, models, *, threads, rounds=7, runs=3, min_seconds=0.0, seed=0, on_round=None):
        self.calls.append({"models": list(models), "threads": threads, "seed": seed})
        n = rounds * runs if self.samples is None else self.samples
        return [
            Timing(
                samples_ms=tuple(len(model) * 1e-6 * (1 + k / 1000) for k in range(n)),
                rounds=rounds,
                preempted=float("nan"),
            )
            for model in models
        ]
