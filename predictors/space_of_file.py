"""Which space a saved predictor belongs to, and whether its features are those of this version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from predictors.graph_features import graph_feature_names
from records import BadInputError, CorruptFileError, UnknownNameError
from search_spaces import SearchSpace


def space_of_file(
    path: str | Path, content: Mapping[str, Any], space: SearchSpace | None
) -> SearchSpace:
    """The space that a file belongs to, checked against the one that is wanted.

    Args:
        path: The file, for messages.
        content: Its `space`, `space_hash` and `features`, the names of `graph_features`.
        space: The space that is wanted; without it, that of the file is made.

    Raises:
        BadInputError: The class of the space is not imported.
        CorruptFileError: The file is of another space or of other features.
    """
    if space is None:
        try:
            space = SearchSpace.from_json(content["space"])
        except UnknownNameError as error:
            raise BadInputError(
                f"{path} is of the space {content['space']!r}: import its class, or give space"
            ) from error
    if space.hash != content["space_hash"]:
        raise CorruptFileError(f"{path} belongs to another space than {space.name}")
    if list(graph_feature_names(space)) != content["features"]:
        raise CorruptFileError(f"{path} was fitted on other features: fit it again")
    return space
