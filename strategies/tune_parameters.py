"""The ranges of a Tuner's `param_space` as a search space, and configs as its rows.

Ray Tune turns its ranges into Optuna's; `ParameterSpace` divides them into parts. A range within
a range is known by both names, `optimiser/rate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import distribution_to_json
from ray.tune.search.optuna import OptunaSearch

from records import BadInputError
from strategies.parameter_space import ParameterSpace


def space_of_ranges(config: Mapping[str, Any], parts: int) -> ParameterSpace:
    """The space of a `param_space`.

    Args:
        config: Ranges such as `tune.uniform(0, 1)`, in dictionaries, beside plain values.
        parts: Into how many parts a long range is divided.

    Raises:
        BadInputError: It has no ranges, one of a single value, or one of a kind that Optuna does
            not have either (`grid_search`, `randn`, a function).
    """
    try:
        ranges = OptunaSearch.convert_search_space(dict(config))
        texts = {name: distribution_to_json(ranges[name]) for name in sorted(ranges)}
    except (ValueError, TypeError) as error:
        raise BadInputError(f"the param_space has something unfit: {error}") from error
    if not texts:
        raise BadInputError("the param_space has no ranges, such as tune.uniform(0, 1)")
    for name, found in ranges.items():
        if found.single():
            raise BadInputError(f"the range of {name} has a single value: give the value itself")
    return ParameterSpace(parameters=tuple(texts.items()), parts=parts)


def config_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the `param_space` has their ranges, dictionaries within dictionaries.

    >>> config_of({"epochs": 3, "optimiser/rate": 0.1, "optimiser/decay": 0.0})
    {'epochs': 3, 'optimiser': {'rate': 0.1, 'decay': 0.0}}
    """
    config: dict[str, Any] = {}
    for name, value in values.items():
        *folders, last = name.split("/")
        place = config
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return config


def row_of_config(space: ParameterSpace, config: Mapping[str, Any]) -> tuple[int, ...]:
    """The genes of a config that was tried.

    Raises:
        BadInputError: It lacks a parameter, or has one out of its range.
    """
    flat = _flat(config)
    names = [name for name, _ in space.parameters]
    row = space.row(flat) if all(name in flat for name in names) else None
    if row is None:
        raise BadInputError(
            f"a point needs values of {', '.join(names)} within their ranges, got {dict(config)}"
        )
    return tuple(row)


def _flat(nested: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A nested config with names such as `a/b`."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        inner = _flat(value, f"{before}{name}/") if isinstance(value, Mapping) else {}
        flat.update(inner or {f"{before}{name}": value})
    return flat
