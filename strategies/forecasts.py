"""What a strategy predicted of networks before they were measured, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from search_spaces import Genes, SearchSpace
from strategies.held_out import PredictorQuality, predictor_quality
from strategies.known_rows import row_keys
from strategies.protocols import Floats
from strategies.strategy import floats_from_json, floats_to_json


class Forecasts:
    """Predictions of accuracy, each paired with the value that was measured afterwards.

    Args:
        space: The space of the networks.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._open: dict[int, tuple[float, float]] = {}
        self._genes: Genes = np.zeros((0, len(space.choices)), np.int16)
        self._pairs: Floats = np.zeros((0, 3))  # mean, std, measured

    def note(self, genes: Genes, mean: Floats, std: Floats) -> None:
        """Keeps what is predicted of `n` rows; a later prediction of a row replaces it."""
        forecasts = zip(mean.tolist(), std.tolist(), strict=True)
        self._open.update(zip(row_keys(genes).tolist(), forecasts, strict=True))

    def settle(self, genes: Genes, accuracy: Floats) -> None:
        """Pairs what was predicted of rows with what was measured; NaN is a failed evaluation."""
        found = [self._open.pop(key, None) for key in row_keys(genes).tolist()]
        paired = [i for i, f in enumerate(found) if f is not None and not np.isnan(accuracy[i])]
        if paired:
            pairs = [[*(found[i] or ()), float(accuracy[i])] for i in paired]
            self._genes = np.concatenate([self._genes, genes[paired]])
            self._pairs = np.concatenate([self._pairs, pairs])

    @property
    def quality(self) -> PredictorQuality:
        """How well accuracies were predicted before they were measured."""
        mean, std, measured = self._pairs.T
        return predictor_quality(self._space, self._genes, mean, std, measured)

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "open": [[key, *forecast] for key, forecast in self._open.items()],
            "genes": self._genes.tolist(),
            "pairs": floats_to_json(self._pairs),
        }

    @staticmethod
    def from_json(space: SearchSpace, kept: Mapping[str, Any]) -> Forecasts:
        """The inverse of `to_json`."""
        forecasts = Forecasts(space)
        forecasts._open = {int(key): (mean, std) for key, mean, std in kept["open"]}
        genes = np.array(kept["genes"], np.int16)
        forecasts._genes = genes.reshape(-1, len(space.choices))
        forecasts._pairs = floats_from_json(kept["pairs"]).reshape(-1, 3)
        return forecasts
