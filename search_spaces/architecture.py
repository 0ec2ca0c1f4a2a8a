"""One architecture, as a person sees it: frozen, hashable, printable, a JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from records import BadInputError
from search_spaces.choice import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureDiff:
    """The choices in which two architectures of a space differ.

    Attributes:
        space: The name of the search space.
        changes: For each such choice its name and the values in the first and in the second
            architecture, None where it is inactive; in the order of the space.
    """

    space: str
    changes: tuple[tuple[str, Value | None, Value | None], ...]

    def __len__(self) -> int:
        """The number of choices that differ; 0 for equal architectures."""
        return len(self.changes)

    def __str__(self) -> str:
        """A table: a line a choice, both values behind it, `-` where it is inactive."""
        if not self.changes:
            return f"{self.space}: no difference"
        rows = [
            (n, *("-" if v is None else str(v) for v in values)) for n, *values in self.changes
        ]
        wide = [max(len(row[k]) for row in rows) for k in (0, 1)]
        lines = [f"{name:<{wide[0]}}  {a:<{wide[1]}}  {b}" for name, a, b in rows]
        return "\n".join([f"{self.space}: {len(rows)} choices differ", *lines])


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

    def diff(self, other: Architecture) -> ArchitectureDiff:
        """The choices in which this architecture differs from another of the same space.

        Raises:
            BadInputError: Architectures of different spaces or versions.
        """
        if (self.space, self.version) != (other.space, other.version):
            raise BadInputError(
                f"an architecture of {self.space!r} version {self.version} cannot be compared "
                f"with one of {other.space!r} version {other.version}: they share no choices"
            )
        mine, theirs = dict(self.items), dict(other.items)
        names: list[str] = []
        left = list(theirs)
        for name in mine:  # both are in the order of the space
            if name in left:
                upto = left.index(name) + 1
                names += left[:upto]
                del left[:upto]
            elif name not in names:
                names.append(name)
        changes = ((name, mine.get(name), theirs.get(name)) for name in [*names, *left])
        return ArchitectureDiff(
            space=self.space, changes=tuple(c for c in changes if c[1] != c[2])
        )

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
