"""JSON of spaces that are a base and, by the names of choices, values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from records import BadInputError
from search_spaces.space import SearchSpace

Named = Iterable[tuple[str, Sequence[Any]]]


def based_json(space: SearchSpace, base: SearchSpace, key: str, values: Named) -> dict[str, Any]:
    """Name, version, the base's JSON and under `key` the values."""
    parameters = {"base": base.to_json(), key: {name: list(own) for name, own in values}}
    return {"space": space.name, "version": space.version, "parameters": parameters}


def based_parameters(
    what: str, key: str, values: Mapping[str, Any], spaces: Sequence[type[SearchSpace]]
) -> dict[str, Any]:
    """The parameters that `based_json` wrote.

    Args:
        what: How messages call such a space.
        key: Where the values are.
        values: The parameters as they were read.
        spaces: See `SearchSpace.from_json`.

    Raises:
        BadInputError: Other parameters, or a base that is none.
    """
    try:
        base, named = values["base"], dict(values[key])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(
            f"{what} has 'base' and {key!r} by choice; got {dict(values)!r}"
        ) from error
    return {"base": SearchSpace.from_json(base, spaces), key: tuple(named.items())}
