"""The command `hwnas train`: a supernet, trained on a Ray cluster."""

from __future__ import annotations

import sys

from experiments.cluster.train_options import TrainOptions
from experiments.config_command import command_of
from experiments.interruption import end_interrupted
from experiments.option_texts import TRAIN


def _train(options: TrainOptions) -> None:
    from experiments.cluster.train import train_supernet

    try:
        train_supernet(options)
    except KeyboardInterrupt:
        end_interrupted(f"the same command continues from {options.checkpoint}")


train_command = command_of(
    TrainOptions,
    _train,
    TRAIN,
    "Trains a supernet by workers of a Ray cluster; started again, it continues.",
)


def main() -> None:
    """The command `python -m experiments.cluster.train`."""
    from experiments.cli import run

    run(["train", *sys.argv[1:]])
