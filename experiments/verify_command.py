"""`hwnas verify`: the proof that all readers of a space's networks agree, as a table."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from deployment import SpaceReport, verify_space
from experiments.console import progress_bar, say, show_table
from experiments.spaces import SPACES, make_space
from records import BadInputError, unknown_name
from search_spaces import SearchSpace

SIDES = (32, 64, 96, 112, 128, 160, 192, 224)
"""Sides of images that are tried for a standard space; the smallest that it allows is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Digits:
    """What a space must know of the digits."""

    image_size: int = 8
    channels: int = 1
    num_classes: int = 10


def prove(
    name: str,
    *,
    architectures: int = 8,
    image_size: int | None = None,
    onnx: bool = True,
    seed: int = 0,
) -> SpaceReport:
    """Proves a space by name and prints the report.

    Args:
        name: See `space_to_prove`.
        architectures: Random architectures to look at, beside the extremes.
        image_size: Side of the images.
        onnx: Whether files are exported and compared.
        seed: Derives architectures, weights and images.

    Raises:
        BadInputError: No such space, or one that cannot be made with these images.
    """
    if architectures < 1:
        raise BadInputError(f"--architectures must be at least 1, got {architectures}")
    space = space_to_prove(name, image_size)
    with progress_bar(f"proving {space.name}") as advance:
        report = verify_space(
            space,
            architectures=architectures,
            seed=seed,
            onnx=onnx,
            on_progress=lambda done, total: advance(done, total, ""),
        )
    title = f"{space.name}, images of {space.image_size} x {space.image_size} x {space.channels}"
    rows = [[escape(cell) for cell in row] for row in report.rows()]
    show_table(title, report.HEAD, rows, left=2, wrapped="detail")
    verdict = "all checks hold" if report.ok else "NOT all checks hold"
    say(f"{verdict} for {report.architectures} of {space.cardinality:,} architectures")
    return report


def space_to_prove(name: str, image_size: int | None = None) -> SearchSpace:
    """The space of that name, for small images unless told.

    Args:
        name: One of `experiments.spaces`, made for the digits; a standard space, made for the
            smallest images that it allows; or `module:Class` of a user's own, looked up from the
            working directory.
        image_size: Side of the images.

    Raises:
        BadInputError: No such space, or one that cannot be made with these images.
    """
    from search_spaces.standard import STANDARD, standard_space

    if ":" in name:
        return _own_space(name, image_size)
    if name in SPACES:
        return make_space(
            name, _Digits() if image_size is None else _Digits(image_size=image_size)
        )
    if name not in STANDARD:
        raise unknown_name("search space (or module:Class)", name, (*SPACES, *STANDARD))
    if image_size is not None:
        return standard_space(name, image_size=image_size)
    for side in SIDES:
        try:
            return standard_space(name, image_size=side)
        except BadInputError:
            continue
    return standard_space(name)


def _own_space(name: str, image_size: int | None) -> SearchSpace:
    """The space of a user's class."""
    module_name, _, class_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise BadInputError(f"there is no module {module_name!r} to import: {error}") from error
    made = getattr(module, class_name, None)
    if not isinstance(made, type) or not issubclass(made, SearchSpace):
        raise BadInputError(f"{module_name!r} has no SearchSpace class {class_name!r}")
    try:
        return made() if image_size is None else made(image_size=image_size)
    except TypeError as error:
        raise BadInputError(f"{name} cannot be made without parameters: {error}") from error
