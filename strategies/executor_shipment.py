"""What workers need to evaluate: a recipe, and arrays that all of them read from one place.

An evaluator that holds much (a supernet's weights, images) gives both by its method `shipment`.
The arrays travel once: to a file that the processes of a machine map into memory, or to Ray's
object store. An evaluator without that method is sent as it is, to each worker.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from records import BadInputError
from strategies.executor_evaluation import described
from strategies.protocols import Evaluator

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

_ALIGNMENT = 64

_THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


class Recipe(Protocol):
    """Makes a worker's evaluator; it can be pickled, as an instance of a module's class can."""

    def __call__(self, arrays: Arrays, threads: int) -> Evaluator:
        """Makes the evaluator.

        Args:
            arrays: Those of the shipment, read-only and shared with other workers.
            threads: How many threads an evaluation may use.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shipment:
    """What is sent to workers.

    Attributes:
        recipe: Makes the evaluator there.
        arrays: What it needs and is large, by name.
    """

    recipe: Recipe
    arrays: Arrays = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AsItIs:
    """The recipe of an evaluator that is sent whole."""

    evaluator: Evaluator

    def __call__(self, arrays: Arrays, threads: int) -> Evaluator:
        return self.evaluator


def shipment_of(evaluator: Evaluator) -> Shipment:
    """What to send for an evaluator.

    Raises:
        BadInputError: It cannot be sent.
    """
    ship = getattr(evaluator, "shipment", None)
    recipe, arrays = (AsItIs(evaluator), {}) if ship is None else ship()
    shipment = Shipment(recipe=recipe, arrays=arrays)
    for name, array in shipment.arrays.items():
        if array.dtype.hasobject:
            raise BadInputError(f"array {name!r} of the evaluator holds objects: ship numbers")
    return shipment


def check_can_travel(recipe: Recipe) -> None:
    """Refuses a recipe that cannot be sent to another process.

    Raises:
        BadInputError: Says why.
    """
    try:
        pickle.dumps(recipe)
    except Exception as error:
        raise BadInputError(
            f"the evaluator cannot be sent to another process ({described(error)}): define its "
            "class in a module and let it hold no open files, locks or lambdas, or give it a "
            "method `shipment` that returns a recipe and arrays by name"
        ) from error


def use_threads(threads: int) -> None:
    """Lets numerical libraries that are loaded from now on use so many threads."""
    for name in _THREADS:
        os.environ[name] = str(threads)


def made(recipe: Recipe, arrays: Arrays, threads: int) -> Evaluator:
    """Makes the evaluator in a worker, where the libraries then use so many threads."""
    evaluator = recipe(arrays, threads)
    threadpool_limits(limits=threads)
    return evaluator


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayFile:
    """Where arrays lie in a file.

    Attributes:
        path: The file.
        places: By name the type, the shape and the first byte.
    """

    path: str
    places: Mapping[str, tuple[str, tuple[int, ...], int]]

    def mapped(self) -> Arrays:
        """The arrays, read-only; their memory is the file's, whoever maps it."""
        if not self.places:
            return {}
        data = np.memmap(self.path, np.uint8, "r")
        found = {}
        for name, (kind, shape, start) in self.places.items():
            dtype = np.dtype(kind)
            end = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            found[name] = np.asarray(data[start:end]).view(dtype).reshape(shape)
        return found


def write_arrays(path: Path, arrays: Arrays) -> ArrayFile:
    """Writes arrays into one file, each where a processor likes to read it."""
    places = {}
    with path.open("xb") as file:
        for name, array in arrays.items():
            file.write(bytes(-file.tell() % _ALIGNMENT))
            places[name] = (array.dtype.str, tuple(array.shape), file.tell())
            file.write(np.ascontiguousarray(array).tobytes())
        file.write(bytes(1))  # an empty file cannot be mapped
    return ArrayFile(path=str(path), places=places)
