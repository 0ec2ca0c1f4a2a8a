"""A kit's manifest and results without a measurement: latencies by formula, noise by a seed."""

import hashlib
import json

import numpy as np

from deployment.kit import manifest_id
from deployment.kit.measure import FORMAT, RESULTS_FORMAT
from latency_models import calibration_networks

CPUINFO = """processor\t: 0
model name\t: ARMv8 Processor rev 3 (v8l)
Features\t: fp asimd crc32 cpuid
"""


def made_manifest(spaces, networks=12, *, batch_size=1, threads=1):
    """A manifest of some networks of spaces; the files do not exist."""
    models = []
    for index, space in enumerate(spaces):
        genes = calibration_networks(space, networks, seed=0)
        for row in genes:
            name = f"models/{len(models):03d}.onnx"
            models.append(
                {
                    "file": name,
                    "sha256": hashlib.sha256(name.encode()).hexdigest(),
                    "space": index,
                    "genes": [int(gene) for gene in row],
                    "macs": 1,
                }
            )
    manifest = {
        "format": FORMAT,
        "versions": {},
        "protocol": {
            "rounds": 9, "runs": 3, "min_seconds": 0.0, "sustained_s": 2.0, "seed": 0,
        },
        "threads": threads,
        "batch_size": batch_size,
        "spaces": [
            {"name": space.name, "hash": space.hash, "definition": space.to_json()}
            for space in spaces
        ],
        "models": models,
        "reference": models[0]["file"],
        "probes": [],
    }  # fmt: skip
    manifest["id"] = manifest_id(manifest)
    return manifest


def made_results(manifest, latencies_ms, *, noise=0.01, rounds=9, drift=0.0, slowdown=1.0, seed=0):
    """Results as `measure.py` writes them: samples are the latency and positive noise above it."""
    rng = np.random.default_rng(seed)

    def samples(latency):
        trend = 1 + drift * np.arange(rounds)[:, None] / max(rounds - 1, 1)
        return (latency * trend * (1 + noise * rng.exponential(size=(rounds, 3)))).tolist()

    slowest = float(max(latencies_ms))

    def spread(factor):
        ms = slowest * factor
        return {
            "runs": 100, "least_ms": ms, "p50_ms": ms * 1.01, "p90_ms": ms * 1.1,
            "p99_ms": ms * 1.5,
        }  # fmt: skip

    return {
        "format": RESULTS_FORMAT,
        "complete": True,
        "manifest": manifest,
        "settings": {
            "rounds": rounds, "runs": 3, "min_seconds": 0.0, "sustained_s": 2.0, "seed": 0,
            "batch_size": manifest["batch_size"], "threads": manifest["threads"],
            "provider": "CPUExecutionProvider", "cpus": None,
        },
        "machine": {
            "system": "Linux-6.1-aarch64", "architecture": "aarch64", "processor": "",
            "cores": 4, "usable_cores": 4, "memory_bytes": 4 << 30, "governors": ["ondemand"],
            "max_clock_mhz": [1800.0], "python": "3.9.2", "onnxruntime": "1.19.2",
            "numpy": "1.24.0", "providers": ["CPUExecutionProvider"],
            "files": {
                "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4",
                "proc/cpuinfo": CPUINFO,
                "sys/devices/system/cpu/cpu0/cache/index0/level": "1",
                "sys/devices/system/cpu/cpu0/cache/index0/type": "Data",
                "sys/devices/system/cpu/cpu0/cache/index0/size": "32K",
                "sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list": "0",
            },
        },
        "sittings": [{"time": "2025-01-01T00:00:00Z"}],
        "seconds": 1.0,
        "repeated_visits": 0,
        "models": [
            {
                "file": entry["file"], "sha256": entry["sha256"], "samples_ms": samples(latency),
                "preempted": [0.0] * rounds, "open_ms": 5.0, "first_run_ms": 3.0 * latency,
            }
            for entry, latency in zip(manifest["models"], latencies_ms, strict=True)
        ],
        "reference": {
            "file": manifest["reference"], "samples_ms": samples(latencies_ms[0]),
            "preempted": [0.0] * rounds,
        },
        "sustained": {
            "file": manifest["models"][0]["file"],
            "seconds": 2.0,
            "blocks": [spread(f) for f in np.linspace(1.0, slowdown, 10)],
            "all": spread(1.0),
            "before": {"temperature_c": {"cpu-thermal-0": 48.0}},
            "after": {"temperature_c": {"cpu-thermal-0": 71.0}},
        },
        "probes": {"gflops_1": 11.5, "gflops_4": 40.0, "copy_gbps_1": 4.5},
    }  # fmt: skip


def written(results, path):
    """The path of a file with these results."""
    path.write_text(json.dumps(results))
    return path
