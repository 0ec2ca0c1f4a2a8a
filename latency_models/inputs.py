"""Checks of what users hand to cost models: spaces, targets, genes, measured values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deployment.quantisation.quantised import MODES
from hardware_profiles import Target
from records import BadInputError, unknown_name
from search_spaces import Genes, SearchSpace, WithBlockPrecision


def check_space(space: object) -> None:
    """Refuses what is no search space.

    Raises:
        BadInputError: Says what was got.
    """
    if not isinstance(space, SearchSpace):
        raise BadInputError(
            f"a SearchSpace is needed, such as CNNSpace(image_size=32), got {space!r}"
        )


def check_target(target: object) -> None:
    """Refuses what is no target.

    Raises:
        BadInputError: Says what was got.
    """
    if not isinstance(target, Target):
        raise BadInputError(
            "a Target is needed, such as local_target() or "
            f"Target(profile=device('raspberry-pi-4')), got {target!r}"
        )


def check_precision(space: SearchSpace, target: Target) -> None:
    """Refuses precision by block on a target that does not run int8 files.

    Raises:
        BadInputError: Says what to change.
    """
    if isinstance(space, WithBlockPrecision) and target.precision != "int8":
        raise BadInputError(
            f"{space.name} chooses between int8 and fp32 and {target.name!r} runs "
            f"{target.precision}: give the target precision='int8', or search the base"
        )


def quantisation_of(spaces: Sequence[SearchSpace], given: str | None) -> str:
    """How the int8 files of spaces are made: as given, as their precisions say, or dynamic.

    Raises:
        UnknownNameError: Another way.
        BadInputError: A space that says otherwise.
    """
    if given is not None and given not in MODES:
        raise unknown_name("quantisation", given, MODES)
    said = {s.quantisation for s in spaces if isinstance(s, WithBlockPrecision)}
    found = given or next(iter(sorted(said)), "dynamic")
    if said - {found}:
        raise BadInputError(
            f"quantisation={found!r}, but a space with precision by block says "
            f"{', '.join(sorted(said))}; leave it out, or make the space with the other"
        )
    return found


def checked_genes(space: SearchSpace, genes: npt.ArrayLike) -> Genes:
    """Genes as an `n x d` array within their ranges; one row of `d` becomes `1 x d`.

    It costs a small part of any look-up, so that populations of any size can pass through it.
    Inactive genes are left as they are.

    Raises:
        BadInputError: The wrong number of genes, no integers, or a value out of range, named.
    """
    array = np.atleast_2d(np.asarray(genes))
    sizes = space.gene_space.sizes
    fits = array.ndim == 2 and array.shape[1] == len(sizes) and array.dtype.kind in "iu"
    if fits and array.size:
        fits = bool((array.min(axis=0) >= 0).all() and (array.max(axis=0) < sizes).all())
    if not fits:
        space.gene_space.check(array)  # says what is wrong
    return array


def measured_values(what: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """What was measured, as floating-point numbers.

    Args:
        what: How errors call them, in the plural.
        values: Numbers.

    Raises:
        BadInputError: They are none.
    """
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{what} must be numbers: {error}") from error


def check_probability(probability: float) -> None:
    """Refuses what is no probability between 0 and 1.

    Raises:
        BadInputError: Says what was got.
    """
    if not isinstance(probability, int | float) or not 0 < probability < 1:
        raise BadInputError(f"probability must be within 0 and 1, got {probability!r}")
