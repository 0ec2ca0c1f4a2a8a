"""The quickstart's supernet on digits, trained once, and its accuracies, each measured once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config import EPOCHS
from experiments.datasets import load_dataset
from experiments.spaces import make_space
from records import Measured
from search_spaces import Architecture, Genes
from strategies.known_rows import row_keys
from strategies.protocols import Evaluator
from supernet import Recipe, Supernet, load_supernet, save_supernet, train

SUPERNET = "supernet.safetensors"


@dataclass
class CachedEvaluator:
    """Measures each network once, and keeps the values in a file, one line a network.

    Attributes:
        evaluator: Measures what is not in the file.
        path: The file; values of other weights in it are left alone and not used.
    """

    evaluator: Evaluator
    path: Path
    known: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metric, self.weights_hash = self.evaluator.metric, self.evaluator.weights_hash
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            weights, key, value = json.loads(line)
            if weights == self.weights_hash:
                self.known[key] = value

    def evaluate(self, genes: Genes) -> Sequence[Measured]:
        keys = row_keys(genes).tolist()
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        missing = [key for key in first if key not in self.known]
        if missing:
            found = self.evaluator.evaluate(genes[[first[key] for key in missing]])
            with self.path.open("a", encoding="utf-8") as file:
                for key, result in zip(missing, found, strict=True):
                    if result.value is not None:
                        self.known[key] = result.value
                        file.write(json.dumps([self.weights_hash, key, result.value]) + "\n")
        failed = Measured(value=None, status="failed", reason="was not measured")
        return [Measured(value=self.known[key]) if key in self.known else failed for key in keys]

    def subnet(self, architecture: Architecture) -> Any:
        return self.evaluator.subnet(architecture)


def digits_evaluator(folder: Path, supernet: Path | None = None) -> CachedEvaluator:
    """The quickstart's supernet on digits, trained once with its recipe, accuracies kept."""
    folder.mkdir(parents=True, exist_ok=True)
    data = load_dataset("digits")
    path = supernet or folder / SUPERNET
    if path.exists():
        trained = load_supernet(path)
    else:
        print("training the supernet on digits (once)", flush=True)
        trained = Supernet(make_space("hybrid", data))
        train(trained, data, epochs=EPOCHS["digits", "hybrid"], recipe=Recipe(), seed=0)
        save_supernet(trained, path)
    return CachedEvaluator(trained.evaluator(data), folder / "digits-accuracies.jsonl")
