"""What every accuracy predictor promises: fit, predict with an interval, save, load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from records import BadInputError, HwnasError
from search_spaces import SearchSpace

NORMAL_90 = 1.6448536269514722
"""Standard deviations from the mean to either end of a normal distribution's central 90 %."""


class NotFittedError(HwnasError, RuntimeError):
    """A predictor was asked before it had seen any data."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is expected of `n` architectures.

    Attributes:
        mean: An array of length `n`, in the unit of the values that were fitted.
        std: An array of length `n`, above 0 and in the same unit: `mean - 1.645 std` to
            `mean + 1.645 std` is meant to hold the true value in 90 of 100 cases.

    Raises:
        BadInputError: The two are not vectors of one length.
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise BadInputError(
                "mean and std must be vectors of one length, "
                f"got shapes {self.mean.shape} and {self.std.shape}"
            )

    def __len__(self) -> int:
        return len(self.mean)


class Predictor(ABC):
    """Learns a metric of architectures from the few that were evaluated.

    Implementations are deterministic for a given seed, leave their arguments as they are, and
    answer equally for equal networks.
    """

    @abstractmethod
    def fit(self, genes: npt.ArrayLike, values: npt.ArrayLike) -> Self:
        """Learns from scratch, forgetting any earlier fit.

        Args:
            genes: An `n x d` array of evaluated architectures, `n >= 2`.
            values: An array of length `n`, one finite value an architecture. Leave failed
                evaluations out.

        Returns:
            The predictor itself.

        Raises:
            BadInputError: Fewer than two rows, a value that is not finite, shapes that disagree.
        """

    @abstractmethod
    def predict(self, genes: npt.ArrayLike) -> Prediction:
        """Predicts the values of an `n x d` array of architectures; `n` may be 0.

        Raises:
            NotFittedError: Nothing was fitted yet.
            BadInputError: The genes are not of the predictor's space.
        """

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Writes the fitted predictor as arrays and JSON, atomically.

        Raises:
            NotFittedError: Nothing was fitted yet.
            StorageError: The file cannot be written.
        """

    @classmethod
    @abstractmethod
    def load(cls, path: str | Path, space: SearchSpace | None = None) -> Self:
        """Reads what `save` wrote; predictions are the same to the last bit.

        Args:
            path: The file.
            space: The search space that the file must belong to. Without it the space is made
                from the file.

        Raises:
            MissingFileError: There is no such file.
            CorruptFileError: The file is damaged, foreign, or of another space.
        """


def checked_values(values: npt.ArrayLike, rows: int) -> npt.NDArray[np.float64]:
    """The values to fit as a new float array of length `rows`.

    Raises:
        BadInputError: Fewer than two, not one a row, or not all finite.
    """
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"values must be numbers, got {values!r}") from error
    if array.shape != (rows,):
        raise BadInputError(
            f"values must be one number for each of the {rows} rows of genes, "
            f"got an array of shape {array.shape}"
        )
    if rows < 2:
        raise BadInputError(f"a predictor needs at least 2 evaluated rows, got {rows}")
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array))[0])
        raise BadInputError(
            f"values must be finite; row {bad} is {array[bad]}: leave failed evaluations out"
        )
    return array
