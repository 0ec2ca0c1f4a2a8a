"""The Optuna mirror of a run: a study for `optuna-dashboard`, also while the run goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from latency_models import CostModel
from records import Ledger, mirror_to_optuna
from search_spaces import Genes, SearchSpace

MIRROR = "optuna-journal.log"

EVERY_S = 20.0
"""How often a running search's mirror is written, at most."""

LARGEST_SHARE = 0.02
"""Of the time of a search that passes in writing its mirror."""

LONGEST_S = 5.0
"""A search of many thousands is not held up for longer: then its mirror is left to the end."""


class Mirror:
    """The mirror of a run, written anew whenever `write` or, as it is due, `refresh` is called.

    The objectives are the accuracy and each target's predicted latency; predicted energies and
    memory are attributes. A choice that has no meaning in an architecture is no parameter of it.

    Args:
        out: The run's folder.
        space: The networks.
        ledger: What was observed.
        costs: Predict for each target.
    """

    def __init__(
        self, out: Path, space: SearchSpace, ledger: Ledger, costs: Sequence[CostModel]
    ) -> None:
        self.path = out / MIRROR
        self.name = out.resolve().name or "hwnas"
        self.space = space
        self.ledger = ledger
        self.costs = costs
        self._due = time.monotonic() + EVERY_S

    def refresh(self) -> bool:
        """Writes the mirror if it is due; whether it was."""
        began = time.monotonic()
        if began < self._due:
            return False
        self.write()
        ended = time.monotonic()
        pause = max(EVERY_S, (ended - began) / LARGEST_SHARE)
        self._due = ended + (pause if ended - began <= LONGEST_S else math.inf)
        return True

    def write(self) -> int:
        """Writes the mirror; returns the number of its trials.

        Raises:
            StorageError: The disk refuses.
        """
        choices = self.space.choices
        return mirror_to_optuna(
            self.ledger,
            self.path,
            study_name=self.name,
            gene_names=[choice.name for choice in choices],
            gene_labels=lambda column, code: choices[column].values[code],
            objectives=[("accuracy", "", "maximize")],
            computed={f"predicted latency_ms@{c.target_name}": c.latency_ms for c in self.costs},
            attributes={
                f"predicted {metric}@{cost.target_name}": _predicted(cost, metric)
                for cost in self.costs
                for metric in ("energy_mj", "peak_memory_bytes")
            },
            active=self.space.active,
            gene_sizes=self.space.gene_space.sizes.tolist(),
            space_hash=self.space.hash,
        )


def _predicted(cost: CostModel, metric: str) -> Callable[[Genes], npt.NDArray[np.float64]]:
    return lambda genes: cost.predict(genes)[metric]
