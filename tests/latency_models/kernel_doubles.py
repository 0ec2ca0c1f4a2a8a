"""Kernels whose latencies follow a known formula, files that list them, a runner that adds up."""

import json

import numpy as np

from deployment import KINDS, Timing
from deployment.kernel_tables.descriptions import DESCRIPTION, KernelDescription
from deployment.kernel_tables.files import KernelFile, kernel_network, one_network
from latency_models.kernel_costs import measuring
from latency_models.kernel_costs.table import tuple_of
from records import CorruptFileError

BASE_MS = 0.008
COST_NS = (0.05, 0.04, 0.12, 0.03, 0.05, 0.02, 0.02, 0.02, 0.02, 0.06, 0.05, 0.04, 0.02)
"""For each kind, of a product."""


def kernel_ms(kernel):
    """The formula: no linear function of the work, but smooth in the logarithms of sizes."""
    work = COST_NS[kernel.kind] * kernel.padded_macs**0.97 * (1 + 2 / kernel.in_channels**0.5)
    moved = 0.4 * (kernel.read_elements + kernel.write_elements) ** 0.9
    return 1e-6 * (600 + work + moved + 0.1 * kernel.weight_elements)


def network_ms(kernels):
    return BASE_MS + sum(kernel_ms(kernel) for kernel in kernels)


def _written(kernels):
    return json.dumps([list(tuple_of(k)) for k in kernels]).encode()


def list_kernels_in_files(monkeypatch):
    """Makes `measure_kernels` write files that list their kernels instead of ONNX."""

    def file(kernel, *, batch_size, channel_block, copies):
        nodes = kernel_network(kernel, copies)
        kernels = one_network(nodes, batch_size=batch_size, channel_block=channel_block)
        return KernelFile(
            model=_written(kernels), kernels=tuple(kernels), copies=kernels.count(kernel)
        )

    made = []

    def network(self, space, row):
        real = original(self, space, row)
        made.append(real.kernels)
        return measuring._File(real.what, real.kernels, _written(real.kernels), None)

    original = measuring._Session._network_file
    monkeypatch.setattr(measuring, "kernel_file", file)
    monkeypatch.setattr(measuring._Session, "_network_file", network)
    monkeypatch.setattr(measuring, "random_weights_model", lambda space, row, batch: b"")
    return made


class AddingRunner:
    """Adds up the kernels that a file lists, with relative noise."""

    name = "adding"

    def __init__(self, noise=0.0, refuses=(), interrupted_after=None):
        self.noise = noise
        self.refuses = {KINDS.index(kind) for kind in refuses}
        self.interrupted_after = interrupted_after
        self.calls = 0
        self._rng = np.random.default_rng(0)

    def time(self, models, *, threads, rounds=7, runs=3, min_seconds=0.0, seed=0, on_round=None):
        self.calls += 1
        if self.interrupted_after is not None and self.calls > self.interrupted_after:
            raise KeyboardInterrupt
        timings = []
        for model in models:
            kernels = [KernelDescription(*row) for row in json.loads(model)]
            for kernel in kernels:
                if kernel.kind in self.refuses:
                    raise CorruptFileError(f"no such operator: {kernel.kind_name}")
            value = network_ms(kernels) * (1 + self.noise * self._rng.standard_normal())
            timings.append(Timing(samples_ms=(value * 1.2, value), rounds=2, preempted=0.0))
        return timings


def a_kernel(**changes):
    """A pointwise convolution of 32 to 64 channels on 8x8, or one that differs from it."""
    row = dict.fromkeys(DESCRIPTION, 0)
    row |= {
        "kind": 1,
        "operator": 1,
        "in_channels": 32,
        "channels": 64,
        "in_height": 8,
        "in_width": 8,
        "height": 8,
        "width": 8,
        "kernel": 1,
        "stride": 1,
        "dilation": 1,
        "groups": 1,
        "inputs": 1,
        "macs": 32 * 64 * 64,
        "padded_macs": 32 * 64 * 64,
        "read_elements": 32 * 64,
        "write_elements": 64 * 64,
        "weight_elements": 32 * 64,
    }
    return KernelDescription(**(row | changes))
