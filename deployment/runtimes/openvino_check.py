"""Compiles a model with OpenVINO in a process of its own: `python openvino_check.py MODEL`.

OpenVINO 2026.4 ends the whole process on some graphs (tokens as a matrix that become a map again),
where it should raise an error. So a model that was not compiled before is tried where it can do no
harm. This file is a script that needs nothing but OpenVINO.
"""

from __future__ import annotations

import sys
from typing import Any

DEVICE = "CPU"


def latency_properties(threads: int) -> dict[str, Any]:
    """The properties of the device with which networks are compiled.

    One request at a time on so many threads, which may be the two of one core; threads are not
    bound to cores, as in the other runtimes; fp32 where the processor would choose bf16.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,
    }


if __name__ == "__main__":
    import openvino

    openvino.Core().compile_model(sys.argv[1], DEVICE, latency_properties(1))
