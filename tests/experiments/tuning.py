"""What the workers of a Tuner import; as a script, a Tuner that is to be killed."""

import sys
import time
from functools import partial
from pathlib import Path

import ray
from ray import tune

from strategies import NSGA2, Problem
from strategies.tune_config import genes_of
from strategies.tune_searcher import HwnasSearcher
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost

TRIALS = 24


def problem():
    return Problem(SPACE, FormulaAccuracy(SPACE), [LayerCost(SPACE)], {"latency_ms": 0.7})


def fails(row):
    """Which networks cannot be evaluated."""
    return sum(map(int, row)) % 22 == 3


class Noted(tune.Trainable):
    """Reports the formula's accuracy after a second, and notes that it was asked."""

    def setup(self, config, folder=None):
        self.folder = Path(folder)
        self.accuracy = FormulaAccuracy(SPACE)

    def reset_config(self, new_config):
        return True

    def step(self):
        with (self.folder / "asked").open("a") as file:
            file.write(self.config["genes"] + "\n")
        time.sleep(0.5)
        (value,) = self.accuracy.values(genes_of(self.config, SPACE))
        return {"accuracy": float(value), "done": True}

    def save_checkpoint(self, checkpoint_dir):
        pass

    def load_checkpoint(self, checkpoint):
        pass


def trainable(folder):
    return tune.with_parameters(Noted, folder=str(folder))


def searcher():
    return HwnasSearcher(partial(NSGA2, population_size=10), problem())


def main(folder):
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        object_store_memory=80 * 2**20,
    )  # fmt: skip
    tune.Tuner(
        trainable(folder),
        tune_config=tune.TuneConfig(
            search_alg=searcher(), num_samples=TRIALS, reuse_actors=True, max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(storage_path=str(folder), name="run", verbose=0),
    ).fit()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
