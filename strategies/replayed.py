"""Strategies whose state is their history: foreign optimisers that cannot be written down.

A sampler of another library keeps its state in objects that are no JSON. So what is written down
is what it was asked and told; restoring asks and tells it all again, and then makes sure that the
proposals were the same. That takes as long as the proposals took.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from records import BadInputError, generator
from search_spaces import Genes, SearchSpace
from strategies.known_rows import KnownRows
from strategies.protocols import Floats
from strategies.strategy import Strategy, floats_from_json, floats_to_json


class Replayed(Strategy):
    """Asks a foreign optimiser, and can be restored by asking it the same again.

    The history is kept in memory: the genes and values of every told row.
    """

    def __init__(
        self, space: SearchSpace, *, seed: int = 0, initial: npt.ArrayLike | None = None
    ) -> None:
        super().__init__(space, seed=seed, initial=initial)
        self.seed = seed
        self._first = self._initial
        self._events: list[list[Any]] = []

    @abstractmethod
    def _begin(self) -> None:
        """Makes the optimiser anew, as it is before the first `ask`, from `self.seed`."""

    def ask(self, n: int) -> Genes:
        rows = super().ask(n)
        if n:
            self._events.append(["ask", n])
        return rows

    def expect(self, genes: Genes) -> None:
        super().expect(genes)
        if len(genes):
            self._events.append(["expect", np.asarray(genes).tolist()])

    def tell(self, genes: Genes, objectives: Floats, violations: Floats | None = None) -> None:
        super().tell(genes, objectives, violations)
        if len(genes):
            told = None if violations is None else floats_to_json(np.asarray(violations, float))
            values = floats_to_json(np.asarray(objectives, np.float64))
            self._events.append(["tell", np.asarray(genes).tolist(), values, told])

    def _learned(self) -> dict[str, Any]:
        return {"seed": self.seed, "first": self._first.tolist(), "events": list(self._events)}

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        """Replays the history.

        Raises:
            BadInputError: The optimiser proposed other rows than before.
        """
        expected = (self.rng.bit_generator.state, self._known.to_text(), self._pending)
        self.seed = int(learned["seed"])
        self.rng = generator(self.seed, "strategies", type(self).__name__)
        self._first = self._initial = self._rows(learned["first"])
        self._known, self._pending = KnownRows(), self._no_rows()
        self._events = []
        self._begin()
        for name, *content in learned["events"]:
            if name == "ask":
                self.ask(int(content[0]))
            elif name == "expect":
                self.expect(self._rows(content[0]))
            else:
                genes, objectives, violations = content
                missed = None
                if violations is not None:
                    missed = floats_from_json(violations, missing=np.inf)
                self.tell(self._rows(genes), floats_from_json(objectives), missed)
        same = (
            self.rng.bit_generator.state == expected[0]
            and self._known.to_text() == expected[1]
            and np.array_equal(self._pending, expected[2])
        )
        if not same:
            raise BadInputError(
                f"{type(self).__name__} proposed other rows when its history was replayed: make "
                "it with the same arguments, and with an optimiser that a seed determines"
            )
