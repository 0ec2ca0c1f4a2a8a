"""Folds for holding rows out, with equal rows kept together so that none is its own witness."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from records import BadInputError


def assign_folds(
    rows: npt.NDArray[np.generic], folds: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Deals rows out to folds at random, in sizes as even as repeated rows allow.

    Args:
        rows: An `n x d` array. Equal rows go to the same fold, unless all are equal.
        folds: How many folds, at least 2 and at most the number of distinct rows (`n` where all
            rows are equal).
        rng: The source of randomness.

    Returns:
        An array of length `n`, the fold of each row, 0 to `folds - 1`; no fold is empty.

    Raises:
        BadInputError: The rows cannot be dealt out to so many folds.
    """
    group = distinct(rows)
    groups = int(group.max(initial=-1)) + 1
    if not 2 <= folds <= groups:
        raise BadInputError(
            f"folds must be between 2 and the number of distinct rows, {groups}; got {folds}"
        )
    return rng.permutation(groups)[group] % folds


def distinct(rows: npt.NDArray[np.generic]) -> npt.NDArray[np.intp]:
    """Numbers the distinct rows from 0; rows that are all equal each get a number of their own."""
    if len(rows) == 0:
        return np.zeros(0, np.intp)
    group = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    return np.arange(len(rows)) if group.max() == 0 else group
