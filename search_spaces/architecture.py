"""One architecture, as a person sees it: frozen, hashable, printable, a JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from records import BadInputError
from search_spaces.choice import Value


@dataclass(frozen=True, slots=True)
class Architecture:
    """The active choices of one row of genes, by name, with the space that they belong to.

    Attributes:
        space: The name of the search space.
        version: The version of the search space.
        items: The active choices and their values, in the order of the space.
    """

    space: str
    version: int
    items: tuple[tuple[str, Value], ...]

    def __getitem__(self, name: str) -> Value:
        """The value of an active choice; `KeyError` where there is none."""
        return dict(self.items)[name]

    def __str__(self) -> str:
        """A table: a line a group of choices (`stage1.layer0`), its choices behind it."""
        groups: dict[str, list[str]] = {}
        for name, value in self.items:
            head, _, last = name.rpartition(".")
            groups.setdefault(head or "network", []).append(f"{last}={value}")
        wide = max((len(head) for head in groups), default=0)
        lines = [f"{head:<{wide}}  {'  '.join(texts)}" for head, texts in groups.items()]
        return "\n".join([f"{self.space} (version {self.version})", *lines])

    def to_json(self) -> dict[str, Any]:
        """The architecture as JSON-ready values."""
        return {"space": self.space, "version": self.version, "choices": dict(self.items)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Architecture:
        """The architecture that `to_json` wrote; the space checks the choices on encoding.

        Raises:
            BadInputError: This is no architecture.
        """
        try:
            choices = dict(value["choices"])
            return Architecture(str(value["space"]), int(value["version"]), tuple(choices.items()))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(
                f"an architecture has 'space', 'version' and 'choices'; got {value!r}"
            ) from error
