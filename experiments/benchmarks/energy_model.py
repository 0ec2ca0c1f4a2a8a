"""The modelled energy against what is published, and whether this machine can measure.

Published and read, each with its source in the table:

- Eyeriss, convolutional layers: 35 frames a second at 278 mW for AlexNet (666 million MACs), 0.7
  at 236 mW for VGG-16 (15.3 billion MACs), with 0.0029 and 0.0035 DRAM accesses a MAC (Chen
  et al., IEEE JSSC 52(1), 2017, abstract; the MACs: ISSCC 2016, abstract). The chip alone, at
  65 nm with 16-bit numbers; hence what can be compared is the energy of a MAC.
- NVIDIA Jetson Nano: YOLOv5n at 12.34 frames a second and 0.154 mWh a frame (Machado et al.,
  arXiv:2207.06150, abstract). Its work is not stated there, so only the interval from idle to peak
  power over the published time can be compared.

Without a readable counter nothing is measured here, which is stated; where there is one, a small
network is run and its energy set against the model's interval.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import onnxruntime as ort

from deployment import open_session
from deployment.memory.reading import zero_inputs
from experiments.benchmarks.harness import benchmark_main, show
from hardware_profiles import device, local_target
from hardware_profiles.energy import PJ_PER_BYTE_DRAM_45NM, PJ_PER_OP_45NM, cache_pj_per_byte
from hardware_profiles.power_counters import (
    EnergyCounter,
    measure_energy,
    nvml_counters,
    rapl_counters,
)
from latency_models import RooflineCostModel, random_weights_model
from search_spaces import CNNSpace

JSSC = "Chen et al., Eyeriss, IEEE JSSC 52(1) 2017, abstract"
EYERISS = {
    "AlexNet": {"fps": 35.0, "watt": 0.278, "macs": 666e6, "dram_per_mac": 0.0029},
    "VGG-16": {"fps": 0.7, "watt": 0.236, "macs": 15.3e9, "dram_per_mac": 0.0035},
}
EYERISS_BUFFER_BYTES = 108 << 10
NANO_FPS, NANO_MWH = 12.34, 0.154
J_PER_MWH = 3.6


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Prints and returns all comparisons."""
    return {"eyeriss": eyeriss(), "jetson_nano": jetson_nano(), "here": here()}


def eyeriss() -> dict[str, Any]:
    """Energy of a MAC: measured on the chip, and 45 nm energies of 16-bit operations."""
    arithmetic = 2 * PJ_PER_OP_45NM["fp16"].value
    buffer = 2 * cache_pj_per_byte(EYERISS_BUFFER_BYTES).value
    rows, found = [], {}
    for name, e in EYERISS.items():
        measured = 1e12 * e["watt"] / e["fps"] / e["macs"]
        dram = 2 * e["dram_per_mac"] * PJ_PER_BYTE_DRAM_45NM.value
        found[name] = {
            "frame_mj": 1e3 * e["watt"] / e["fps"],
            "measured_pj_per_mac": measured,
            "modelled_arithmetic_pj_per_mac": arithmetic,
            "modelled_with_one_buffer_access_pj_per_mac": arithmetic + buffer,
            "modelled_dram_pj_per_mac": dram,
        }
        rows.append([
            name, f"{1e3 * e['watt'] / e['fps']:.1f}", f"{measured:.1f}", f"{arithmetic:.1f}",
            f"{arithmetic + buffer:.1f}", f"{dram:.1f}",
        ])  # fmt: skip
    show(
        f"Eyeriss ({JSSC}), 65 nm, and the model's 45 nm energies for 16 bits",
        ["network", "mJ a frame", "measured pJ/MAC", "arithmetic", "+ one buffer access",
         "DRAM (not in the measured)"],
        rows,
    )  # fmt: skip
    return found


def jetson_nano() -> dict[str, Any]:
    """The interval from idle to peak power over the published time, and the published energy."""
    profile = device("jetson-nano")
    measured = 1e3 * NANO_MWH * J_PER_MWH
    ends = [
        None if power is None else 1e3 * power.value / NANO_FPS
        for power in (profile.idle_power_w, profile.peak_power_w)
    ]
    low, high = ends
    inside = None if low is None or high is None else bool(low <= measured <= high)
    show(
        "Jetson Nano, YOLOv5n (Machado et al., arXiv:2207.06150, abstract)",
        ["published mJ a frame", "idle power x time", "peak power x time", "inside"],
        [[f"{measured:.0f}", *("unknown" if x is None else f"{x:.0f}" for x in ends),
          "cannot be told" if inside is None else str(inside)]],
    )  # fmt: skip
    return {"published_mj": measured, "low_mj": low, "high_mj": high, "inside": inside}


def here() -> dict[str, Any]:
    """What this machine measures, if it does."""
    counters: list[EnergyCounter] = [*rapl_counters(), *nvml_counters()]
    if not counters:
        show("this machine", ["counter"], [["none can be read: nothing to compare with here"]])
        return {"counters": [], "source": "no readable counter: energy is modelled"}
    space = CNNSpace(image_size=96)
    row = space.extremes("largest")[:1]
    session: ort.InferenceSession = open_session(random_weights_model(space, row[0], 1))
    feed = zero_inputs(session)
    reading = measure_energy(lambda: session.run(None, feed), counters)
    costs = RooflineCostModel(space, local_target()).costs(row)
    modelled = float(np.asarray(costs.energy_mj)[0])
    show(
        "this machine, the largest CNN at 96 x 96",
        ["source", "measured mJ a run", "modelled mJ"],
        [[reading.source, f"{reading.energy_mj:.2f}", f"{modelled:.2f}"]],
    )
    return {
        "counters": [counter.name for counter in counters],
        "measured_mj": reading.energy_mj,
        "modelled_mj": modelled,
    }


if __name__ == "__main__":
    benchmark_main("energy_model", run)
