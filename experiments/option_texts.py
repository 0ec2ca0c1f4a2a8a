"""What the help says of the options of a search, of the main job and of training."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from experiments.config_command import OptionText
from experiments.datasets import DATASETS
from experiments.executor_option import EXECUTORS
from experiments.spaces import SPACES

DATA: Mapping[str, OptionText] = MappingProxyType(
    {
        "dataset": OptionText(
            f"{', '.join(DATASETS)}, a folder with a subfolder per class, or a MedMNIST .npz"
        ),
        "image_size": OptionText("resize images to this side"),
        "train_images": OptionText("use only that many"),
        "data_folder": OptionText("where a named dataset's files are"),
    }
)

TRAINING: Mapping[str, OptionText] = MappingProxyType(
    {
        "space": OptionText(", ".join(SPACES)),
        "seed": OptionText("derives everything random"),
        "epochs": OptionText("passes over the training images; by dataset if not given"),
    }
)

SEARCH: Mapping[str, OptionText] = MappingProxyType(
    {
        **DATA,
        **TRAINING,
        "out": OptionText("the run's folder, new or empty; in a cluster job absolute"),
        "targets": OptionText(
            "a target of `hwnas profile import` or `measure` by name or folder, a device, or "
            "local; again for each further one, with options of its own behind a colon: "
            "raspberry-pi-4:threads=4,batch=1,max_latency_ms=5,weight=2; this machine at batch 1 "
            "and 16 if not given",
            "--target",
        ),
        "together": OptionText("every network has to keep the limits of all targets"),
        "precision": OptionText(
            "mixed: int8 or fp32 is a choice of the search for each stage of a network; in files "
            "as the targets have them if not given"
        ),
        "max_latency_ms": OptionText(
            "limit on the latency of one image at batch 1, or on every --target"
        ),
        "max_energy_mj": OptionText("limit on the modelled energy, likewise"),
        "max_memory_kb": OptionText("limit on weights and activations in KiB, likewise"),
        "resume": OptionText("continue the run in --out"),
        "ledger": OptionText(
            "where the ledger is: a file, or postgresql://user@host/database?run=NAME; in --out "
            "if not given"
        ),
        "fork": OptionText("begin a run in this folder with what still holds of the one in --out"),
        "supernet": OptionText(
            "a path or URL of trained weights; else a supernet is trained, for --epochs"
        ),
        "evaluations": OptionText("subnets whose accuracy is measured, at least 20"),
        "strategy": OptionText(
            "how to search: bayesian, predictor-guided, nsga2, local-search, ..."
        ),
        "least_gain": OptionText(
            "end where the expected gain is below this share of the volume found, as 0.001; "
            "bayesian and predictor-guided"
        ),
        "executor": OptionText(f"where subnets are measured: {', '.join(EXECUTORS)}"),
        "workers": OptionText("how many processes or Ray workers"),
        "address": OptionText("the Ray cluster: auto, host:6379, ray://host:10001, local"),
        "threads": OptionText("threads of a worker; 1 if not given"),
        "timeout_s": OptionText(
            "seconds a worker may take for a subnet; 600 if not given", "--timeout"
        ),
        "retries": OptionText("how often a subnet is tried again; 2 if not given"),
        "cpus": OptionText("processors that a Ray worker takes; 1 if not given"),
        "gpus": OptionText("accelerators that a Ray worker takes; 0 if not given"),
        "resources": OptionText(
            "what else a Ray worker takes, as device:rpi4=1; again for further", "--resource"
        ),
        "calibration_networks": OptionText("networks to time for each cost model"),
    }
)
"""By field of `experiments.config.SearchConfig`."""

QUICKSTART: Mapping[str, OptionText] = MappingProxyType(
    {
        **SEARCH,
        "out": OptionText("the run's folder, new or empty"),
        "command_file": OptionText(
            "how commands reach --target; without it files are not timed there"
        ),
        "points": OptionText("networks to export for each target"),
        "refit_threshold": OptionText("median latency error above which cost models are refitted"),
    }
)
"""By field of `experiments.config.QuickstartConfig`."""

TRAIN: Mapping[str, OptionText] = MappingProxyType(
    {
        **DATA,
        **TRAINING,
        "checkpoint": OptionText(
            "where the supernet is kept and continued from: a path that all nodes share, or a URL "
            "as s3://bucket/supernet.safetensors"
        ),
        "workers": OptionText("workers that train together"),
        "address": OptionText("the Ray cluster: auto, host:6379, or local for one of its own"),
        "gpus": OptionText("1 for a GPU of its own for each worker"),
        "cpus": OptionText("processors of each worker"),
        "resources": OptionText(
            "what else a worker takes, as device:rpi4=1; again for further", "--resource"
        ),
        "shards": OptionText(
            "parts of a batch, a multiple of the workers; their number if not given"
        ),
        "checkpoint_every": OptionText("steps between two checkpoints"),
        "failures": OptionText("how often lost workers are replaced"),
        "wait_s": OptionText("seconds to wait for room after a loss", "--wait"),
    }
)
"""By field of `experiments.cluster.train.TrainOptions`."""
