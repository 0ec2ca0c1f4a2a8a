"""`--precision mixed`: the search chooses which stages of a network run in 8 bits.

The files of such a run are static int8 files, some of whose stages stay in fp32. So every target
is used as one of int8, and the space of networks is searched with a choice of precision for each
stage (`search_spaces.WithBlockPrecision`). The weights are shared by all precisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.target_options import TargetOption
from records import BadInputError
from search_spaces import Architecture, SearchSpace, WithBlockPrecision

MIXED = "mixed"

PRECISIONS = (MIXED,)
"""What `--precision` may be."""

USE: Mapping[str, str] = {"precision": "int8"}
"""How the targets of a run with mixed precision are used, beside what their options say."""


def check_precision(precision: str | None, targets: Sequence[TargetOption]) -> None:
    """Refuses another precision, and targets that have one of their own.

    Raises:
        BadInputError: Says what to give in its place.
    """
    if precision is None:
        return
    if precision not in PRECISIONS:
        raise BadInputError(
            f"--precision must be {' or '.join(PRECISIONS)}, got {precision!r}: one precision for "
            "whole files is an option of each target, as in --target NAME:precision=int8"
        )
    for target in targets:
        if "precision" in target.use:
            own = target.use["precision"]
            raise BadInputError(
                f"--target {target.name}:precision={own} is one precision for whole files, and "
                f"--precision {precision} searches that of each stage: give one of the two"
            )


def searched_space(precision: str | None, space: SearchSpace) -> SearchSpace:
    """What is searched: the networks, with the precision of each stage where that is a choice.

    Args:
        precision: The option; None for none.
        space: The networks.
    """
    return space if precision is None else WithBlockPrecision(base=space)


def precision_hashes(precision: str | None, space: SearchSpace) -> dict[str, str]:
    """What a run rests on beside its networks: its choices of precision; nothing without them."""
    if precision is None:
        return {}
    return {"choice of precisions": searched_space(precision, space).hash}


def check_export(space: SearchSpace, numerics: Sequence[str] | None, *, any_batch: bool) -> None:
    """Refuses what would make another file than the one whose precisions a search chose.

    Args:
        space: The space that was searched.
        numerics: What `hwnas export` was told to allow.
        any_batch: Whether the file is to take any number of images.

    Raises:
        BadInputError: Says what to leave out.
    """
    if not isinstance(space, WithBlockPrecision):
        return
    if numerics is not None:
        raise BadInputError(
            f"the run chose the precision of each {space.by}, and the file has exactly these: "
            "leave --numerics out"
        )
    if any_batch and space.quantisation == "static":
        raise BadInputError(
            f"the run chose which {space.by}s are in static int8, whose batch is fixed: leave "
            "--dynamic-batch out"
        )


def precisions(space: SearchSpace, architecture: Architecture) -> dict[str, str]:
    """The precision of each stage that a network has, by the stage's name, in order.

    It is empty where precision is no choice of the space, and names no stage that holds nothing to
    be rounded.
    """
    if not isinstance(space, WithBlockPrecision):
        return {}
    chosen = dict(architecture.items)
    named = zip(space.blocks, space.added, strict=True)
    return {block: str(chosen[name]) for block, (name, _) in named if name in chosen}


def in_fp32(chosen: Mapping[str, str]) -> str:
    """The stages that stay in fp32, in words: their names, `none` or `all`.

    >>> in_fp32({"stem": "fp32", "stage0": "int8", "classifier": "fp32"})
    'stem, classifier'
    """
    kept = [stage for stage, precision in chosen.items() if precision == "fp32"]
    if len(kept) in (0, len(chosen)):
        return "all" if kept else "none"
    return ", ".join(kept)
