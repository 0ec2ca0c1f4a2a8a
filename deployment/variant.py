"""One way to run a network on a target: forms of the file, its numbers, how it is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deployment.emission.forms import Forms
from deployment.numerics import Numerics
from deployment.session_settings import SessionSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What `deployment.selection.select` times one of.

    Attributes:
        forms: In which forms the network is written.
        numerics: In which numbers the file computes.
        settings: How the file is opened.
        chunk: How many images the file takes at a time (`deployment.emission.chunks`); None for
            its whole batch.
    """

    forms: Forms = field(default_factory=Forms)
    numerics: Numerics = field(default_factory=Numerics)
    settings: SessionSettings = field(default_factory=SessionSettings)
    chunk: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether it computes what torch does, rounding of fp32 apart."""
        return self.forms.is_exact and self.numerics.way == "fp32"

    def to_json(self) -> dict[str, Any]:
        """Everything by name."""
        return {
            "forms": self.forms.to_json(),
            "numerics": self.numerics.to_json(),
            "settings": self.settings.to_json(),
            "chunk": self.chunk,
        }
