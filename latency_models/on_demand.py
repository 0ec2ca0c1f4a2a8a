"""A mapping whose values are computed when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


class OnDemand(Mapping[str, Values]):
    """Arrays by name; one that nobody asks for costs nothing.

    Args:
        functions: What computes each.

    >>> values = OnDemand({"latency_ms": lambda: np.array([1.5])})
    >>> values["latency_ms"]
    array([1.5])
    """

    def __init__(self, functions: Mapping[str, Callable[[], Values]]) -> None:
        self._functions = dict(functions)
        self._known: dict[str, Values] = {}

    def __getitem__(self, name: str) -> Values:
        if name not in self._known:
            self._known[name] = self._functions[name]()
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)
