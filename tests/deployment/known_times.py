"""A runner that takes known times, and a clock that only it moves."""

import numpy as np
import onnx

from deployment import Timing


class Clock:
    """Seconds that pass only when a runner takes them."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class KnownRunner:
    """Says of each file what a function of its graph and its settings says, with some noise.

    Args:
        ms: Called with the ONNX model and its settings.
        noise: Largest relative excess of a sample; the least sample has almost none.
        clock: Moved by what timing takes.
        refuses: Called as `ms`; where it is true a call with such a file raises `error`.
        error: What is raised.
    """

    name = "known times"

    def __init__(self, ms, *, noise=0.0, clock=None, refuses=None, error=None):
        self.ms, self.noise, self.clock = ms, noise, clock
        self.refuses, self.error = refuses or (lambda model, how: False), error
        self.calls = []

    def time(
        self, models, *, threads, settings=None, rounds=7, runs=3, min_seconds=0.0, seed=0,
        on_round=None,
    ):  # fmt: skip
        protos = [onnx.load_from_string(model) for model in models]
        pairs = list(zip(protos, settings, strict=True))
        if any(self.refuses(proto, how) for proto, how in pairs):
            raise self.error
        each = [self.ms(proto, how) for proto, how in pairs]
        self.calls.append({"ms": each, "threads": threads, "rounds": rounds, "settings": settings})
        if self.clock is not None:
            self.clock.now += sum(each) / 1e3 * rounds * (runs + 1)
        rng = np.random.default_rng(seed)
        return [
            Timing(
                samples_ms=tuple(ms * (1 + self.noise * rng.random(rounds * runs))),
                rounds=rounds,
                preempted=0.0,
            )
            for ms in each
        ]


def operators(model):
    """The operators of a file."""
    return {node.op_type for node in model.graph.node}


def is_int8(model):
    return bool({"MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear"} & operators(model))
