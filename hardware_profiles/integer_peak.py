"""The int8 peak of this machine, measured when it is asked for.

`measure_local` knows fp32 only, because numpy multiplies no 8-bit matrices fast. onnxruntime does,
and it is what int8 networks run on: so the peak is the best rate of its `MatMulInteger` on square
matrices, unsigned times signed, with weights known beforehand.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.machine import usable_cores
from hardware_profiles.profile import Profile, Quantity

_SIZES = (256, 512, 768)
_SECONDS = 0.5


def with_int8_peak(profile: Profile) -> Profile:
    """The profile of this machine with an int8 peak, measured once a process where it has none."""
    if "int8" in profile.peak_gflops:
        return profile
    whole, one = _peak(usable_cores()), _peak(1)
    return replace(
        profile,
        peak_gflops={**profile.peak_gflops, "int8": _quantity(max(whole, one), usable_cores())},
        peak_gflops_per_thread={**profile.peak_gflops_per_thread, "int8": _quantity(one, 1)},
    )


def _quantity(value: float, threads: int) -> Quantity:
    source = f"measured here: onnxruntime MatMulInteger, {threads} threads, best of several rounds"
    return Quantity(value=round(value, 3), source=source, measured=True)


@lru_cache
def _peak(threads: int) -> float:
    """The best rate over matrix sizes, in 10^9 operations a second."""
    best = 0.0
    for size in _SIZES:
        session, feed = _product(size, threads)
        session.run(None, feed)
        end = time.perf_counter() + _SECONDS / len(_SIZES)
        while time.perf_counter() < end:
            start = time.perf_counter()
            session.run(None, feed)
            best = max(best, 2e-9 * size**3 / (time.perf_counter() - start))
    return best


def _product(size: int, threads: int) -> tuple[ort.InferenceSession, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    weights = rng.integers(-64, 64, (size, size), np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [size, size])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [size, size])],
        [numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, {"a": rng.integers(0, 128, (size, size), np.uint8)}
